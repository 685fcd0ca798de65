"""``events``: what happens in this engine, as it happens."""

from __future__ import annotations

from ...engine.events import FILTERS, Event
from .. import listing, output, times
from ..containerview import parse_filters
from ..errors import Failure
from ..eventview import EventView, line

BAD_FORMAT = 64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each, until ``--until`` or for ever."""
    options = call.options
    text = options.get("format", "")
    if text:
        _check(text)
    filters = parse_filters(options.get("filter", ()), FILTERS)
    found = call.engine.events(
        since_ns=_moment(options.get("since", "")),
        until_ns=_moment(options.get("until", "")),
        filters=filters,
        follow=True,
    )
    for event in found:
        if text:
            output.write(listing.formatted([EventView(event)], text, {}))
        else:
            output.line(line(event))
    return 0


def _check(text: str) -> None:
    """Refuse a format before anything happens, in docker's words."""
    try:
        listing.formatted([EventView(Event(time_ns=0, type="", action="", id=""))], text, {})
    except Failure as error:
        said = error.message.removeprefix("failed to parse template: ")
        said = said.removeprefix("failed to execute template: ")
        raise Failure(f"Error parsing format: {said}", code=BAD_FORMAT) from None


def _moment(text: str) -> int | None:
    try:
        return times.moment(text) if text else None
    except ValueError:
        raise Failure(f'failed to parse value as time or duration: "{text}"') from None
