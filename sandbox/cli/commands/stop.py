"""``stop``: ask containers to end, and make them after a while."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.container import Container
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each; one that does not run is no error."""

    def stop(name: str) -> None:
        stop_container(call, call.engine.container(name))
        line(name)

    return call.each(stop)


def stop_container(call: Call, container: Container) -> None:
    """Stop with the signal and the patience that were asked for; negative is for ever."""
    options = call.options
    timeout = options.get("timeout", options.get("time"))
    patience = None if timeout is None else float(timeout) if timeout >= 0 else 1e9
    container.stop(patience)
