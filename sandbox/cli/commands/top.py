"""``top``: the processes of a container, by the host's ``ps``."""

from __future__ import annotations

from .. import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print docker's table of them."""
    name, *options = call.arguments
    found = call.engine.container(name).top(options)
    output.write(output.table([found.titles, *found.processes], narrowest=20))
    return 0
