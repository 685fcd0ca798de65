"""Joining a container to its networks at a start, and giving back what it had of them.

For each network of the container, in this order: its document is read, and a quick look
says whether bridge and rules are there (if not, they are made again, which is slow); the journal
names network and link; an address is leased; the endpoint's file says to everybody who is
there; and the messages that make the link are packed, for the monitor and init to send.

A share of the network's lock is held until the endpoint's file is there, so whoever
removes the network sees the container or is seen by it.
"""

from __future__ import annotations

import os

from ..errors import Conflict, HostLacks, NetworkNotFound, SandboxError, UsageError
from ..record import Record, replace
from ..runtime.launch import Plumbing
from ..state import events, lock, networks
from ..state.containers import Membership, is_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..jsontext import Json
    from ..paths import Paths
    from ..state.containers import ContainerRecord
    from ..state.networks import NetworkRecord
    from .engine import Engine
    from .journal import Place

MOST_LINKS = 100


class Joined(Record):
    """One network at one start; ``addresses`` are with their prefix, ``name`` is the inner link."""

    network: NetworkRecord
    membership: Membership
    link: str
    name: str
    addresses: tuple[str, ...]
    mac: str
    plumbing: Plumbing


def memberships_of(record: ContainerRecord) -> tuple[Membership, ...]:
    """The networks that a container joins when it starts."""
    if record.networks is not None:
        return record.networks
    options = record.options
    network = _word(options, "network") or "none"
    if not is_network(network):
        return ()
    aliases = options.get("network_alias")
    return (
        Membership(
            network=network,
            ip=_word(options, "ip"),
            ip6=_word(options, "ip6"),
            mac=_word(options, "mac_address"),
            aliases=tuple(str(name) for name in aliases) if isinstance(aliases, list) else (),
        ),
    )


def resolve_name(engine: Engine, text: str) -> str:
    """The name of the network meant by a ``--network``.  `NetworkNotFound`."""
    if networks.is_name(text) and os.path.isdir(engine.paths.network(text)):
        return text
    # Not the usual case: the first use of the default network, an id, or a mistake.
    from .networks import find

    return find(engine, text).name


class Joining:
    """The networks of one start; to be closed when the endpoints are written down."""

    def __init__(self, paths: Paths, record: ContainerRecord, hostname: str) -> None:
        self._paths = paths
        self._record = record
        self._hostname = hostname
        self._memberships = memberships_of(record)
        self._shares: list[lock.Lock] = []
        self._found: list[tuple[NetworkRecord, int]] = []  # with the bridge's index
        self.joined: tuple[Joined, ...] = ()

    def open(self) -> tuple[Place, ...]:
        """Find the networks, ready; what is to be written into the journal before all else."""
        for membership in self._memberships:
            record, index, share = ready(self._paths, membership.network)
            self._shares.append(share)
            self._found.append((record, index))
        return tuple(
            (record.id, link_of(self._record.id, number), record.name)
            for number, (record, _) in enumerate(self._found)
        )

    def join(self) -> tuple[Joined, ...]:
        """Take the addresses and say who has them; the journal has the networks by now."""
        joined: list[Joined] = []
        ways: set[bool] = set()
        for number, (membership, (record, index)) in enumerate(
            zip(self._memberships, self._found, strict=True)
        ):
            one = join(
                *(self._paths, self._record, self._hostname, record, membership, index),
                number=number,
                ways=ways,
            )
            joined.append(one)
        self.joined = tuple(joined)
        return self.joined

    def close(self) -> None:
        """Let others remove the networks, if nobody is on them."""
        shares, self._shares = self._shares, []
        for share in shares:
            share.close()


def link_of(container_id: str, number: int) -> str:
    """The host's end of a container's link."""
    return f"sb{container_id[:10]}{number}"


def ready(paths: Paths, name: str) -> tuple[NetworkRecord, int, lock.Lock]:
    """A network with its bridge's index and a share of its lock; made again where it is missing."""
    folder, record = paths.network(name), None
    for _attempt in range(3):
        try:
            share = lock.take(f"{folder}/lock", shared=True)
        except (FileNotFoundError, NotADirectoryError):
            raise NetworkNotFound(name) from None
        try:
            record = networks.read(paths, name)
            index = _index(paths, record)
            if index:
                networks.prepare(paths, record.id)
                return record, index, share
        except BaseException:
            share.close()
            raise
        share.close()
        # Somebody removed the bridge or the rules, or the host was started anew.
        from .networks import ensure

        try:
            with lock.take(f"{folder}/lock"):
                ensure(paths, record)
        except (FileNotFoundError, NotADirectoryError):
            continue
    hint = ""
    if record is not None:
        hint = f"does another program remove bridge {record.bridge} or table {record.table}?"
    raise HostLacks(f"network {name} goes as soon as it is made", hint=hint)


