"""``container prune``: remove all containers that do not run."""

from __future__ import annotations

from ...engine.verbs import prune
from .. import output, pruning
from ..containerview import parse_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the ids, and how much room they took."""
    wanted = pruning.Wanted(parse_filters(call.options.get("filter", ()), ("label", "until")))
    if not call.options.get("force") and not output.agreed(
        "This will remove all stopped containers."
    ):
        return 0
    removed, freed = prune(call.engine, wanted.container)
    pruning.print_deleted("Containers", removed)
    pruning.print_freed(freed)
    return 0
