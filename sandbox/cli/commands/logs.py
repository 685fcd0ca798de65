"""``logs``: what a container printed."""

from __future__ import annotations

import time

from ...errors import UsageError
from .. import output
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print it to the streams it came from."""
    options = call.options
    since_ns = _moment("since", options.get("since", ""))
    until_ns = _moment("until", options.get("until", ""))
    container = call.engine.container(call.arguments[0])
    entries = container.logs(
        follow=bool(options.get("follow")),
        since_ns=since_ns,
        until_ns=until_ns,
        tail=_tail(options.get("tail", "all")),
    )
    is_within: dict[str, bool] = {}
    for entry in entries:
        data = entry.text
        if options.get("timestamps") and not is_within.get(entry.stream):
            data = f"{_stamp(entry.time_ns)} ".encode() + data
        is_within[entry.stream] = entry.partial
        output.write_bytes(data, fd=2 if entry.stream == "stderr" else 1)
    return 0


def _stamp(then_ns: int) -> str:
    seconds, nanoseconds = divmod(then_ns, 1_000_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09d}Z", time.gmtime(seconds))


def _tail(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _moment(name: str, text: str) -> int | None:
    """A time: RFC 3339, seconds since the epoch, or a span before now."""
    if not text:
        return None
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and (not fraction or fraction.isdigit()):
        return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)
    parsed = output.parse_timestamp(text)
    if parsed:
        return parsed
    from ...engine.units import parse_duration

    try:
        return time.time_ns() - int(parse_duration(text) * 1e9)
    except (ValueError, UsageError):
        raise Failure(
            f'invalid value for "{name}": failed to parse value as time or duration: "{text}"'
        ) from None
