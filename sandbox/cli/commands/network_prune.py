"""``network prune``: remove the networks that no container has."""

from __future__ import annotations

from .. import output, pruning
from ..containerview import parse_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print their names."""
    options = call.options
    wanted = pruning.Wanted(parse_filters(options.get("filter", ()), ("label", "until")))
    if not options.get("force") and not output.agreed(
        "This will remove all custom networks not used by at least one container."
    ):
        return 0
    pruning.print_deleted("Networks", call.engine.prune_networks(wanted.network))
    return 0
