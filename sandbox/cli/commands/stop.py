"""``stop``: ask containers to end, and make them after a while."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each; one that does not run is no error."""

    def stop(name: str) -> None:
        call.engine.container(name).stop(patience(call))
        line(name)

    return call.each(stop, call.names(running=True))


def patience(call: Call) -> float | None:
    """How long to wait, in seconds, if that was said; negative is for ever."""
    timeout = call.options.get("timeout", call.options.get("time"))
    return None if timeout is None else float(timeout) if timeout >= 0 else 1e9
