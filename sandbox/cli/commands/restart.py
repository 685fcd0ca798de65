"""``restart``: stop containers and start them again."""

from __future__ import annotations

from ..output import line
from .stop import patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each."""

    def restart(name: str) -> None:
        call.engine.container(name).restart(patience(call))
        line(name)

    return call.each(restart)
