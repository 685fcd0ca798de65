"""``kill``: send a signal to containers."""

from __future__ import annotations

from ...errors import ContainerNotFound
from ..errors import Failure
from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each that got it."""

    def kill(name: str) -> None:
        try:
            container = call.engine.container(name)
        except ContainerNotFound as error:
            raise Failure(f"Cannot kill container: {name}: {error.message}") from None
        container.kill(call.options.get("signal") or "KILL")
        line(name)

    return call.each(kill, call.names(running=True))
