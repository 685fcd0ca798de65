"""A pair of links: one end on a bridge of the host, the other in another namespace.

The inner end is made in its namespace at once, and never seen on the host.  The pair goes when
either end goes, so dropping the namespace is the cheap way to remove it: the kernel does it in the
background, while deleting the link blocks the caller for some 30 ms.

Making a pair is quick and loads nothing (``netns.packed``); removing one goes by `Netlink`.
"""

from __future__ import annotations

from netns import model, settings
from netns.errors import InvalidValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.model import Endpoint
    from netns.namespace import Namespace
    from netns.netlink import Netlink
    from netns.packed import Wire


def create(host: Namespace, bridge: str, endpoint: Endpoint, inside: Namespace) -> None:
    """Make the pair of ``endpoint``, plumb its inner end, and bring both up.

    Loopback comes up too.  When a step fails the pair is removed again.
    """
    _check(endpoint)
    ipv6 = any(model.is_ipv6(address) for address in endpoint.addresses)
    from netns import packed

    with inside.entered():
        settings.harden_new_links(ipv6=ipv6)
        inner = packed.Wire(inside.path)
    with inner, host.entered(), packed.Wire(host.path) as outer:
        master, mtu = outer.look_up(bridge)
        pair = packed.veth(
            endpoint.link,
            peer=endpoint.name,
            peer_namespace=inside.fileno(),
            mac=model.checked_mac(endpoint.mac or model.mac_of(endpoint.addresses[0])),
            mtu=endpoint.mtu or mtu,
        )
        act = f"make veth {endpoint.link} with {endpoint.name} in {inside.path}"
        outer.ask(endpoint.link, act, pair)
        try:
            _join(outer, master, endpoint)
            _plumb(inner, endpoint)
            # A port forwards when the kernel's link watch has seen its other end come up, at
            # its leisure; a question about the link makes it look now (from 6.8 on).  Without
            # that the container's first packets are lost, and the next is tried a second later.
            outer.look_up(endpoint.link)
            outer.look_up(bridge)
        except BaseException:
            from netns.netlink import Netlink  # 200 ms, where something went wrong

            with Netlink.open() as netlink:
                netlink.remove(endpoint.link)
            raise


def remove(host: Netlink, endpoint: Endpoint) -> None:
    """Remove the pair by its outer end; one that is gone is nothing to do."""
    host.remove(endpoint.link)


def _join(outer: Wire, master: int, endpoint: Endpoint) -> None:
    from netns import packed

    # A port of a bridge needs no address, and so no IPv6, of its own.
    settings.harden_link(endpoint.link, ipv6=False)
    index, _ = outer.look_up(endpoint.link)
    act = f"bring up link {endpoint.link}"
    outer.ask(endpoint.link, act, packed.up(index, master=master))
    if endpoint.hairpin:
        act = f"set hairpin mode of {endpoint.link}"
        outer.ask(endpoint.link, act, packed.hairpin(index))


def _plumb(inner: Wire, endpoint: Endpoint) -> None:
    from netns import packed

    name = endpoint.name
    loopback, _ = inner.look_up("lo")
    inner.ask("lo", "bring up link lo", packed.up(loopback))
    index, _ = inner.look_up(name)
    for address in endpoint.addresses:
        inner.ask(name, f"give {name} the address {address}", packed.address(index, address))
    inner.ask(name, f"bring up link {name}", packed.up(index))
    for route in endpoint.routes:
        act = f"add the route to default by {route.gateway}"
        inner.ask(name, act, packed.default_route(index, route.gateway))


def _check(endpoint: Endpoint) -> None:
    model.checked_link_name(endpoint.link)
    model.checked_link_name(endpoint.name)
    if not endpoint.addresses:
        raise InvalidValue("endpoint", endpoint.link, "it has no address")
    for address in endpoint.addresses:
        if "/" not in address:
            raise InvalidValue("address", address, "its prefix is missing")
        model.packed_address(address)
    for route in endpoint.routes:
        if (
            route.destination != "default"
            or not route.gateway
            or route.link not in {"", endpoint.name}
        ):
            reason = "an endpoint has default routes by gateways alone; for others open a Netlink"
            raise InvalidValue("route", route.destination, reason)
        model.packed_address(route.gateway)
