"""``network rm``: remove networks."""

from __future__ import annotations

from ...errors import NetworkNotFound
from .. import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print each that is gone as it was named; with ``-f`` a missing one is no failure."""
    force = bool(call.options.get("force"))

    def remove(name: str) -> None:
        try:
            call.engine.remove_network(name)
        except NetworkNotFound:
            if not force:
                raise
            return
        output.line(name)

    return call.each(remove)
