"""JSON in and out, bounded, without the price of the ``json`` package.

``import json`` pulls in ``re`` and costs as much as the interpreter's start;
the scanner it is built around is ``_json``, which costs next to nothing.  That
module is private, so it is touched here alone, and where it is missing or has
changed the public package takes over: the results are the same (tested).
"""

from __future__ import annotations

from .errors import DamagedDocument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

MAX_BYTES = 8 << 20
MAX_DEPTH = 100

_WHITESPACE = " \t\n\r"


def decode(text: bytes, *, what: str, max_bytes: int = MAX_BYTES) -> Json:
    """Parse one JSON value; ``what`` names it in errors.

    Raises `DamagedDocument` for anything longer than ``max_bytes``, nested
    deeper than `MAX_DEPTH`, not UTF-8, or not JSON (NaN and Infinity are not).
    """
    if len(text) > max_bytes:
        raise DamagedDocument(what=what, problem=f"longer than {max_bytes} bytes")
    if _depth(text) > MAX_DEPTH:
        raise DamagedDocument(what=what, problem=f"nested deeper than {MAX_DEPTH}")
    try:
        value: Json = _scan(text.decode("utf-8"))
    except (ValueError, StopIteration, RecursionError, SystemError) as error:
        # SystemError: the scanner looks for json's exception, and json is not loaded.
        raise DamagedDocument(what=what, problem=f"not JSON ({error})") from error
    return value


def encode(value: object, *, indent: str = "") -> bytes:
    """Write a value made of dict, list, tuple, str, int, float, bool and None.

    Compact unless ``indent`` is given (docker's is four spaces).  Keys keep
    their order.
    """
    parts: list[str] = []
    _write(value, parts.append, indent, "\n" if indent else "")
    return "".join(parts).encode()


def _depth(text: bytes) -> int:
    # An upper bound: brackets inside strings count too.  Only when the bound
    # is passed is the exact count worth taking.
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    inside = escaped = False
    for byte in text:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _strict_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice")
    return made


def _scanner() -> Callable[[str], Any]:
    try:
        from _json import make_scanner

        class Context:
            strict = True
            object_hook = None
            object_pairs_hook = staticmethod(_strict_pairs)
            parse_float = float
            parse_int = int
            parse_constant = staticmethod(_refuse_constant)
            memo: dict[str, str] = {}  # noqa: RUF012 - the C scanner's own shape

        context: Any = Context()
        once = make_scanner(context)
    except (ImportError, AttributeError, TypeError):
        import json

        decoder = json.JSONDecoder(object_pairs_hook=_strict_pairs, parse_constant=_refuse_constant)
        return decoder.decode

    def scan(text: str) -> Any:
        start = 0
        while start < len(text) and text[start] in _WHITESPACE:
            start += 1
        value, end = once(text, start)
        if text[end:].strip(_WHITESPACE):
            raise ValueError(f"more text after the value, at {end}")
        return value

    return scan


def _first_scan(text: str) -> Any:
    # `_json` is a library to be linked: for those who read a document.
    global _scan
    _scan = _scanner()
    return _scan(text)


_scan: Callable[[str], Any] = _first_scan


def _quoter() -> Callable[[str], str]:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    return encode_basestring_ascii


def _first_quote(text: str) -> str:
    global _quote
    _quote = _quoter()
    return _quote(text)


_quote: Callable[[str], str] = _first_quote


def _write(value: object, put: Callable[[str], Any], indent: str, newline: str) -> None:
    if value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, str):
        put(_quote(value))
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{value} is not JSON")
        put(float.__repr__(value))
    elif isinstance(value, dict):
        _write_items(value.items(), put, indent, newline, "{}")
    elif isinstance(value, (list, tuple)):
        _write_items(((None, item) for item in value), put, indent, newline, "[]")
    else:
        raise TypeError(f"{type(value).__name__} is not JSON")


def _write_items(
    items: Any, put: Callable[[str], Any], indent: str, newline: str, brackets: str
) -> None:
    put(brackets[0])
    inner = newline + indent
    first = True
    for key, item in items:
        put(inner if first else "," + inner)
        first = False
        if key is not None:
            if not isinstance(key, str):
                raise TypeError(f"a JSON key is a string, not {type(key).__name__}")
            put(_quote(key) + (": " if indent else ":"))
        _write(item, put, indent, inner)
    if not first:
        put(newline)
    put(brackets[1])
