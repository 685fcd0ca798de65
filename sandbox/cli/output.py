"""What is printed: text to the descriptors, tables, sizes, strings and JSON as docker has them."""

from __future__ import annotations

import os
import time

from .. import jsontext
from .errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ELLIPSIS = "…"
_NAMES = {1: "/dev/stdout", 2: "/dev/stderr"}


def write(text: str, *, fd: int = 1) -> None:
    """Print to stdout (or ``fd``) as UTF-8, whatever the locale says; all of it, at once."""
    write_bytes(text.encode("utf-8", "surrogateescape"), fd=fd)


def write_bytes(data: bytes, *, fd: int = 1) -> None:
    """Print bytes as they are."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Somebody made the terminal non-blocking.
            time.sleep(0.002)
        except BrokenPipeError:
            raise
        except OSError as error:
            name = _NAMES.get(fd, "the file")
            raise Failure(f"write {name}: {(error.strerror or '').lower()}") from error


def line(text: str) -> None:
    """Print a line to stdout."""
    write(text + "\n")


def error(text: str) -> None:
    """Print a line to stderr."""
    write(text + "\n", fd=2)


def agreed(warning: str) -> bool:
    """Ask on stdin whether to go on, in docker's words; no answer is a no."""
    write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False


def table(rows: Sequence[Sequence[str]], *, narrowest: int = 10) -> str:
    """Columns at least ten wide, three blanks apart; the last one is not padded."""
    if len({len(row) for row in rows}) == 1:
        columns = list(zip(*rows, strict=True))[:-1]
        sizes = [max(narrowest, max(map(len, column)) + 3) for column in columns]
        form = "".join([f"{{:<{size}}}" for size in sizes]) + "{}\n"
        return "".join([form.format(*row) for row in rows])
    # A template may give rows of different lengths.
    widths: list[int] = []
    for row in rows:
        widths += [narrowest] * (len(row) - 1 - len(widths))
        for at, cell in enumerate(row[:-1]):
            if len(cell) + 3 > widths[at]:
                widths[at] = len(cell) + 3
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])]
        lines.append("".join(cells) + row[-1] + "\n")
    return "".join(lines)


def size(count: float, *, digits: int = 3) -> str:
    """Bytes for people, in powers of a thousand: ``1.99MB``."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        text = f"{number:.{digits}g}"
        if "e" not in text and float(text) < 1000:
            return text + unit
        number /= 1000
    return f"{number:.{digits}g}EB"


def binary_size(count: float) -> str:
    """Bytes for people, in powers of 1024: ``23.54GiB``."""
    number = float(count)
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:.4g}{units[0]}"


def ellipsis(text: str, width: int) -> str:
    """Cut to ``width`` characters, the last of which says so."""
    return text if len(text) <= width else text[: width - 1] + ELLIPSIS


def quote(text: str) -> str:
    """A string as Go's ``%q`` writes it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'  # as lists of many containers are
    made = []
    for character in text:
        if character in '"\\':
            made.append("\\" + character)
        elif character in _ESCAPES:
            made.append(_ESCAPES[character])
        elif character.isprintable():
            made.append(character)
        elif ord(character) < 0x80:
            made.append(f"\\x{ord(character):02x}")
        elif ord(character) < 0x10000:
            made.append(f"\\u{ord(character):04x}")
        else:
            made.append(f"\\U{ord(character):08x}")
    return f'"{"".join(made)}"'


def json(value: object, *, indent: str = "") -> str:
    """JSON as Go writes it: UTF-8 as it is, and ``<``, ``>``, ``&`` escaped."""
    text = jsontext.encode(value, indent=indent).decode()
    return _utf8(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def _utf8(text: str) -> str:
    # The encoder writes ASCII; Go leaves what is not ASCII alone.
    if "\\u" not in text:
        return text
    made, at = [], 0
    while (found := text.find("\\", at)) >= 0:
        made.append(text[at:found])
        length, character = _escape_at(text, found)
        made.append(character)
        at = found + length
    return "".join(made) + text[at:]


def _escape_at(text: str, at: int) -> tuple[int, str]:
    if text[at + 1] != "u":
        return 2, text[at : at + 2]
    code = int(text[at + 2 : at + 6], 16)
    if 0xD800 <= code < 0xDC00 and text[at + 6 : at + 8] == "\\u":
        low = int(text[at + 8 : at + 12], 16)
        if 0xDC00 <= low < 0xE000:
            return 12, chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00)
    if code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in (0x2028, 0x2029):
        return 6, text[at : at + 6]
    return 6, chr(code)
