"""Publish ports of the host, so that they lead to an address behind a bridge.

Two things make a published port.  `reserve` binds a socket to it, in the host's namespace, as any
server would: so the kernel says whether it is free, picks one where none is asked for, and keeps
other programs away as long as the socket is open; whoever keeps the service alive keeps it.
`publish` puts an element into a map of the table (see ``netns.nat``), which sends the packets on
before they reach any socket; the client's address stays as it is.

IPv6's loopback is not sent on: Linux takes no answer for ::1 from a bridge.  A client gets
"connection refused" there and tries 127.0.0.1.
"""

from __future__ import annotations

import os
from errno import EADDRINUSE, EADDRNOTAVAIL

from netns import model, nat, nftables, settings
from netns.errors import AddressNotHere, InvalidValue, NetnsError, PortTaken, RulesRefused
from netns.model import PortMapping
from netns.nftables import Element, Put, Take

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from netns.namespace import Namespace

ANY = ("", "0.0.0.0", "::")
_UDP = 17


class Reservation:
    """Ports of the host that are ours while the sockets are open."""

    def __init__(self, mappings: tuple[PortMapping, ...], sockets: list[socket.socket]) -> None:
        """Keep the sockets, one for each mapping; use `reserve`."""
        self.mappings = mappings
        self.sockets = sockets

    def close(self) -> None:
        """Give the ports back; a second time is nothing."""
        while self.sockets:
            self.sockets.pop().close()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def reserve(
    mappings: tuple[PortMapping, ...], *, table: str = "", namespace: Namespace | None = None
) -> Reservation:
    """Bind the port of each mapping; all of them, or none and `PortTaken`.

    ``mappings`` of the answer have a number where the port asked for was 0.  If the table that
    ports are published in is given, it is asked for the owner of a port that is taken.
    """
    answer = Reservation((), [])
    try:
        for mapping in mappings:
            try:
                made = _bound(mapping, namespace)
            except PortTaken as error:
                owner = _owner(table, mapping, namespace) if table else ""
                raise _taken(mapping, owner) from error
            answer.sockets.append(made)
            answer.mappings += (_with_port(mapping, made.getsockname()[1]),)
    except BaseException:
        answer.close()
        raise
    return answer


def publish(
    table: str, mappings: tuple[PortMapping, ...], *, namespace: Namespace | None = None
) -> None:
    """Send the ports on; all of them, or none and `PortTaken` with the owner."""
    rules = nat.table(table)
    try:
        changes = [
            Put(table=rules, set=name, elements=elements, new=True)
            for name, elements in _elements(mappings).items()
        ]
        nftables.apply(changes, namespace=namespace)
    except RulesRefused as error:
        if nftables.EXISTS not in error.reason:
            raise
        there = published(table, namespace=namespace)
        for mapping in mappings:
            for other in there:
                if _key(other) == _key(mapping):
                    raise _taken(mapping, other.owner) from error
        raise
    _forget_flows(mappings, namespace)


def withdraw(
    table: str, mappings: tuple[PortMapping, ...], *, namespace: Namespace | None = None
) -> None:
    """Stop sending the ports on; those that are not published are nothing to do.

    A port that leads to somebody else by now is left to him.
    """
    here = {_key(mapping): mapping for mapping in published(table, namespace=namespace)}
    ours = [m for m in mappings if _key(m) in here and _is_same(here[_key(m)], m)]
    rules = nat.table(table)
    nftables.apply(
        [
            Take(table=rules, set=name, elements=elements)
            for name, elements in _elements(tuple(ours)).items()
        ],
        namespace=namespace,
    )
    _forget_flows(mappings, namespace)


def published(table: str, *, namespace: Namespace | None = None) -> tuple[PortMapping, ...]:
    """Every port that the table sends on; none if the table is gone."""
    rules = nat.table(table)
    found: list[PortMapping] = []
    names = ("named4", "named6", "any4", "any6")
    for elements in nftables.elements(rules, *names, namespace=namespace).values():
        for element in elements:
            host = str(element.key[0]) if len(element.key) == 3 else ""
            protocol, port = element.key[-2:]
            found.append(
                PortMapping(
                    host_address=host,
                    host_port=int(port),
                    protocol=_protocol(protocol),
                    address=str(element.value[0]),
                    port=int(element.value[1]),
                    owner=element.comment,
                )
            )
    return tuple(found)


