"""``unpause``: let the processes of paused containers go on."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each."""

    def unpause(name: str) -> None:
        call.engine.container(name).unpause()
        line(name)

    return call.each(unpause)
