"""What pull and push print: docker's lines, or on a terminal one row for each layer, redrawn."""

from __future__ import annotations

import os
import time
from threading import Lock

from ..oci import reference
from . import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call

# Told some ten times a second: only for rows that are redrawn.
_MOVING = ("Downloading", "Pushing")
_INTERVAL_S = 0.1
BAR = 50


class Rows:
    """Call it with whose, status, done and total, from any thread."""

    def __init__(self, *, fd: int = 1, quiet: bool = False) -> None:
        self._fd = fd
        self._is_quiet = quiet
        self._is_redrawn = os.isatty(fd)
        self._has_width = self._is_redrawn and os.get_terminal_size(fd).columns > 1
        self._rows: dict[str, int] = {}
        self._next: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, whose: str, status: str, done: int, total: int) -> None:
        """Print it, or redraw its row."""
        if self._is_quiet:
            return
        is_moving = status in _MOVING
        with self._lock:
            if not self._is_redrawn:
                if not is_moving:
                    self._write(f"{whose}: {status}\n")
                return
            now = time.monotonic()
            if is_moving and now < self._next.get(whose, 0.0):
                return
            self._next[whose] = now + _INTERVAL_S
            text = f"{whose}: {status}"
            if is_moving:
                text += f" {bar(done, total)}  {output.size(done)}/{output.size(total)}"
            # A row that went on in the next line could not be redrawn.
            text = text[: os.get_terminal_size(self._fd).columns - 1] if self._has_width else text
            row = self._rows.get(whose)
            if row is None:
                self._rows[whose] = len(self._rows)
                self._write(f"{text}\n")
            else:
                up = len(self._rows) - row
                self._write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")

    def _write(self, text: str) -> None:
        output.write(text, fd=self._fd)


def bar(done: int, total: int) -> str:
    """How far it is, as docker draws it."""
    filled = min(BAR, BAR * done // total) if total else BAR
    return f"[{'=' * filled}>{' ' * (BAR - filled)}]"


def default_tag(text: str) -> bool:
    """Whether the name leaves its tag out."""
    parsed = reference.parse(text)
    is_said = text.endswith(f":{reference.DEFAULT_TAG}")
    return parsed.tag == reference.DEFAULT_TAG and not parsed.digest and not is_said


def pull(call: Call, name: str, *, fd: int = 1, quiet: bool = False) -> None:
    """Pull one image and say so, but for the last line."""
    rows = Rows(fd=fd, quiet=quiet)
    pulled = call.engine.pull(name, platform=call.options.get("platform"), progress=rows)
    if not quiet:
        status = "Downloaded newer image for" if pulled.is_new else "Image is up to date for"
        output.write(f"Digest: {pulled.digest}\nStatus: {status} {pulled.name}\n", fd=fd)


def pull_for_run(call: Call, name: str, *, is_missing: bool) -> None:
    """Pull the image of a new container; everything goes to stderr."""
    quiet = bool(call.options.get("quiet"))
    if is_missing and not quiet:
        output.error(f"Unable to find image '{reference.parse(name).familiar}' locally")
    pull(call, name, fd=2, quiet=quiet)
