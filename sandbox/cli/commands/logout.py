"""``logout``: forget the login of a registry."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Say what was removed."""
    from ...engine.registries import domain_of, logout

    server = call.arguments[0] if call.arguments else ""
    shown = domain_of(server)
    if logout(call.engine, server):
        line(f"Removing login credentials for {shown}")
    else:
        line(f"Not logged in to {shown}")
    return 0
