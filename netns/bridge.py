"""Create, configure and remove a bridge.

`ensure` is the one way to make one: a bridge that somebody removed or took an address from is as
it should be afterwards, and its ports stay.
"""

from __future__ import annotations

from errno import EEXIST

from netns import model, settings
from netns.errors import LinkExists, LinkNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.namespace import Namespace
    from netns.netlink import Netlink


def ensure(
    netlink: Netlink,
    namespace: Namespace,
    name: str,
    *,
    addresses: tuple[str, ...],
    mtu: int = 0,
) -> None:
    """Make the bridge ``name`` with these addresses in ``namespace``, or make it so again.

    Its hardware address comes from the first address, so that it is the same after a rebuild
    and neighbours need not learn it anew.  An address of the link alone stays; every other
    address is taken away.
    """
    model.checked_link_name(name)
    mac = model.mac_of(addresses[0]) if addresses else ""
    ipv6 = any(model.is_ipv6(address) for address in addresses)
    try:
        found = netlink.link(name)
    except LinkNotFound:
        try:
            netlink.add_bridge(name, mac=mac, mtu=mtu)
        except LinkExists:  # somebody else ensures it at this moment
            pass
        found = netlink.link(name)
    if found.kind != "bridge":
        message = f"there is a link {name} already, of kind {found.kind or 'device'}"
        raise LinkExists(message, name=name, errno=EEXIST)
    with namespace.entered():
        settings.harden_link(name, ipv6=ipv6)
    if mac and found.mac != mac:
        netlink.change(name, mac=mac)
    if mtu and found.mtu != mtu:
        netlink.change(name, mtu=mtu)
    wanted = {_canonical(address) for address in addresses}
    for address in netlink.addresses(name):
        if address not in wanted and not model.interface(address).is_link_local:
            netlink.remove_address(name, address)
    for address in addresses:
        netlink.add_address(name, address)
    if not found.is_up:
        netlink.change(name, up=True)


def ports(netlink: Netlink, name: str) -> tuple[str, ...]:
    """The names of the links that are ports of the bridge."""
    index = netlink.link(name).index
    return tuple(link.name for link in netlink.links() if link.master == index)


def remove(netlink: Netlink, name: str) -> None:
    """Remove the bridge; one that is not there is nothing to do, another kind of link an error."""
    try:
        found = netlink.link(name)
    except LinkNotFound:
        return
    if found.kind != "bridge":
        message = f"{name} is no bridge but a link of kind {found.kind or 'device'}"
        raise LinkExists(message, name=name, errno=EEXIST)
    netlink.remove(name)


def _canonical(address: str) -> str:
    return str(model.interface(address))
