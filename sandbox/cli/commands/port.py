"""``port``: the published ports of a container, of which there are none yet."""

from __future__ import annotations

from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print nothing for the whole list; one port that is asked for is missing."""
    name, *wanted = call.arguments
    call.engine.container(name)
    if wanted:
        raise Failure(f"Error: No public port '{wanted[0]}' published for {name}")
    return 0
