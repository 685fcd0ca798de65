"""An event as ``events`` shows it: docker's line, and docker's fields."""

from __future__ import annotations

from ..engine.events import SCOPE
from . import times
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.events import Event


def line(event: Event) -> str:
    """``TIME TYPE ACTION ID (KEY=VALUE, ...)``."""
    start = f"{times.log_time(event.time_ns)} {event.type} {event.action} {event.id}"
    pairs = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes))
    return f"{start} ({pairs})" if pairs else start


class _Attributes(dict[str, object]):
    """A map of texts, of which a template may name one that is not there."""

    def __missing__(self, key: str) -> object:
        return None


class EventView(View):
    """The message of docker's API."""

    type_name = "*events.Message"
    names = ("Status", "ID", "From", "Type", "Action", "Actor", "Scope", "Time", "TimeNano")

    def __init__(self, event: Event) -> None:
        self._event = event

    def field(self, name: str) -> object:
        """Docker's field of this name; the first three are those of older clients."""
        event = self._event
        is_old = event.type in ("container", "image")
        if name == "Status":
            return event.action if is_old else ""
        if name == "ID":
            return event.id if is_old else ""
        if name == "From":
            return event.attribute("image") if event.type == "container" else ""
        if name == "Type":
            return event.type
        if name == "Action":
            return event.action
        if name == "Actor":
            return {"ID": event.id, "Attributes": _Attributes(sorted(event.attributes))}
        if name == "Scope":
            return SCOPE
        if name == "Time":
            return event.time_ns // 1_000_000_000
        if name == "TimeNano":
            return event.time_ns
        raise KeyError(name)

    def document(self) -> dict[str, object]:
        """The message as it is in JSON: in docker's order, without what is empty."""
        keys = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope"}
        keys |= {"Time": "time", "TimeNano": "timeNano"}
        fields = ((keys.get(name, name), self.field(name)) for name in self.names)
        return {key: value for key, value in fields if value != ""}
