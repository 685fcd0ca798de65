"""``images``: list images."""

from __future__ import annotations

from .. import imageview, listing, output
from ..containerview import parse_filters
from ..output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each name of each image, the newest image first."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), imageview.FILTERS)
    found = imageview.select(call.engine, call.engine.images(), filters)
    for problem in call.engine.store.problems:
        output.error(f"warning: {problem.message}")
    digests = bool(options.get("digests"))
    text = options.get("format", "table")
    views = imageview.rows(
        found,
        patterns=[*call.arguments, *filters.get("reference", ())],
        truncated=not options.get("no_trunc"),
        digests=digests or ".Digest" in text,
    )
    if options.get("quiet"):
        write("".join(f"{view.field('ID')}\n" for view in views))
    else:
        columns = imageview.DIGEST_COLUMNS if digests else imageview.COLUMNS
        write(listing.shown(views, text, columns, imageview.HEADINGS))
    return 0
