"""``network disconnect``: take a container off a network."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Do it, now if the container runs."""
    network, container = call.arguments
    force = bool(call.options.get("force"))
    call.engine.network(network).disconnect(container, force=force)
    return 0
