"""Ports of the host for a container: reserved and published at a start, withdrawn at its end.

Which ports, the run folder says: ``<run>/containers/<id>/ports`` is written before any of
them is published and removed after all are withdrawn.  It is flat text, a line each:

    version 1
    table NAME                                       of the rules, if anything is published by them
    published HOST_ADDRESS HOST_PORT PROTOCOL ADDRESS PORT      by rules
    relayed HOST_ADDRESS HOST_PORT PROTOCOL ADDRESS PORT        by a process, ``netns.relay``
    exposed PORT PROTOCOL                            known, but of the container alone

The address of the host is a wildcard (``0.0.0.0``, ``::``) where none was asked for.  The
monitor holds the reserved sockets, and the pipe that its relay lives by, until it ends: over
restarts too.
"""

from __future__ import annotations

import os

from ..errors import Conflict, HostLacks, SandboxError, UsageError
from ..record import Record
from ..state import containers, networks
from ..state.document import read_bytes, remove_file, replace_bytes
from .options import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from netns import PortMapping, Reservation
    from netns.model import Protocol

    from ..jsontext import Json
    from ..oci.imageconfig import ImageConfig
    from ..paths import Paths
    from ..state.containers import ContainerRecord
    from .options import RunOptions

NAME = "ports"
ANY4, ANY6 = "0.0.0.0", "::"
RESOLVER_PORT = 53
_ATTEMPTS = 16  # to find a port that is free in both families
_PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


class Port(Record):
    """One port of a container; without ``host_port`` it is exposed alone."""

    port: int
    protocol: str
    host_address: str = ""
    host_port: int = 0
    address: str = ""
    is_relayed: bool = False


class Ends(Record):
    """Where ports can lead: the container's addresses, "" for a family that it does not have."""

    ipv4: str
    ipv6: str
    table: str  # of the rules; empty where there are none, and all is relayed


class Published:
    """What the monitor is to hold; to be closed when it has it."""

    def __init__(
        self, reservation: Reservation, pipe: int, by_rules: tuple[PortMapping, ...]
    ) -> None:
        self._reservation, self._pipe, self._by_rules = reservation, pipe, by_rules

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that keep the ports."""
        held = self._reservation
        sockets = (each.fileno() for each in (*held.sockets, *held.also))
        return (*sockets, *([self._pipe] if self._pipe >= 0 else []))

    def settle(self) -> None:
        """Let go of them, and look anew at clients that sent on and on before.

        That takes the kernel some milliseconds, so it is for when nothing waits.
        """
        self.close()
        if any(mapping.protocol == "udp" for mapping in self._by_rules):
            from netns import ports

            ports.forget_flows(self._by_rules)

    def close(self) -> None:
        """Let go of them; a second time is nothing."""
        self._reservation.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def exposed(options: RunOptions, config: ImageConfig) -> tuple[str, ...]:
    """What the container has to offer, as docker's documents name it: ``80/tcp``."""
    from .portspec import key_of, sort_key

    found = {*options.expose, *(key_of(spec) for spec in options.publish)}
    found |= {port if "/" in port else f"{port}/tcp" for port in config.exposed_ports}
    return tuple(sorted(found, key=sort_key))


def wanted(options: RunOptions, config: ImageConfig) -> tuple[PortSpec, ...]:
    """What is to be published: what was asked for, and with ``-P`` whatever else is exposed."""
    if not options.publish_all:
        return options.publish
    from .portspec import key_of

    asked = {key_of(spec) for spec in options.publish}
    others = (port.partition("/") for port in exposed(options, config) if port not in asked)
    return (
        *options.publish,
        *(PortSpec(port=int(port), protocol=protocol) for port, _, protocol in others),
    )


def has_ports(options: RunOptions, config: ImageConfig) -> bool:
    """Whether a start has anything to do here."""
    return bool(options.publish or options.expose or config.exposed_ports)


