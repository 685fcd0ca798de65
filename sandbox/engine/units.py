"""Sizes and durations as people write them.

docker's units: ``b k m g t p`` (and ``kb``, ``kib``, ...), all binary.
"""

from __future__ import annotations

_SIZES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: str | int | float) -> int:
    """Bytes: ``64m``, ``1.5g``, ``4096``.  Raises `ValueError` with docker's sentence."""
    if isinstance(value, (int, float)):
        if not 0 <= value <= 1 << 62:
            raise ValueError(f"invalid size: '{value}'")
        return int(value)
    text = value.strip().lower()
    number = text.rstrip("bikmgtp")
    unit = text[len(number) :]
    if unit.endswith("ib"):
        unit = unit[:-2]
    elif len(unit) == 2 and unit.endswith("b"):
        unit = unit[:-1]
    try:
        if unit not in _SIZES or not number or number[-1] in " \t_":
            raise ValueError
        result = float(number) if "." in number else int(number)
        if result < 0 or result != result or result > (1 << 62) >> (10 * _SIZES[unit]):
            raise ValueError
    except ValueError:
        raise ValueError(f"invalid size: '{value}'") from None
    return int(result * 1024 ** _SIZES[unit])


def parse_duration(value: str | int | float) -> float:
    """Seconds: ``5``, ``1.5``, ``300ms``, ``1m30s``.  Raises `ValueError`."""
    if isinstance(value, (int, float)):
        seconds = float(value)
    else:
        seconds = _parse_duration_text(value)
    if not 0 <= seconds < 1e10:
        raise ValueError(f"invalid duration: '{value}'")
    return seconds


def _parse_duration_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    total, rest = 0.0, text.strip()
    if not rest:
        raise ValueError(f"invalid duration: '{text}'")
    while rest:
        digits = 0
        while digits < len(rest) and (rest[digits].isdigit() or rest[digits] == "."):
            digits += 1
        letters = digits
        while letters < len(rest) and rest[letters].isalpha():
            letters += 1
        try:
            total += float(rest[:digits]) * _SECONDS[rest[digits:letters]]
        except (ValueError, KeyError):
            raise ValueError(f"invalid duration: '{text}'") from None
        rest = rest[letters:]
    return total
