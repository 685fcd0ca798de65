"""``update``: other limits for containers, running or not."""

from __future__ import annotations

from ...engine.updating import parse_limits
from ..errors import Failure
from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each."""
    if not call.options:
        raise Failure("You must provide one or more flags when using this command.")
    parse_limits(call.options)

    def update(name: str) -> None:
        call.engine.container(name).update(**call.options)
        line(name)

    return call.each(update)