def publish(
    paths: Paths,
    record: ContainerRecord,
    options: RunOptions,
    config: ImageConfig,
    ends: Ends | None,
) -> Published | None:
    """Reserve and publish the ports of a container that is about to start.

    Without ``ends`` (all of its networks are internal) they are exposed alone, as docker has
    it.  `Conflict` when a port is taken, with the owner in the hint.
    """
    specs = wanted(options, config) if ends is not None else ()
    lines = ["version 1"]
    if ends is None or not specs:
        _write(paths, record.id, [*lines, *_exposed_lines(options, config, ())])
        return None
    from netns import NetnsError, Reservation, ports

    held: Reservation = Reservation((), [])
    relayed: list[int] = []
    pipe = -1
    try:
        for spec in specs:
            for mapping, is_relayed in _reserve(paths, record, spec, ends, held):
                number = len(held.mappings) - 1
                word = "relayed" if is_relayed else "published"
                if is_relayed:
                    relayed.append(number)
                lines.append(f"{word} {_ends_text(mapping)}")
        by_rules = tuple(m for n, m in enumerate(held.mappings) if n not in relayed)
        if by_rules:
            lines.insert(1, f"table {ends.table}")
        _write(paths, record.id, [*lines, *_exposed_lines(options, config, specs)])
        if by_rules:
            ports.publish(ends.table, by_rules, forget=False)
        if relayed:
            pipe = _relay(held, relayed)
    except BaseException as error:
        Published(held, pipe, ()).close()
        if isinstance(error, NetnsError):
            raise _failure(paths, record, error) from error
        raise
    return Published(held, pipe, by_rules)


def withdraw(paths: Paths, container_id: str) -> None:
    """Take back what a run has published; nothing there is nothing to do.

    A relay ends with the monitor, by the pipe between them.
    """
    path = _path(paths, container_id)
    try:
        table, found = _parsed(read_bytes(path))
    except (FileNotFoundError, NotADirectoryError):
        return
    mappings = tuple(
        _mapping(each, container_id) for each in found if each.host_port and not each.is_relayed
    )
    if mappings and table:
        from netns import RulesUnavailable, ports

        try:
            ports.withdraw(table, mappings)
        except RulesUnavailable:
            pass  # and so nothing is published
    remove_file(path)


def withdraw_from(paths: Paths, container_id: str, addresses: tuple[str, ...]) -> None:
    """Take back what leads to these addresses, which a running container is about to lose."""
    try:
        data = read_bytes(_path(paths, container_id))
    except (FileNotFoundError, NotADirectoryError):
        return
    table, found = _parsed(data)
    lost = [
        each
        for each in found
        if each.host_port and not each.is_relayed and each.address in addresses
    ]
    if lost and table:
        from netns import ports

        ports.withdraw(table, tuple(_mapping(each, container_id) for each in lost))
        lines = data.decode("ascii", "replace").splitlines()
        kept = [
            line
            for line in lines
            if not (line.startswith("published ") and line.split(" ")[4] in addresses)
        ]
        lines_of_lost = sorted({f"exposed {each.port} {each.protocol}" for each in lost})
        _write(paths, container_id, [*kept, *lines_of_lost])


def ports_of(paths: Paths, container_id: str) -> tuple[Port, ...]:
    """The ports of a running container, sorted; none of one that does not run."""
    try:
        return _parsed(read_bytes(_path(paths, container_id)))[1]
    except (FileNotFoundError, NotADirectoryError):
        return ()


def ports_document(ports: Iterable[Port]) -> dict[str, Json]:
    """Docker's map from each port to where it is; null for one that is exposed alone."""
    found: dict[str, list[Json]] = {}
    for each in ports:
        ways = found.setdefault(f"{each.port}/{each.protocol}", [])
        if each.host_port:
            ways.append({"HostIp": each.host_address, "HostPort": str(each.host_port)})
    return {port: ways or None for port, ways in found.items()}


def bindings_document(options: RunOptions) -> dict[str, Json]:
    """Docker's map of what was asked for."""
    found: dict[str, list[Json]] = {}
    for each in options.publish:
        port = f"{each.host_port}-{each.host_end}" if each.host_end else str(each.host_port or "")
        ways = found.setdefault(f"{each.port}/{each.protocol}", [])
        ways.append({"HostIp": each.host_address, "HostPort": port})
    return {port: [*ways] for port, ways in found.items()}


