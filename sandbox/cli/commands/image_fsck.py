"""``image fsck``: verify what the store holds."""

from __future__ import annotations

from ..errors import FAILURE, Failure
from ..output import json, line
from ..progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print what is wrong, and how much was verified; 1 if anything is wrong."""
    form = call.options.get("format", "table")
    if form not in ("table", "json"):
        raise Failure(f"unknown format: {form!r} (table or json)")
    with Progress(unit="blobs") as progress:
        found = call.engine.check_images(call.arguments, progress=progress)
    if form == "json":
        line(
            json(
                {
                    "Images": found.images,
                    "Blobs": found.blobs,
                    "Layers": found.layers,
                    "Problems": [
                        {"What": each.what, "Problem": each.problem, "Images": list(each.images)}
                        for each in found.problems
                    ],
                }
            )
        )
    else:
        for each in found.problems:
            line(f"{each.what}: {each.problem}")
        line(
            f"{found.images} images, {found.blobs} blobs and {found.layers} layers verified: "
            f"{len(found.problems) or 'no'} problem{'' if len(found.problems) == 1 else 's'}"
        )
    return FAILURE if found.problems else 0
