"""``volume rm``: remove volumes."""

from __future__ import annotations

from .. import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each that is gone; with ``-f`` a missing one is no failure."""
    force = bool(call.options.get("force"))

    def remove(name: str) -> None:
        call.engine.remove_volume(name, force=force)
        output.line(name)

    return call.each(remove)