def owner_of(paths: Paths, address: str, port: int, protocol: str) -> str:
    """The id of the running container that has a port of the host, or ""."""
    try:
        found = os.listdir(paths.live)
    except FileNotFoundError:
        return ""
    for container_id in found:
        for each in ports_of(paths, container_id):
            if (each.host_port, each.protocol) == (port, protocol) and _overlap(
                each.host_address, address
            ):
                return container_id
    return ""


def _reserve(
    paths: Paths, record: ContainerRecord, spec: PortSpec, ends: Ends, held: Reservation
) -> Iterator[tuple[PortMapping, bool]]:
    """Reserve one port in each family that it is for; the reservation is put to ``held``."""
    from netns import PortTaken, Reservation, ports

    choices = range(spec.host_port, (spec.host_end or spec.host_port) + 1)
    attempts: Sequence[int] = choices if spec.host_port else [0] * _ATTEMPTS
    for attempt in attempts:
        both: list[tuple[PortMapping, bool]] = []
        made = Reservation((), [])
        number = attempt
        try:
            for mapping, is_relayed in _mappings(record.id, spec, ends):
                besides = _gateways(paths) if number == RESOLVER_PORT else None
                if is_relayed and spec.protocol == "sctp":
                    raise HostLacks(f"port {spec.port}/sctp cannot be relayed, only tcp and udp")
                one = ports.reserve(
                    (_with_port(mapping, number),), table=ends.table, besides=besides
                )
                made.sockets += one.sockets
                made.also += one.also
                made.mappings += one.mappings
                # One number for both families, also where it is picked.
                number = one.mappings[0].host_port
                both.append((one.mappings[0], is_relayed))
        except PortTaken:
            made.close()
            if attempt == attempts[-1] and (spec.host_port or len(both) == 0):
                raise
            continue
        except BaseException:
            made.close()
            raise
        held.also += made.also
        for socket, pair in zip(made.sockets, both, strict=True):
            held.sockets.append(socket)
            held.mappings += (pair[0],)
            yield pair
        return
    raise HostLacks(f"no free port was found for port {spec.port}/{spec.protocol}")


def _gateways(paths: Paths) -> list[str]:
    """Where resolvers are, or will be: nobody else's port 53."""
    found = []
    for name in networks.names(paths):
        try:
            found += [each.gateway for each in networks.read(paths, name).subnets]
        except SandboxError:
            continue  # it is being removed
    return found


def _mappings(owner: str, spec: PortSpec, ends: Ends) -> list[tuple[PortMapping, bool]]:
    """What is to be reserved for one port, and whether it takes a relay."""
    from netns import PortMapping

    def leads(host_address: str, address: str) -> PortMapping:
        return PortMapping(
            host_address=host_address,
            host_port=spec.host_port,
            protocol=_PROTOCOLS[spec.protocol],
            address=address,
            port=spec.port,
            owner=owner,
        )

    host = spec.host_address
    if host:
        is_ipv6 = ":" in host
        same, other = (ends.ipv6, ends.ipv4) if is_ipv6 else (ends.ipv4, ends.ipv6)
        # Linux takes no answer for ::1 from a bridge, and no rule leads to another family.
        is_relayed = not same or host == "::1" or not ends.table
        return [(leads(host, same or other), is_relayed)]
    return [
        (leads(any_, address), not ends.table)
        for any_, address in ((ANY4, ends.ipv4), (ANY6, ends.ipv6))
        if address
    ]