def join(
    paths: Paths,
    container: ContainerRecord,
    hostname: str,
    record: NetworkRecord,
    membership: Membership,
    index: int,
    *,
    number: int,
    ways: set[bool],
) -> Joined:
    """Lease, write the endpoint's file, and pack the messages.

    ``ways`` has the families (is it IPv6?) that have a way out by another network already.
    """
    addresses = _lease(paths, record, membership, container.id)
    from netns.model import mac_of

    mac = membership.mac or mac_of(addresses[0])
    link, name = link_of(container.id, number), f"eth{number}"
    plumbing = plumbing_of(record, index, link, name, addresses, mac, ways=ways)
    # The first is the one that others on the default network have: the id says there is none.
    own = (container.name, *membership.aliases, container.id[:12])
    if not _word(container.options, "name"):
        own = (container.id[:12], *membership.aliases, container.name)
    names = (*own, hostname)
    networks.write_endpoint(
        paths,
        record.id,
        networks.EndpointRecord(
            container_id=container.id,
            addresses=tuple(each.partition("/")[0] for each in addresses),
            names=tuple(name for name in dict.fromkeys(names) if name),
            link=link,
            mac=mac,
        ),
    )
    _log(paths, "connect", container.id, record.id, record.name)
    return Joined(
        network=record,
        membership=membership,
        link=link,
        name=name,
        addresses=addresses,
        mac=mac,
        plumbing=plumbing,
    )


def plumbing_of(
    record: NetworkRecord,
    index: int,
    link: str,
    name: str,
    addresses: tuple[str, ...],
    mac: str,
    *,
    ways: set[bool],
) -> Plumbing:
    """The messages that make one link; families that it gives a way out are put into ``ways``."""
    from netns import packed
    from netns.model import Endpoint, Route

    routes = []
    for subnet in () if record.internal else record.subnets:
        is_ipv6 = ":" in subnet.cidr
        if is_ipv6 not in ways:
            ways.add(is_ipv6)
            routes.append(Route(destination="default", gateway=subnet.gateway, link=name))
    endpoint = Endpoint(
        link=link,
        name=name,
        addresses=addresses,
        routes=tuple(routes),
        mac=mac,
        mtu=record.mtu,
        # Harmless where nobody calls his own published port, and needed where one does.
        hairpin=True,
    )
    make, plumb, settle = packed.plumbing(endpoint, record.bridge, index)
    return Plumbing(
        link=link,
        name=name,
        bridge=record.bridge,
        ipv6=any(":" in each for each in addresses),
        make=make,
        plumb=plumb,
        settle=settle,
    )


def remove_links(links: Iterable[str]) -> None:
    """Remove links of the host; those that are gone are nothing to do."""
    from netns import LinkNotFound, packed

    with packed.Wire() as wire:
        for link in links:
            try:
                wire.ask(link, f"remove link {link}", packed.remove(link))
            except LinkNotFound:
                continue


def give_back(paths: Paths, container_id: str, places: Iterable[Place]) -> None:
    """Give back endpoints and addresses; what is given back already is nothing to do.

    The links go with the container's network namespace, by themselves.
    """
    from netns import LeasesDamaged, ipam

    for network_id, _link, name in places:
        endpoint = f"{paths.live_network(network_id)}/endpoints/{container_id}"
        was_there = os.path.exists(endpoint)
        if was_there and name == networks.DEFAULT:
            from . import hosts  # the others have it in theirs

            hosts.leave(paths, paths.live_network(network_id), container_id)
        else:
            networks.remove_endpoint(paths, network_id, container_id)
        store = ipam.FileLeases(networks.leases_path(paths, network_id))
        try:
            ipam.release(store, container_id)
        except FileNotFoundError:
            continue  # the network is gone
        except LeasesDamaged:
            store.rebuild(_owners(paths, network_id))
        if was_there:
            _log(paths, "disconnect", container_id, network_id, name)


def rename(paths: Paths, record: ContainerRecord, old: str) -> None:
    """Let the others find a running container by its new name, and not by the old one.

    Not on the default network, whose files under /etc have the name until the next start.
    """
    for membership in memberships_of(record):
        try:
            network = networks.read(paths, membership.network)
        except SandboxError:
            continue
        endpoint = networks.read_endpoint(paths, network.id, record.id)
        if endpoint is not None and network.name != networks.DEFAULT:
            names = tuple(record.name if name == old else name for name in endpoint.names)
            networks.write_endpoint(paths, network.id, replace(endpoint, names=names))


