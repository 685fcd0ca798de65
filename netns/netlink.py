"""The door to pyroute2: a typed face for links, addresses and routes.

pyroute2 has no types and costs some 200 ms to import, so it is loaded by the first `Netlink`
that is opened, and nothing of it leaves this file.  A `Netlink` is one rtnetlink socket; it
belongs to the namespace that it was opened in, wherever the thread goes afterwards.
"""

from __future__ import annotations

from errno import EEXIST, EINVAL, ENODEV, ENOENT, ESRCH

from netns import model
from netns.errors import InvalidValue, LinkError, LinkExists, LinkNotFound, LinkRefused
from netns.model import Link, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from netns.namespace import Namespace

IFA_F_NODAD = 0x02
_MAIN_TABLE = 254
_UNICAST = 1
_AF_INET, _AF_INET6 = 2, 10


class Netlink:
    """One rtnetlink socket in one network namespace."""

    def __init__(self, socket: Any, where: str) -> None:
        """Keep the socket; use `open`."""
        self._socket = socket
        self._where = where

    @classmethod
    def open(cls, namespace: Namespace | None = None) -> Netlink:
        """Speak to the kernel about a namespace; without one, about that of the thread."""
        import pyroute2  # 200 ms

        if namespace is None:
            return cls(pyroute2.IPRoute(), "")
        with namespace.entered():
            return cls(pyroute2.IPRoute(), f" in {namespace.path}")

    def links(self) -> tuple[Link, ...]:
        """Every link of the namespace."""
        return tuple(_link(message) for message in self._ask("", "list links", "get_links"))

    def link(self, name: str) -> Link:
        """The link of that name, or `LinkNotFound`."""
        answer = self._ask(name, f"look up link {name}", "link", "get", ifname=name)
        return _link(answer[0])

    def has_link(self, name: str) -> bool:
        """Whether there is a link of that name."""
        try:
            self.link(name)
        except LinkNotFound:
            return False
        return True

    def add_bridge(self, name: str, *, mac: str = "", mtu: int = 0) -> None:
        """Make a bridge without spanning tree; an address of its own does not follow its ports."""
        asked: dict[str, Any] = {"br_forward_delay": 0, "br_stp_state": 0}
        if mac:
            asked["address"] = mac
        if mtu:
            asked["mtu"] = mtu
        self._ask(name, f"make bridge {name}", "link", "add", ifname=name, kind="bridge", **asked)

    def add_veth(
        self, name: str, *, peer: str, peer_namespace: Namespace, mac: str = "", mtu: int = 0
    ) -> None:
        """Make a pair: ``name`` here, ``peer`` with the hardware address in another namespace."""
        other: dict[str, Any] = {"ifname": peer, "net_ns_fd": peer_namespace.fileno()}
        asked: dict[str, Any] = {}
        if mac:
            other["address"] = mac
        if mtu:
            other["mtu"] = asked["mtu"] = mtu
        act = f"make veth {name} with {peer} in {peer_namespace.path}"
        self._ask(name, act, "link", "add", ifname=name, kind="veth", peer=other, **asked)

    def change(
        self,
        name: str,
        *,
        up: bool | None = None,
        master: str | None = None,
        mtu: int = 0,
        mac: str = "",
        rename: str = "",
        namespace: Namespace | None = None,
    ) -> None:
        """Change a link: only what is given; ``master`` empty takes it out of its bridge."""
        asked: dict[str, Any] = {}
        if up is not None:
            asked["state"] = "up" if up else "down"
        if master is not None:
            asked["master"] = self.link(master).index if master else 0
        if mtu:
            asked["mtu"] = mtu
        if mac:
            asked["address"] = mac
        if rename:
            asked["ifname"] = rename
        if namespace is not None:
            asked["net_ns_fd"] = namespace.fileno()
        index = self.link(name).index
        self._ask(name, f"change link {name}", "link", "set", index=index, **asked)

    def set_hairpin(self, name: str) -> None:
        """Let frames leave by the bridge port that they came in by."""
        index = self.link(name).index
        act = f"set hairpin mode of {name}"
        self._ask(name, act, "brport", "set", index=index, IFLA_BRPORT_MODE=1)

    def remove(self, name: str) -> None:
        """Remove a link, some 30 ms for a veth; one that is not there is nothing to do."""
        try:
            index = self.link(name).index
            self._ask(name, f"remove link {name}", "link", "del", index=index)
        except LinkNotFound:
            return

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a link with their prefixes: ``10.0.0.1/24``."""
        index = self.link(name).index
        found = self._ask(name, f"list addresses of {name}", "get_addr", index=index)
        return tuple(f"{a.get('address')}/{a['prefixlen']}" for a in found if a["index"] == index)

    def all_addresses(self) -> tuple[str, ...]:
        """The addresses of every link."""
        found = self._ask("", "list addresses", "get_addr")
        return tuple(f"{a.get('address')}/{a['prefixlen']}" for a in found)

    def add_address(self, name: str, address: str) -> None:
        """Give a link an address with its prefix; one that it has already is nothing to do.

        An IPv6 address is used at once, without asking whether a neighbour has it: who gives
        it keeps the leases.
        """
        parsed = model.interface(address)
        asked: dict[str, Any] = {"flags": IFA_F_NODAD} if parsed.version == 6 else {}
        index = self.link(name).index
        try:
            self._ask(
                *(name, f"give {name} the address {address}", "addr", "add"),
                index=index,
                address=str(parsed.ip),
                prefixlen=parsed.network.prefixlen,
                **asked,
            )
        except LinkExists:
            return

    def remove_address(self, name: str, address: str) -> None:
        """Take an address from a link; one that it does not have is nothing to do."""
        parsed = model.interface(address)
        if address in self.addresses(name):
            self._ask(
                *(name, f"take the address {address} from {name}", "addr", "del"),
                index=self.link(name).index,
                address=str(parsed.ip),
                prefixlen=parsed.network.prefixlen,
            )

    def routes(self) -> tuple[Route, ...]:
        """The unicast routes of the main table, of both families."""
        names = {link.index: link.name for link in self.links()}
        return tuple(
            _route(answer, names)
            for family in (_AF_INET, _AF_INET6)
            for answer in self._ask("", "list routes", "get_routes", family=family)
            if answer.get("table") == _MAIN_TABLE and answer["type"] == _UNICAST
        )

    def add_route(self, route: Route) -> None:
        """Add a route, or replace the one with its destination."""
        self._ask(*_asked_route(route, "add"), **self._route_fields(route))

    def remove_route(self, route: Route) -> None:
        """Remove a route; one that is not there is nothing to do."""
        try:
            self._ask(*_asked_route(route, "remove"), **self._route_fields(route))
        except LinkNotFound:
            return

    def _route_fields(self, route: Route) -> dict[str, Any]:
        destination = route.destination
        if destination == "default":
            destination = "::/0" if model.is_ipv6(route.gateway) else "0.0.0.0/0"
        parsed = model.network(destination)
        if not route.gateway and not route.link:
            raise InvalidValue("route", route.destination, "a gateway or a link is needed")
        fields: dict[str, Any] = {"dst": str(parsed)}
        fields["family"] = _AF_INET6 if parsed.version == 6 else _AF_INET
        if route.gateway:
            fields["gateway"] = str(model.interface(route.gateway).ip)
        if route.link:
            fields["oif"] = self.link(route.link).index
        return fields

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, link: str, act: str, verb: str, *words: str, **fields: Any) -> list[Any]:
        from pyroute2.netlink.exceptions import NetlinkError

        request: Callable[..., Any] = getattr(self._socket, verb)
        try:
            return list(request(*words, **fields))
        except NetlinkError as error:
            raise refusal(link, f"cannot {act}{self._where}", error.code, str(error)) from error


def refusal(link: str, message: str, errno: int, text: str = "") -> LinkError:
    """The error that says what could not be done and why, of the kind of its errno."""
    import os

    kinds: dict[int, type[LinkError]] = {
        EEXIST: LinkExists,
        ENODEV: LinkNotFound,
        ENOENT: LinkNotFound,
        ESRCH: LinkNotFound,  # of a route
    }
    # The kernel's own words say more than EINVAL, where it has any.
    reason = os.strerror(errno)
    if errno == EINVAL and ", " in text:
        reason = text.partition(", ")[2].strip("'\")")
    return kinds.get(errno, LinkRefused)(f"{message}: {reason.lower()}", name=link, errno=errno)


def _asked_route(route: Route, act: str) -> tuple[str, str, str, str]:
    via = f" by {route.gateway}" if route.gateway else ""
    words = {"add": "replace", "remove": "del"}
    return route.link, f"{act} the route to {route.destination}{via}", "route", words[act]


def _link(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get("ifname") or "",
        kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        mac=message.get("address") or "",
        mtu=message.get("mtu") or 0,
        is_up=bool(message["flags"] & 1),
        master=message.get("master") or 0,
    )


def _route(message: Any, names: dict[int, str]) -> Route:
    destination = message.get("dst")
    return Route(
        destination=f"{destination}/{message['dst_len']}" if destination else "default",
        gateway=message.get("gateway") or "",
        link=names.get(message.get("oif") or 0, ""),
    )
