"""``pause``: freeze all processes of containers."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each."""

    def pause(name: str) -> None:
        call.engine.container(name).pause()
        line(name)

    return call.each(pause)