def _index(paths: Paths, record: NetworkRecord) -> int:
    """The index of the network's bridge; 0 when it is not up, or the rules do not know it."""
    from netns import NetnsError, packed

    bridge = record.bridge
    index = packed.index_if_up(bridge)
    if not index:
        return 0
    question = packed.link_in_set(record.table, "bridges", bridge)
    try:
        with packed.Wire(protocol=packed.NETLINK_NETFILTER) as wire:
            wire.ask(bridge, f"look into table {record.table}", question)
    except (NetnsError, OSError):
        from netns import nat

        if networks.is_island(paths, record.id) and nat.forwards_nothing(bridge):
            return index
        return 0  # making it says what is wrong
    return index


def _lease(
    paths: Paths, record: NetworkRecord, membership: Membership, container_id: str
) -> tuple[str, ...]:
    """An address of each subnet, with its prefix: all of them, or none."""
    from netns import AddressesExhausted, AddressTaken, InvalidValue, LeasesDamaged, ipam
    from netns.model import Subnet

    store = ipam.FileLeases(networks.leases_path(paths, record.id))
    wanted = [each for each in (membership.ip, membership.ip6) if each]
    taken = []
    try:
        for each in record.subnets:
            subnet = Subnet(cidr=each.cidr, gateway=each.gateway, range=each.ip_range)
            asked = next((one for one in wanted if ipam.is_in(subnet, one)), "")
            if asked:
                wanted.remove(asked)
            try:
                lease = ipam.lease(store, subnet, container_id, wanted=asked)
            except LeasesDamaged:
                store.rebuild(_owners(paths, record.id))
                lease = ipam.lease(store, subnet, container_id, wanted=asked)
            taken.append(ipam.with_prefix(subnet, lease.address))
        if wanted:
            raise UsageError(
                f"Invalid address {wanted[0]}: It does not belong to any of this network's subnets"
            )
    except AddressesExhausted as error:
        kind = "IPv6" if ":" in error.range else "IPv4"
        raise Conflict(
            f"no available {kind} addresses on this network's address pools: {record.name} "
            f"({record.id}): all {error.taken} of {error.range} are taken",
            hint="remove containers that are not needed, or make a network with a larger --subnet",
        ) from error
    except (AddressTaken, InvalidValue) as error:
        raise Conflict("Address already in use", hint=str(error)) from error
    return tuple(taken)


def _owners(paths: Paths, network_id: str) -> dict[str, str]:
    """Who has which address, by the files of the endpoints."""
    owners: dict[str, str] = {}
    for container_id in networks.endpoints(paths, network_id):
        endpoint = networks.read_endpoint(paths, network_id, container_id)
        if endpoint is not None:
            owners |= dict.fromkeys(endpoint.addresses, container_id)
    return owners


def _log(paths: Paths, action: str, container_id: str, network_id: str, name: str) -> None:
    pairs = (("container", container_id), ("name", name), ("type", networks.DRIVER))
    events.append(paths, "network", action, network_id, pairs)


def _word(options: dict[str, Json], name: str) -> str:
    value = options.get(name)
    return value if isinstance(value, str) else ""


def sweep_networks(paths: Paths) -> None:
    """Give back what containers have that are not there any more, without their journal."""
    try:
        found = os.listdir(f"{paths.run}/networks")
    except FileNotFoundError:
        return
    names: dict[str, str] = {}
    for name in networks.names(paths):
        try:
            names[networks.read(paths, name).id] = name
        except SandboxError:
            continue
    for network_id in found:
        for container_id in networks.endpoints(paths, network_id):
            if not os.path.isdir(paths.container(container_id)):
                place = (network_id, "", names.get(network_id, ""))
                give_back(paths, container_id, (place,))


def check(paths: Paths, record: ContainerRecord) -> None:
    """Refuse, before a container is made, what its networks do not have."""
    for membership in memberships_of(record):
        found = networks.read(paths, membership.network)
        for address in (membership.ip, membership.ip6):
            if address:
                _check_address(found, address)


def _check_address(record: NetworkRecord, address: str) -> None:
    from netns import ipam
    from netns.model import Subnet

    subnets = [Subnet(cidr=each.cidr, gateway=each.gateway) for each in record.subnets]
    if not any(ipam.is_in(subnet, address) for subnet in subnets):
        raise UsageError(
            f"Invalid address {address}: It does not belong to any of this network's subnets"
        )
