"""One link at a time: loopback up, move, rename, MTU, hardware address.

Each is a transaction of its own on an open `Netlink`, and names what it changes.
"""

from __future__ import annotations

from netns import model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.namespace import Namespace
    from netns.netlink import Netlink

LOOPBACK = "lo"


def loopback_up(netlink: Netlink) -> None:
    """Bring loopback up, with 127.0.0.1 and ::1, in the namespace of ``netlink``."""
    netlink.change(LOOPBACK, up=True)


def up(netlink: Netlink, name: str) -> None:
    """Bring a link up."""
    netlink.change(name, up=True)


def down(netlink: Netlink, name: str) -> None:
    """Take a link down; its routes are lost."""
    netlink.change(name, up=False)


def rename(netlink: Netlink, name: str, to: str) -> None:
    """Rename a link, which must be down on kernels before 6.2."""
    netlink.change(name, rename=model.checked_link_name(to))


def set_mtu(netlink: Netlink, name: str, mtu: int) -> None:
    """Change the largest packet of a link."""
    netlink.change(name, mtu=mtu)


def set_mac(netlink: Netlink, name: str, mac: str) -> None:
    """Change the hardware address of a link."""
    netlink.change(name, mac=model.checked_mac(mac))


def move(netlink: Netlink, name: str, namespace: Namespace) -> None:
    """Move a link into another namespace; it arrives down and without addresses."""
    netlink.change(name, namespace=namespace)
