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

import _socket
import os
from errno import EADDRINUSE, EADDRNOTAVAIL, EEXIST, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT

from netns import elements, model, settings
from netns.elements import ANY
from netns.errors import (
    AddressNotHere,
    InvalidValue,
    NetnsError,
    PortTaken,
    RulesRefused,
    RulesUnavailable,
)
from netns.model import PortMapping
from netns.nfnetlink import Refusal, Wire, own_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterable
    from types import TracebackType

    from netns.errors import RulesError
    from netns.namespace import Namespace

_KINDS = {
    "tcp": (_socket.SOCK_STREAM, _socket.IPPROTO_TCP),
    "udp": (_socket.SOCK_DGRAM, _socket.IPPROTO_UDP),
    "sctp": (_socket.SOCK_STREAM, _socket.IPPROTO_SCTP),
}


class Reservation:
    """Ports of the host that are ours while the sockets are open."""

    def __init__(self, mappings: tuple[PortMapping, ...], sockets: list[socket]) -> None:
        """Keep the sockets, one for each mapping; use `reserve`."""
        self.mappings = mappings
        self.sockets = sockets
        self.also: list[socket] = []  # of a mapping that is bound address by address

    def close(self) -> None:
        """Give the ports back; a second time is nothing."""
        for held in (self.sockets, self.also):
            while held:
                held.pop().close()

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
    mappings: tuple[PortMapping, ...],
    *,
    table: str = "",
    besides: Iterable[str] | None = None,
    namespace: Namespace | None = None,
) -> Reservation:
    """Bind the port of each mapping; all of them, or none and `PortTaken`.

    ``mappings`` of the answer have a number where the port asked for was 0.  If the table that
    ports are published in is given, it is asked for the owner of a port that is taken.

    ``besides`` are addresses of the host whose ports of these numbers stay the caller's own: with
    it, a mapping of any address is bound at each of the others.
    """
    answer = Reservation((), [])
    try:
        for mapping in mappings:
            try:
                made, *others = _bound_at(mapping, besides, namespace)
            except PortTaken as error:
                owner = _owner(table, mapping, namespace) if table else ""
                raise _taken(mapping, owner) from error
            answer.sockets.append(made)
            answer.also += others
            answer.mappings += (_with(mapping, host_port=made.getsockname()[1]),)
    except BaseException:
        answer.close()
        raise
    return answer


def publish(
    table: str,
    mappings: tuple[PortMapping, ...],
    *,
    forget: bool = True,
    namespace: Namespace | None = None,
) -> None:
    """Send the ports on; all of them, or none and `PortTaken` with the owner.

    Without ``forget`` the caller does `forget_flows` himself, when he has the time.
    """
    model.checked_table_name(table)
    messages = [elements.put(table, mapping) for mapping in mappings]
    if not messages:
        return
    with settings.entered(namespace):
        with Wire() as wire:
            refused = wire.apply(messages)
        if not refused:
            if forget:
                forget_flows(mappings)
            return
    place, errno = next(iter(refused.items()))
    mapping = mappings[max(place, 0)]
    if errno == EEXIST:
        raise _taken(mapping, _owner(table, mapping, namespace))
    raise _refusal(errno, f"publish port {mapping.host_port} in table {table}")


def withdraw(
    table: str, mappings: tuple[PortMapping, ...], *, namespace: Namespace | None = None
) -> None:
    """Stop sending the ports on; those that are not published are nothing to do.

    A port that leads to somebody else by now is left to him.
    """
    model.checked_table_name(table)
    if not mappings:
        return
    with settings.entered(namespace):
        with Wire() as wire:
            ours = [mapping for mapping in mappings if _is_ours(wire, table, mapping)]
            takes = [elements.take(table, mapping) for mapping in ours]
            refused = wire.apply(takes)
            if ENOENT in refused.values():
                # Somebody else took one away in between: one by one.
                each = [wire.apply([take]) for take in takes]
                refused = {n: e for one in each for n, e in one.items() if e != ENOENT}
        if refused:
            raise _refusal(next(iter(refused.values())), f"withdraw ports of table {table}")
        forget_flows(mappings)


def forget_flows(mappings: tuple[PortMapping, ...]) -> None:
    """Let clients of UDP ports that send on and on be looked at anew, by the thread's namespace."""
    udp = tuple(mapping for mapping in mappings if mapping.protocol == "udp")
    if udp:
        from netns import flows  # for UDP ports alone

        flows.forget(udp)


def published(table: str, *, namespace: Namespace | None = None) -> tuple[PortMapping, ...]:
    """Every port that the table sends on; none if the table is gone."""
    model.checked_table_name(table)
    found: list[PortMapping] = []
    with settings.entered(namespace), Wire() as wire:
        for name in elements.MAPS:
            try:
                for body in wire.dump(elements.listing(table, name)):
                    found += elements.mappings_of(name, body)
            except Refusal as error:
                if error.errno != ENOENT:
                    raise _refusal(error.errno, f"list the ports of table {table}") from error
    return tuple(found)


