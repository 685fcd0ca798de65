"""``image prune``: remove images that nothing uses."""

from __future__ import annotations

from .. import output, times
from ..containerview import has_label, parse_filters
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.inspect import Image
    from ..main import Call


def run(call: Call) -> int:
    """Print what was untagged and deleted, and how much room it took."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), ("dangling", "label", "until"))
    try:
        until_ns = [times.moment(text) for text in filters.get("until", ())]
    except ValueError:
        raise Failure(f"invalid value for until: {filters['until']}") from None
    unused = bool(options.get("all")) or "false" in filters.get("dangling", ())

    def is_wanted(image: Image) -> bool:
        labels = dict(image.config.labels)
        return all(has_label(labels, value) for value in filters.get("label", ())) and all(
            times.parse_timestamp(image.created) < moment for moment in until_ns
        )

    what = (
        "all images without at least one container associated to them"
        if unused
        else "all dangling images"
    )
    if not options.get("force") and not output.agreed(f"This will remove {what}."):
        return 0
    untagged, deleted, freed = call.engine.prune_images(is_wanted, unused=unused)
    if untagged or deleted:
        lines = [f"untagged: {each}" for each in untagged] + [
            f"deleted: {each}" for each in deleted
        ]
        output.write("Deleted Images:\n" + "".join(f"{line}\n" for line in lines) + "\n")
    output.line(f"Total reclaimed space: {output.size(freed, digits=4)}")
    return 0
