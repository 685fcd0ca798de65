"""``logs``: what a container printed."""

from __future__ import annotations

from .. import output, times
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.container import Container
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
    details = _details(container) if options.get("details") else b""
    is_within: dict[str, bool] = {}
    for entry in entries:
        data = entry.text
        if not is_within.get(entry.stream):
            data = details + data
            if options.get("timestamps"):
                data = f"{times.log_time(entry.time_ns)} ".encode() + data
        is_within[entry.stream] = entry.partial
        output.write_bytes(data, fd=2 if entry.stream == "stderr" else 1)
    return 0


def _details(container: Container) -> bytes:
    """What stands before each line; docker's blank alone, if there is nothing."""
    from urllib.parse import quote_plus

    pairs = (f"{quote_plus(name)}={quote_plus(value)}" for name, value in container.log_details())
    return f"{','.join(pairs)} ".encode()


def _tail(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _moment(name: str, text: str) -> int | None:
    try:
        return times.moment(text) if text else None
    except ValueError:
        raise Failure(
            f'invalid value for "{name}": failed to parse value as time or duration: "{text}"'
        ) from None
