"""``volume prune``: remove the volumes that no container has."""

from __future__ import annotations

from .. import output
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
    if not options.get("force") and not _agreed(everything=everything):
        return 0
    removed, freed = call.engine.prune_volumes(all=everything, labels=filters.get("label", ()))
    if removed:
        output.write("Deleted Volumes:\n" + "".join(f"{each}\n" for each in removed) + "\n")
    output.line(f"Total reclaimed space: {output.size(freed, digits=4)}")
    return 0


def _agreed(*, everything: bool) -> bool:
    which = "all local" if everything else "anonymous local"
    output.write(
        f"WARNING! This will remove {which} volumes not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False