def _bound(mapping: PortMapping, namespace: Namespace | None) -> socket.socket:
    """A socket of the host that is bound to the port, and answers nobody."""
    import socket

    _checked(mapping, lowest=0)
    family = socket.AF_INET6 if model.is_ipv6(mapping.address) else socket.AF_INET
    kinds = {
        "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
        "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    }

    def bound(port: int) -> socket.socket:
        made = socket.socket(family, *kinds[mapping.protocol])
        try:
            if mapping.protocol == "tcp":
                # Connections that linger after a former server are not in the way.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((mapping.host_address, port))
        except BaseException:
            made.close()
            raise
        return made

    with settings.in_namespace(namespace) as host, host.entered():
        try:
            made = bound(mapping.host_port)
            if mapping.protocol == "tcp":
                if not mapping.host_port:
                    # A port that the kernel picked would be lost by what follows.
                    picked, made = made, bound(made.getsockname()[1])
                    picked.close()
                _claim(made)
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise _taken(mapping, "") from error
            if error.errno == EADDRNOTAVAIL:
                raise AddressNotHere(mapping.host_address) from error
            raise NetnsError(
                f"cannot bind {mapping.host_address or 'any address'} port {mapping.host_port}"
                f"/{mapping.protocol}: {os.strerror(error.errno or 0).lower()}"
            ) from error
    return made


def _claim(bound: socket.socket) -> None:
    """Keep a TCP port from everybody, and refuse who connects to it.

    Two may be bound with SO_REUSEADDR until one listens, so listening is the question whether
    the port is free.  Listening on, though, would let a client that no rule sends on (to ::1,
    say) wait for an answer instead of trying the next address of the name.  Without
    SO_REUSEADDR on ours, nobody else can listen from now on.
    """
    import socket

    try:
        bound.listen(0)
        bound.shutdown(socket.SHUT_RD)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        bound.close()
        raise


def _forget_flows(mappings: tuple[PortMapping, ...], namespace: Namespace | None) -> None:
    """Let clients of UDP ports that send on and on be looked at anew.

    A flow without connections is one as long as packets come, so it would go on to the host
    itself after the port is published, and to an address that is nobody's after it is withdrawn.
    """
    udp = [mapping for mapping in mappings if mapping.protocol == "udp"]
    if not udp:
        return
    from netns.netlink import Flow, Netlink, forget_flows

    with Netlink.open(namespace) as netlink:
        host = {str(model.interface(address).ip) for address in netlink.all_addresses()}
    ours = {str(model.interface(mapping.address).ip) for mapping in udp}
    ports = {mapping.host_port for mapping in udp}

    def is_meant(flow: Flow) -> bool:
        return (
            flow.protocol == _UDP
            and flow.port in ports
            and flow.destination in host
            and flow.answered_by in ours | {flow.destination}
        )

    for ipv6 in {model.is_ipv6(mapping.address) for mapping in udp}:
        forget_flows(is_meant, ipv6=ipv6, namespace=namespace)


def _elements(mappings: tuple[PortMapping, ...]) -> dict[str, tuple[Element, ...]]:
    found: dict[str, tuple[Element, ...]] = {}
    for mapping in mappings:
        _checked(mapping, lowest=1)
        family = 6 if model.is_ipv6(mapping.address) else 4
        key: tuple[str | int, ...] = (mapping.protocol, mapping.host_port)
        name = f"any{family}"
        if mapping.host_address not in ANY:
            key, name = (str(model.interface(mapping.host_address).ip), *key), f"named{family}"
        element = Element(
            key=key,
            value=(str(model.interface(mapping.address).ip), mapping.port),
            comment=model.checked_owner(mapping.owner),
        )
        found[name] = (*found.get(name, ()), element)
    return found


def _checked(mapping: PortMapping, *, lowest: int) -> None:
    model.checked_port(mapping.host_port, lowest=lowest)
    model.checked_port(mapping.port)
    if mapping.protocol not in model.PROTOCOLS:
        known = ", ".join(model.PROTOCOLS)
        raise InvalidValue("protocol", mapping.protocol, f"known are {known}")
    address = model.interface(mapping.address)
    if mapping.host_address and model.interface(mapping.host_address).version != address.version:
        reason = f"it cannot lead to {mapping.address}, which is of the other family"
        raise InvalidValue("host address", mapping.host_address, reason)


def _key(mapping: PortMapping) -> tuple[bool, str, str, int]:
    host = "" if mapping.host_address in ANY else str(model.interface(mapping.host_address).ip)
    return model.is_ipv6(mapping.address), host, mapping.protocol, mapping.host_port


def _owner(table: str, mapping: PortMapping, namespace: Namespace | None) -> str:
    ipv6, host, protocol, port = _key(mapping)
    for other in published(table, namespace=namespace):
        other_ipv6, other_host, other_protocol, other_port = _key(other)
        is_there = (ipv6, protocol, port) == (other_ipv6, other_protocol, other_port)
        if is_there and (host == other_host or "" in {host, other_host}):
            return other.owner
    return ""


def _is_same(one: PortMapping, two: PortMapping) -> bool:
    ends = [(model.interface(m.address).ip, m.port) for m in (one, two)]
    return ends[0] == ends[1]


def _taken(mapping: PortMapping, owner: str) -> PortTaken:
    any_ = "::" if model.is_ipv6(mapping.address) else "0.0.0.0"
    return PortTaken(mapping.host_address or any_, mapping.host_port, mapping.protocol, owner)


def _with_port(mapping: PortMapping, port: int) -> PortMapping:
    return PortMapping(
        host_address=mapping.host_address,
        host_port=port,
        protocol=mapping.protocol,
        address=mapping.address,
        port=mapping.port,
        owner=mapping.owner,
    )


def _protocol(value: str | int) -> model.Protocol:
    if value == "tcp":
        return "tcp"
    if value == "udp":
        return "udp"
    if value == "sctp":
        return "sctp"
    raise InvalidValue("protocol", value, "it is in the table, but not one of ours")
