"""``image prune``: remove images that nothing uses."""

from __future__ import annotations

from .. import output, pruning
from ..containerview import parse_filters
from ..imageview import claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print what was untagged and deleted, and how much room it took."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), ("dangling", "label", "until"))
    wanted = pruning.Wanted(filters)
    dangling = [claim("dangling", text) for text in filters.get("dangling", ())]
    unused = bool(options.get("all")) or False in dangling
    what = (
        "all images without at least one container associated to them"
        if unused
        else "all dangling images"
    )
    if not options.get("force") and not output.agreed(f"This will remove {what}."):
        return 0
    untagged, deleted, freed = call.engine.prune_images(wanted.image, unused=unused)
    pruning.print_deleted("Images", pruning.image_lines(untagged, deleted))
    pruning.print_freed(freed)
    return 0
