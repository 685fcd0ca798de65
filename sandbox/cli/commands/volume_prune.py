"""``volume prune``: remove the volumes that no container has."""

from __future__ import annotations

from .. import output, pruning
from ..containerview import parse_filters
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the names, and how much room they took."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), ("all", "label"))
    everything = bool(options.get("all"))
    for text in filters.get("all", ()):
        if everything:
            raise Failure("conflicting options: cannot specify both --all and --filter all=1")
        everything = text.lower() in ("true", "1", "t")
    which = "all local" if everything else "anonymous local"
    if not options.get("force") and not output.agreed(
        f"This will remove {which} volumes not used by at least one container."
    ):
        return 0
    removed, freed = call.engine.prune_volumes(all=everything, labels=filters.get("label", ()))
    pruning.print_deleted("Volumes", removed)
    pruning.print_freed(freed)
    return 0
