"""``rmi``: take names from images, and remove those that have no more."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print what was taken and what was removed."""

    def remove(name: str) -> None:
        untagged, deleted = call.engine.remove_image(name, force=bool(call.options.get("force")))
        for each in untagged:
            line(f"Untagged: {each}")
        if deleted:
            line(f"Deleted: {deleted}")

    return call.each(remove)
