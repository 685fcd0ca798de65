"""``container prune``: remove all containers that do not run."""

from __future__ import annotations

from ...engine.verbs import prune
from .. import output, times
from ..containerview import has_label, parse_filters
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.container import Container
    from ..main import Call


def run(call: Call) -> int:
    """Print the ids, and how much room they took."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), ("label", "until"))
    try:
        until_ns = [times.moment(text) for text in filters.get("until", ())]
    except ValueError:
        raise Failure(f"invalid value for until: {filters['until']}") from None

    def is_wanted(container: Container) -> bool:
        labels = dict(container.labels)
        return all(has_label(labels, value) for value in filters.get("label", ())) and all(
            container.created_ns < moment for moment in until_ns
        )

    if not options.get("force") and not output.agreed("This will remove all stopped containers."):
        return 0
    removed, freed = prune(call.engine, is_wanted)
    if removed:
        output.write("Deleted Containers:\n" + "".join(f"{each}\n" for each in removed) + "\n")
    output.line(f"Total reclaimed space: {output.size(freed, digits=4)}")
    return 0
