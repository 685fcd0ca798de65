"""Ages and moments, in docker's words, without the price of ``datetime``."""

from __future__ import annotations

import time

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_NS = 1_000_000_000


def duration(seconds: float) -> str:
    """Docker's words for a span of time."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return _count(whole, "second")
    minutes = whole // _MINUTE
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for days, unit, bound in ((1, "days", 14), (7, "weeks", 60), (30, "months", 730)):
        if hours < 24 * bound:
            return f"{hours // 24 // days} {unit}"
    return f"{int(seconds / _HOUR) // 24 // 365} years"


def ago(then_ns: int, now_ns: int | None = None) -> str:
    """``3 seconds ago``."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    return f"{duration(max(0, now_ns - then_ns) / 1e9)} ago"


def local_time(then_ns: int) -> str:
    """``2026-11-23 07:07:18 +0000 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(then_ns // _NS))


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; 0 when it is none."""
    date, _, clock = text.strip().replace(" ", "T", 1).partition("T")
    offset_s = 0
    clock = clock.removesuffix("Z").removesuffix("z")
    for sign in "+-":
        if sign in clock:
            clock, _, zone = clock.partition(sign)
            hours, _, minutes = zone.partition(":")
            if not hours.isdigit() or not (minutes or "0").isdigit():
                return 0
            offset_s = (int(hours) * _HOUR + int(minutes or 0) * _MINUTE) * (
                1 if sign == "+" else -1
            )
    clock, _, fraction = clock.partition(".")
    numbers = [*date.split("-"), *(clock.split(":") if clock else ())]
    if len(date.split("-")) != 3 or not all(part.isdigit() for part in numbers):
        return 0
    if fraction and not fraction.isdigit():
        return 0
    year, month, day, *rest = [int(part) for part in numbers]
    hour, minute, second = (*rest, 0, 0, 0)[:3]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return 0
    days = _days_from_epoch(year, month, day)
    total = days * _DAY + hour * _HOUR + minute * _MINUTE + second - offset_s
    return total * _NS + int(fraction[:9].ljust(9, "0") or 0)


def log_time(then_ns: int) -> str:
    """RFC 3339 in UTC with all nine digits, as ``logs -t`` has it."""
    seconds, nanoseconds = divmod(then_ns, _NS)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09d}Z", time.gmtime(seconds))


def moment(text: str) -> int:
    """A time: RFC 3339, seconds since the epoch, or a span before now.  Raises `ValueError`."""
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and (not fraction or fraction.isdigit()):
        return int(whole) * _NS + int(fraction[:9].ljust(9, "0") or 0)
    parsed = parse_timestamp(text)
    if parsed:
        return parsed
    from ..engine.units import parse_duration

    return time.time_ns() - int(parse_duration(text) * _NS)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _days_from_epoch(year: int, month: int, day: int) -> int:
    # The civil calendar, counted from March so that the leap day comes last.
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
