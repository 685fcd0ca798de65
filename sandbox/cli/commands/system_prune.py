"""``system prune``: remove what nothing uses."""

from __future__ import annotations

from ...engine.verbs import prune
from .. import output, pruning
from ..containerview import parse_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print what was removed, and how much room it took."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), ("label", "until"))
    wanted = pruning.Wanted(filters)
    unused, volumes = bool(options.get("all")), bool(options.get("volumes"))
    if not options.get("force") and not output.agreed(_warning(unused=unused, volumes=volumes)):
        return 0
    removed, freed = prune(call.engine, wanted.container)
    pruning.print_deleted("Containers", removed)
    pruning.print_deleted("Networks", call.engine.prune_networks(wanted.network))
    if volumes:
        names, more = call.engine.prune_volumes(labels=filters.get("label", ()))
        pruning.print_deleted("Volumes", names)
        freed += more
    untagged, deleted, more = call.engine.prune_images(wanted.image, unused=unused)
    pruning.print_deleted("Images", pruning.image_lines(untagged, deleted))
    pruning.print_freed(freed + more)
    return 0


def _warning(*, unused: bool, volumes: bool) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        lines.append("all anonymous volumes not used by at least one container")
    lines.append(
        "all images without at least one container associated to them"
        if unused
        else "all dangling images"
    )
    return "This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
