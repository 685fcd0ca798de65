"""``volume ls``: list volumes."""

from __future__ import annotations

from .. import listing, output, volumeview
from ..containerview import parse_filters
from ..output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each volume, by name."""
    options = call.options
    filters = parse_filters(options.get("filter", ()), volumeview.FILTERS)
    found, problems = volumeview.select(call.engine, filters)
    for problem in problems:
        output.error(f"warning: {problem.message}")
    views = [volumeview.VolumeView(volume) for volume in found]
    text = options.get("format", "table")
    if options.get("quiet"):
        write("".join(f"{volume.name}\n" for volume in found))
    else:
        write(listing.shown(views, text, volumeview.COLUMNS, volumeview.HEADINGS))
    return 0
