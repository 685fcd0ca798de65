"""``network connect``: join a container to a network."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Do it, now if the container runs."""
    from ...engine.options import parse_some

    network, container = call.arguments
    asked = {name: call.options.get(name) for name in ("ip", "ip6", "mac_address")}
    checked = parse_some(asked, asked)
    call.engine.network(network).connect(
        container,
        ip=checked.get("ip", ""),
        ip6=checked.get("ip6", ""),
        mac_address=checked.get("mac_address", ""),
        aliases=call.options.get("alias", ()),
    )
    return 0
