"""``network create``: make a network."""

from __future__ import annotations

from .. import output, pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print its id."""
    options = call.options
    asked = pairs.parse(options.get("opt", ()))
    if options.get("mtu"):
        asked["com.docker.network.driver.mtu"] = str(options["mtu"])
    network = call.engine.create_network(
        call.arguments[0],
        driver=options.get("driver") or "bridge",
        subnets=options.get("subnet", ()),
        gateways=options.get("gateway", ()),
        ip_ranges=options.get("ip_range", ()),
        internal=bool(options.get("internal")),
        ipv6=bool(options.get("ipv6")),
        labels=pairs.parse(options.get("label", ())),
        options=asked,
    )
    output.line(network.id)
    return 0
