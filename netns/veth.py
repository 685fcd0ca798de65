"""A pair of links: one end on a bridge of the host, the other in another namespace.

The inner end is made in its namespace at once, and never seen on the host.  The pair goes when
either end goes, so dropping the namespace is the cheap way to remove it: the kernel does it in the
background, while deleting the link blocks the caller for some 30 ms.
"""

from __future__ import annotations

from netns import model, settings
from netns.errors import InvalidValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.model import Endpoint
    from netns.namespace import Namespace
    from netns.netlink import Netlink


def create(
    host: Netlink, host_namespace: Namespace, bridge: str, endpoint: Endpoint, inside: Namespace
) -> None:
    """Make the pair of ``endpoint``, plumb its inner end, and bring both up.

    Loopback comes up too.  When a step fails the pair is removed again.
    """
    from netns.netlink import Netlink

    model.checked_link_name(endpoint.link)
    model.checked_link_name(endpoint.name)
    if not endpoint.addresses:
        raise InvalidValue("endpoint", endpoint.link, "it has no address")
    mac = endpoint.mac or model.mac_of(endpoint.addresses[0])
    ipv6 = any(model.is_ipv6(address) for address in endpoint.addresses)
    with inside.entered():
        settings.harden_new_links(ipv6=ipv6)
    mtu = endpoint.mtu or host.link(bridge).mtu
    host.add_veth(
        endpoint.link,
        peer=endpoint.name,
        peer_namespace=inside,
        mac=model.checked_mac(mac),
        mtu=mtu,
    )
    try:
        # A port of a bridge needs no address, and so no IPv6, of its own.
        with host_namespace.entered():
            settings.harden_link(endpoint.link, ipv6=False)
        host.change(endpoint.link, up=True, master=bridge)
        if endpoint.hairpin:
            host.set_hairpin(endpoint.link)
        with Netlink.open(inside) as inner:
            plumb(inner, endpoint)
        # A port forwards when the kernel's link watch has seen its other end come up, at its
        # leisure; a question about the link makes it look now (from 6.8 on).  Without that the
        # container's first packets are lost, and the next one is tried a second later.
        host.link(endpoint.link)
        host.link(bridge)
    except BaseException:
        host.remove(endpoint.link)
        raise


def plumb(inner: Netlink, endpoint: Endpoint) -> None:
    """Loopback up, addresses, link up, routes: in the namespace of ``inner``."""
    inner.change("lo", up=True)
    for address in endpoint.addresses:
        inner.add_address(endpoint.name, address)
    inner.change(endpoint.name, up=True)
    for route in endpoint.routes:
        inner.add_route(route)


def remove(host: Netlink, endpoint: Endpoint) -> None:
    """Remove the pair by its outer end; one that is gone is nothing to do."""
    host.remove(endpoint.link)