def _relay(held: Reservation, which: Iterable[int]) -> int:
    """Start the relay of some of the reserved ports; the end of the pipe that it lives by."""
    from netns import relay

    from ..monitor import children

    numbers = tuple(which)
    watch, ours = os.pipe2(os.O_CLOEXEC)
    try:
        started = relay.start(
            [held.mappings[number] for number in numbers],
            [held.sockets[number] for number in numbers],
            watch,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(watch)
    children.let_go(started.pid)
    return ours


def _failure(paths: Paths, record: ContainerRecord, error: Exception) -> SandboxError:
    """The error in docker's words; who has the port is in the hint."""
    from netns import AddressNotHere, NetnsError, PortTaken

    head = (
        f"driver failed programming external connectivity on endpoint {record.name} ({record.id}): "
    )
    if isinstance(error, PortTaken):
        shown = f"[{error.address}]" if ":" in error.address else error.address
        owner = error.owner or owner_of(paths, error.address, error.port, error.protocol)
        if not owner:
            return Conflict(
                f"{head}failed to bind host port {shown}:{error.port}/{error.protocol}: "
                "address already in use",
                hint=f"a process of this host has it: `ss -lnp sport = :{error.port}`",
            )
        return Conflict(
            f"{head}Bind for {shown}:{error.port} failed: port is already allocated",
            hint=f"container {_name(paths, owner)} has the port",
        )
    if isinstance(error, AddressNotHere):
        return UsageError(
            f"{head}failed to bind host port: cannot assign requested address {error.address}",
            hint="no link of this host has that address",
        )
    hint = error.hint if isinstance(error, NetnsError) else ""
    return HostLacks(f"{head}{error}", hint=hint)


def _name(paths: Paths, owner: str) -> str:
    try:
        return containers.read(paths, owner).name
    except SandboxError:
        return owner[:12]


def _exposed_lines(
    options: RunOptions, config: ImageConfig, published: Iterable[PortSpec]
) -> list[str]:
    from .portspec import key_of

    done = {key_of(spec) for spec in published}
    lines = []
    for each in exposed(options, config):
        port, _, protocol = each.partition("/")
        if each not in done and port.isdigit():
            lines.append(f"exposed {port} {protocol}")
    return lines


def _ends_text(mapping: PortMapping) -> str:
    return (
        f"{mapping.host_address} {mapping.host_port} {mapping.protocol} "
        f"{mapping.address} {mapping.port}"
    )


def _parsed(data: bytes) -> tuple[str, tuple[Port, ...]]:
    table, found = "", []
    for line in data.decode("ascii", "replace").splitlines():
        word, *rest = line.split(" ")
        if word == "table" and len(rest) == 1:
            table = rest[0]
        elif word == "exposed" and len(rest) == 2 and rest[0].isdigit():
            found.append(Port(port=int(rest[0]), protocol=rest[1]))
        elif word in ("published", "relayed") and len(rest) == 5:
            host_address, host_port, protocol, address, port = rest
            if host_port.isdigit() and port.isdigit() and protocol in _PROTOCOLS:
                found.append(
                    Port(
                        port=int(port),
                        protocol=protocol,
                        host_address=host_address,
                        host_port=int(host_port),
                        address=address,
                        is_relayed=word == "relayed",
                    )
                )
    # As docker sorts them.
    found.sort(key=lambda each: (each.port, each.host_address, each.host_port, each.protocol))
    return table, tuple(found)


def _mapping(port: Port, owner: str) -> PortMapping:
    from netns import PortMapping

    return PortMapping(
        host_address=port.host_address,
        host_port=port.host_port,
        protocol=_PROTOCOLS[port.protocol],
        address=port.address,
        port=port.port,
        owner=owner,
    )


def _with_port(mapping: PortMapping, number: int) -> PortMapping:
    from netns import PortMapping

    return PortMapping(
        host_address=mapping.host_address,
        host_port=number,
        protocol=mapping.protocol,
        address=mapping.address,
        port=mapping.port,
        owner=mapping.owner,
    )


def _overlap(one: str, two: str) -> bool:
    """Whether two addresses of the host have ports in common."""
    if (":" in one) != (":" in two):
        return False
    return one == two or bool({one, two} & {ANY4, ANY6})


def _write(paths: Paths, container_id: str, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    replace_bytes(_path(paths, container_id), text.encode())


def _path(paths: Paths, container_id: str) -> str:
    return f"{paths.live_container(container_id)}/{NAME}"
