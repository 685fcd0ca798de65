"""``network ls``: list networks."""

from __future__ import annotations

from .. import listing, networkview, output
from ..containerview import parse_filters
from ..output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each network, by name."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), networkview.FILTERS)
    found, problems = networkview.select(call.engine, filters)
    for problem in problems:
        output.error(f"warning: {problem.message}")
    is_short = not options.get("no_trunc")
    views = [networkview.NetworkView(network, is_short=is_short) for network in found]
    text = options.get("format", "table")
    if options.get("quiet"):
        write("".join(f"{view.field('ID')}\n" for view in views))
    else:
        write(listing.shown(views, text, networkview.COLUMNS, networkview.HEADINGS))
    return 0
