"""A pair of links: one end on a bridge of the host, the other in another namespace.

The inner end is made in its namespace at once, and never seen on the host.  The pair goes when
either end goes, so dropping the namespace is the cheap way to remove it: the kernel does it in the
background, while deleting the link blocks the caller for some 30 ms.

Making a pair is quick and loads nothing (``netns.packed``); removing one goes by `Netlink`.
"""

from __future__ import annotations

from netns import model, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns.model import Endpoint
    from netns.namespace import Namespace
    from netns.netlink import Netlink
    from netns.packed import Wire


def create(host: Namespace, bridge: str, endpoint: Endpoint, inside: Namespace) -> None:
    """Make the pair of ``endpoint``, plumb its inner end, and bring both up.

    Loopback comes up too.  When a step fails the pair is removed again.
    """
    from netns import packed

    packed.check(endpoint)
    ipv6 = any(model.is_ipv6(address) for address in endpoint.addresses)
    with inside.entered():
        settings.harden_new_links(ipv6=ipv6)
        inner = packed.Wire(inside.path)
    with inner, host.entered(), packed.Wire(host.path) as outer:
        master, mtu = outer.look_up(bridge)
        (act, pair), *rest = packed.make(endpoint, master, namespace=inside.fileno(), mtu=mtu)
        outer.ask(endpoint.link, f"{act} in {inside.path}", pair)
        try:
            # A port of a bridge needs no address, and so no IPv6, of its own.
            settings.harden_link(endpoint.link, ipv6=False)
            _ask(outer, endpoint.link, rest)
            inner.ask("lo", "bring up link lo", packed.up("lo"))
            index, _ = inner.look_up(endpoint.name)
            _ask(inner, endpoint.name, packed.plumb(endpoint, index))
            _ask(outer, endpoint.link, packed.settle(endpoint, bridge))
        except BaseException:
            from netns.netlink import Netlink  # 200 ms, where something went wrong

            with Netlink.open() as netlink:
                netlink.remove(endpoint.link)
            raise


def remove(host: Netlink, endpoint: Endpoint) -> None:
    """Remove the pair by its outer end; one that is gone is nothing to do."""
    host.remove(endpoint.link)


def _ask(wire: Wire, link: str, messages: Iterable[tuple[str, bytes]]) -> None:
    for act, message in messages:
        wire.ask(link, act, message)