def _bound_at(
    mapping: PortMapping, besides: Iterable[str] | None, namespace: Namespace | None
) -> list[socket]:
    """One socket for the port, or one for each address but some; never none."""
    if besides is None or mapping.host_address not in ANY:
        return [_bound(mapping, namespace)]
    with settings.entered(namespace):
        own = own_addresses()
    own -= {model.packed_address(each)[0] for each in besides}
    is_ipv6 = model.is_ipv6(mapping.host_address or mapping.address)
    family = _socket.AF_INET6 if is_ipv6 else _socket.AF_INET
    size, link_local = (16, b"\xfe\x80") if is_ipv6 else (4, b"\xa9\xfe")
    made: list[socket] = []
    try:
        for each in sorted(own):
            if len(each) == size and not each.startswith(link_local):
                text = _socket.inet_ntop(family, each)
                made.append(_bound(_with(mapping, host_address=text), namespace))
    except BaseException:
        for one in made:
            one.close()
        raise
    return made or [_bound(mapping, namespace)]


def _bound(mapping: PortMapping, namespace: Namespace | None) -> socket:
    """A socket of the host that is bound to the port, and answers nobody."""
    _checked(mapping)
    is_ipv6 = model.is_ipv6(mapping.host_address or mapping.address)
    family = _socket.AF_INET6 if is_ipv6 else _socket.AF_INET
    with settings.entered(namespace):
        try:
            made = _bound_to(mapping, family, mapping.host_port)
            if mapping.protocol == "tcp":
                if not mapping.host_port:
                    # A port that the kernel picked would be lost by what follows.
                    picked, made = made, _bound_to(mapping, family, made.getsockname()[1])
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


def _bound_to(mapping: PortMapping, family: int, port: int) -> socket:
    kind, protocol = _KINDS[mapping.protocol]
    made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
    try:
        if mapping.protocol == "tcp":
            # Connections that linger after a former server are not in the way.
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        any_ = "::" if family == _socket.AF_INET6 else "0.0.0.0"
        made.bind((mapping.host_address or any_, port))
    except BaseException:
        made.close()
        raise
    return made


def _claim(bound: socket) -> None:
    """Keep a TCP port from everybody, and refuse who connects to it.

    Two may be bound with SO_REUSEADDR until one listens, so listening is the question whether
    the port is free.  Listening on, though, would let a client that no rule sends on (to ::1,
    say) wait for an answer instead of trying the next address of the name.  Without
    SO_REUSEADDR on ours, nobody else can listen from now on.
    """
    try:
        bound.listen(0)
        bound.shutdown(_socket.SHUT_RD)
        bound.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
    except BaseException:
        bound.close()
        raise


def _is_ours(wire: Wire, table: str, mapping: PortMapping) -> bool:
    try:
        answer = wire.ask(elements.question(table, mapping))
    except Refusal as error:
        if error.errno == ENOENT:
            return False
        raise _refusal(error.errno, f"look into table {table}") from error
    there = elements.mappings_of(elements.map_of(mapping), answer)
    return any(elements.value_of(one) == elements.value_of(mapping) for one in there)


def _refusal(errno: int, act: str) -> RulesError:
    if errno in (EOPNOTSUPP, EPROTONOSUPPORT):
        return RulesUnavailable("this kernel has no nftables")
    return RulesRefused(f"cannot {act}: {os.strerror(errno).lower()}", text="")


def _checked(mapping: PortMapping) -> None:
    model.checked_port(mapping.host_port, lowest=0)
    model.checked_port(mapping.port)
    if mapping.protocol not in model.PROTOCOLS:
        known = ", ".join(model.PROTOCOLS)
        raise InvalidValue("protocol", mapping.protocol, f"known are {known}")
    model.packed_address(mapping.address)
    if mapping.host_address:
        model.packed_address(mapping.host_address)


def _end(mapping: PortMapping) -> tuple[bool, bytes, str, int]:
    any_ = mapping.host_address in ANY
    host = b"" if any_ else model.packed_address(mapping.host_address)[0]
    is_ipv6 = model.is_ipv6(mapping.host_address or mapping.address)
    return is_ipv6, host, mapping.protocol, mapping.host_port


def _owner(table: str, mapping: PortMapping, namespace: Namespace | None) -> str:
    is_ipv6, host, protocol, port = _end(mapping)
    for other in published(table, namespace=namespace):
        other_is_ipv6, other_host, other_protocol, other_port = _end(other)
        is_there = (is_ipv6, protocol, port) == (other_is_ipv6, other_protocol, other_port)
        if is_there and (host == other_host or b"" in (host, other_host)):
            return other.owner
    return ""


def _taken(mapping: PortMapping, owner: str) -> PortTaken:
    any_ = "::" if model.is_ipv6(mapping.address) else "0.0.0.0"
    return PortTaken(mapping.host_address or any_, mapping.host_port, mapping.protocol, owner)


def _with(mapping: PortMapping, *, host_address: str = "", host_port: int = 0) -> PortMapping:
    return PortMapping(
        host_address=host_address or mapping.host_address,
        host_port=host_port or mapping.host_port,
        protocol=mapping.protocol,
        address=mapping.address,
        port=mapping.port,
        owner=mapping.owner,
    )
