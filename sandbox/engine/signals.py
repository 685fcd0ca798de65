"""Signal numbers, as people write them."""

from __future__ import annotations

from ..errors import UsageError
from ..monitor.exitrecord import SIGNALS

_NUMBERS = {name: number for number, name in enumerate(SIGNALS, 1)}
_REAL_TIME_FIRST, _REAL_TIME_LAST = 34, 64


def signal_number(signal: str | int) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``15`` or ``RTMIN+3``; else docker's words."""
    text = str(signal).upper().removeprefix("SIG")
    if text.isdigit() and 1 <= int(text) <= _REAL_TIME_LAST:
        return int(text)
    if text in _NUMBERS:
        return _NUMBERS[text]
    base, sign, offset = text.partition("+" if "+" in text else "-")
    if base in ("RTMIN", "RTMAX") and (offset.isdigit() or not sign):
        start = _REAL_TIME_FIRST if base == "RTMIN" else _REAL_TIME_LAST
        number = start + (int(offset or 0) if sign != "-" else -int(offset))
        if _REAL_TIME_FIRST <= number <= _REAL_TIME_LAST:
            return number
    raise UsageError(f"Invalid signal: {signal}")
