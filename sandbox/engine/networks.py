"""Networks: made, found, mended, listed and removed.

A network's document names its bridge and its table before they are made.  The bridge is made
with the network, and made again by the next start that finds it missing; so what another
program or a reboot removed comes back by itself.  Who is on a network is in the files of its
endpoints (`sandbox.engine.joining` writes them): there is no count to go wrong.

Addresses are chosen from docker's pools: the first that neither the host, by an address or a
route, nor another network has.  Several engines of one host take turns at that.
"""

from __future__ import annotations

import os
import time

from ..errors import (
    Conflict,
    ContainerNotFound,
    DamagedDocument,
    HostLacks,
    NetworkNotFound,
    ObjectInUse,
    SandboxError,
    UsageError,
)
from ..state import containers, events, lock, networks
from ..state.networks import NetworkRecord, SubnetRecord
from . import sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from netns import NetworkConfig
    from netns.model import IPNetwork

    from ..jsontext import Json
    from ..paths import Paths
    from .engine import Engine

POOLS = (*((f"172.{number}.0.0/16", 16) for number in range(17, 32)), ("192.168.0.0/16", 20))
MTU_OPTIONS = ("com.docker.network.driver.mtu", "mtu")
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
OPTIONS = (*MTU_OPTIONS, MASQUERADE)
LEAST_MTU, MOST_MTU = 68, 65535
LEAST_MTU_IPV6 = 1280
_TURN_S = 10.0
_PREDEFINED_DRIVERS = {"host": "host", "none": "null"}


class Network:
    """One network of an engine, as its document was when it was read."""

    def __init__(self, engine: Engine, record: NetworkRecord) -> None:
        self._engine = engine
        self._record = record

    def __repr__(self) -> str:
        return f"Network({self.name!r})"

    @property
    def record(self) -> NetworkRecord:
        """Its document."""
        return self._record

    @property
    def name(self) -> str:
        """The name."""
        return self._record.name

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self._record.id

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch."""
        return self._record.created_ns

    @property
    def driver(self) -> str:
        """``bridge``, or ``host`` and ``null`` of the two that are no networks."""
        return self._record.driver

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Its labels."""
        return self._record.labels

    @property
    def is_internal(self) -> bool:
        """Nothing leaves it."""
        return self._record.internal

    @property
    def is_predefined(self) -> bool:
        """It is there without being made."""
        return self.name in networks.PREDEFINED

    def containers(self) -> tuple[str, ...]:
        """The ids of the containers that are on it and run."""
        sweep.sweep(self._engine.paths)
        return tuple(networks.endpoints(self._engine.paths, self.id))

    def connect(
        self,
        container: str,
        *,
        ip: str = "",
        ip6: str = "",
        mac_address: str = "",
        aliases: Iterable[str] = (),
    ) -> None:
        """Join a container to it, now if it runs, and whenever it is started."""
        from .membership import connect

        wished = containers.Membership(
            network=self.name, ip=ip, ip6=ip6, mac=mac_address, aliases=tuple(aliases)
        )
        connect(self._engine, self._record, container, wished)

    def disconnect(self, container: str, *, force: bool = False) -> None:
        """Take a container off it; with ``force`` also one that is not there any more."""
        from .membership import disconnect

        disconnect(self._engine, self._record, container, force=force)

    def remove(self) -> None:
        """Remove it.  `ObjectInUse` while a running container is on it."""
        remove(self._engine, self.name)

    def inspect(self) -> dict[str, Json]:
        """Docker's document about it."""
        from .inspect import timestamp  # with all that shows containers

        record = self._record
        return {
            "Name": record.name,
            "Id": record.id,
            "Created": timestamp(record.created_ns),
            "Scope": "local",
            "Driver": record.driver,
            "EnableIPv6": record.ipv6,
            "IPAM": {
                "Driver": "default",
                "Options": None if self.is_predefined else {},
                "Config": [_subnet_document(each) for each in record.subnets],
            },
            "Internal": record.internal,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": dict(self._endpoint_documents()),
            "Options": _options_document(record),
            "Labels": dict(record.labels),
        }

    def _endpoint_documents(self) -> Iterator[tuple[str, Json]]:
        paths = self._engine.paths
        for container_id in self.containers():
            endpoint = networks.read_endpoint(paths, self.id, container_id)
            if endpoint is None:
                continue
            try:
                name = containers.read(paths, container_id).name
            except SandboxError:
                name = ""
            four, six = with_prefixes(self._record, endpoint.addresses)
            yield (
                container_id,
                {
                    "Name": name,
                    "EndpointID": endpoint_id(self.id, container_id),
                    "MacAddress": endpoint.mac,
                    "IPv4Address": four,
                    "IPv6Address": six,
                },
            )


def create(
    engine: Engine,
    name: str,
    *,
    driver: str,
    subnets: Iterable[str],
    gateways: Iterable[str],
    ip_ranges: Iterable[str],
    internal: bool,
    ipv6: bool,
    labels: Mapping[str, str],
    options: Mapping[str, str],
) -> Network:
    """Make a network and its bridge; what is left open is chosen."""
    engine.prepare()
    if name in networks.PREDEFINED:
        raise UsageError(f"operation is not permitted on predefined {name} network")
    if not networks.is_name(name):
        raise UsageError(
            f"Invalid network name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if driver in ("host", "null", "none"):
        raise UsageError(f'only one instance of "{driver}" network is allowed')
    if driver != networks.DRIVER:
        raise UsageError(f'plugin "{driver}" not found')
    if os.path.isdir(engine.paths.network(name)):
        raise Conflict(f"network with name {name} already exists")
    asked = _asked_subnets(tuple(subnets), tuple(gateways), tuple(ip_ranges))
    mtu = _checked_options(options, ipv6=ipv6)
    table = default(engine).table
    with _Turn():
        network_id = containers.new_id()
        record = NetworkRecord(
            name=name,
            id=network_id,
            bridge=_bridge_of(network_id),
            table=table,
            created_ns=time.time_ns(),
            subnets=_chosen(engine.paths, asked, ipv6=ipv6),
            internal=internal,
            ipv6=ipv6,
            mtu=mtu,
            labels=tuple(labels.items()),
            options=tuple(options.items()),
        )
        if not networks.make(engine.paths, record, durable=True):
            raise Conflict(f"network with name {name} already exists")
        try:
            ensure(engine.paths, record)
        except BaseException:
            try:
                _discard(engine.paths, record)
            except SandboxError:
                # Something of it may be there, and its document says what.
                pass
            raise
    _log(engine.paths, "create", record)
    return Network(engine, record)


def default(engine: Engine) -> NetworkRecord:
    """The record of the network ``bridge``, which is made when it is first asked for."""
    try:
        return networks.read(engine.paths, networks.DEFAULT)
    except NetworkNotFound:
        pass
    engine.prepare()
    with _Turn():
        network_id = containers.new_id()
        record = NetworkRecord(
            name=networks.DEFAULT,
            id=network_id,
            bridge=_bridge_of(network_id),
            table=f"sandbox_{os.urandom(4).hex()}",
            created_ns=time.time_ns(),
            subnets=_chosen(engine.paths, (), ipv6=False),
        )
        networks.make(engine.paths, record, durable=True)
        record = networks.read(engine.paths, networks.DEFAULT)
        ensure(engine.paths, record)
    return record


def find(engine: Engine, text: str) -> NetworkRecord:
    """The network of this name or id, also one of those that are always there."""
    for record in (predefined(engine.paths, name) for name in _PREDEFINED_DRIVERS):
        if text in (record.name, record.id) or (len(text) >= 12 and record.id.startswith(text)):
            return record
    if text == networks.DEFAULT:
        return default(engine)
    return networks.find(engine.paths, text)


def listing(
    engine: Engine, *, makes_default: bool = False
) -> tuple[list[Network], list[DamagedDocument]]:
    """All networks by name, and what is wrong with those that cannot be read.

    The default one is there when somebody has used it, or with ``makes_default``.
    """
    problems: list[DamagedDocument] = []
    if makes_default:
        try:
            default(engine)
        except DamagedDocument:
            pass  # said below
        except (SandboxError, OSError):
            pass  # nobody can have one here
    found = [Network(engine, predefined(engine.paths, name)) for name in _PREDEFINED_DRIVERS]
    found += _kept(engine, problems)
    return sorted(found, key=lambda each: each.name), problems


def _kept(engine: Engine, problems: list[DamagedDocument]) -> list[Network]:
    found = []
    for name in networks.names(engine.paths):
        try:
            found.append(Network(engine, networks.read(engine.paths, name)))
        except NetworkNotFound:
            continue
        except DamagedDocument as error:
            problems.append(error)
    return found


def predefined(paths: Paths, name: str) -> NetworkRecord:
    """``host`` or ``none``: their ids follow from the store, for nothing of them is kept."""
    import hashlib

    try:
        created_ns = os.stat(paths.root).st_ctime_ns
    except OSError:
        created_ns = 0
    return NetworkRecord(
        name=name,
        id=hashlib.sha256(f"{paths.root} {name}".encode()).hexdigest(),
        created_ns=created_ns,
        driver=_PREDEFINED_DRIVERS[name],
        bridge="",
        table="",
        subnets=(),
    )


def remove(engine: Engine, text: str) -> str:
    """Remove a network; its name.  `NetworkNotFound`, `ObjectInUse`."""
    record = find(engine, text)
    paths, name = engine.paths, record.name
    if name in networks.PREDEFINED:
        raise UsageError(f"{name} is a pre-defined network and cannot be removed")
    sweep.sweep(paths)
    try:
        held = lock.take(f"{paths.network(name)}/lock")
    except (FileNotFoundError, NotADirectoryError):
        raise NetworkNotFound(text) from None
    with held:
        users = tuple(networks.endpoints(paths, record.id))
        if users:
            raise ObjectInUse(
                f"error while removing network: network {name} id {record.id} has active endpoints",
                users=users,
            )
        _discard(paths, record)
    _log(paths, "destroy", record)
    return name


def prune(engine: Engine, is_wanted: Callable[[Network], bool]) -> tuple[str, ...]:
    """Remove the wanted networks that no container has, running or not; their names."""
    # Only those that are there: who removes does not make the default one.
    kept = sorted(_kept(engine, []), key=lambda each: each.name)
    found = [each for each in kept if not each.is_predefined and is_wanted(each)]
    mentioned = mentions(engine.paths)
    removed = []
    for network in found:
        if network.name in mentioned:
            continue
        try:
            network.remove()
        except (NetworkNotFound, ObjectInUse):
            continue  # somebody else was faster
        removed.append(network.name)
    events.append(engine.paths, "network", "prune", "", (("reclaimed", "0"),))
    return tuple(removed)


def mentions(paths: Paths) -> set[str]:
    """The names of the networks in the documents of all containers."""
    from .joining import memberships_of

    found = set()
    for container_id in containers.ids(paths):
        try:
            record = containers.read(paths, container_id)
        except (ContainerNotFound, DamagedDocument):
            continue
        found |= {each.network for each in memberships_of(record)}
    return found


def ensure(paths: Paths, record: NetworkRecord) -> None:
    """Make bridge and rules, or mend them, by the one who holds the network's lock or its turn."""
    from netns import NetnsError, nftables
    from netns.network import Network as Kernel

    networks.prepare(paths, record.id)
    try:
        if nftables.is_available():
            Kernel(config_of(record)).ensure()
            networks.mark_island(paths, record.id, is_island=False)
        else:
            # Without rules nothing is forwarded, and ports are relayed.
            Kernel(config_of(record, is_island=True)).ensure()
            networks.mark_island(paths, record.id, is_island=True)
        _plug_in(paths, record)
    except NetnsError as error:
        raise HostLacks(f"cannot make network {record.name}: {error}", hint=error.hint) from error


def _plug_in(paths: Paths, record: NetworkRecord) -> None:
    """Make the links of what runs ports of the bridge, where it is another one than theirs was."""
    from netns import LinkNotFound, packed

    with packed.Wire() as wire:
        bridge, _ = wire.look_up(record.bridge)
        for container_id in networks.endpoints(paths, record.id):
            endpoint = networks.read_endpoint(paths, record.id, container_id)
            if endpoint is None or not endpoint.link:
                continue
            link = endpoint.link
            act = f"make link {link} a port of bridge {record.bridge}"
            try:
                wire.ask(link, act, packed.up(link, master=bridge))
                wire.ask(link, act, packed.up(link, hairpin=True))
            except LinkNotFound:
                continue  # it is about to be made, or has just ended


def config_of(record: NetworkRecord, *, is_island: bool = False) -> NetworkConfig:
    """The network as `netns` takes it; an island has no rules."""
    from netns import NetworkConfig, Subnet

    return NetworkConfig(
        bridge=record.bridge,
        table="" if is_island else record.table,
        subnets=tuple(
            Subnet(cidr=each.cidr, gateway=each.gateway, range=each.ip_range)
            for each in record.subnets
        ),
        mtu=record.mtu,
        internal=record.internal,
        masquerade=dict(record.options).get(MASQUERADE, "true") not in ("false", "0"),
    )


def endpoint_id(network_id: str, container_id: str) -> str:
    """Docker's id of a container's place on a network."""
    import hashlib

    return hashlib.sha256(f"{network_id}{container_id}".encode()).hexdigest()


def with_prefixes(record: NetworkRecord, addresses: Iterable[str]) -> tuple[str, str]:
    """The IPv4 and the IPv6 address as ``172.17.0.2/16``; empty where there is none."""
    four = six = ""
    for address in addresses:
        prefix = next(
            (
                s.cidr.partition("/")[2]
                for s in record.subnets
                if (":" in s.cidr) == (":" in address)
            ),
            "",
        )
        if ":" in address:
            six = six or f"{address}/{prefix}"
        else:
            four = four or f"{address}/{prefix}"
    return four, six


# How


def _discard(paths: Paths, record: NetworkRecord) -> None:
    """Take back bridge and rules, and then the document."""
    from netns import NetnsError
    from netns.network import Network as Kernel

    from .resolving import stop

    stop(paths.live_network(record.id))
    try:
        is_island = networks.is_island(paths, record.id)
        Kernel(config_of(record, is_island=is_island)).remove()
    except NetnsError as error:
        raise HostLacks(f"cannot remove network {record.name}: {error}", hint=error.hint) from error
    trash = f"{sweep.TRASH}{os.urandom(16).hex()}"
    os.rename(paths.network(record.name), f"{paths.staging}/{trash}")
    sweep.delete_tree(paths.staging, trash)
    try:
        sweep.delete_tree(os.path.dirname(paths.live_network(record.id)), record.id)
    except FileNotFoundError:
        pass


def _log(paths: Paths, action: str, record: NetworkRecord) -> None:
    pairs = (("name", record.name), ("type", record.driver))
    events.append(paths, "network", action, record.id, pairs)


def log_endpoint(paths: Paths, action: str, record: NetworkRecord, container_id: str) -> None:
    """Append that a container came to a network, or left it."""
    pairs = (("container", container_id), ("name", record.name), ("type", record.driver))
    events.append(paths, "network", action, record.id, pairs)


def _bridge_of(network_id: str) -> str:
    return f"sb-{network_id[:10]}"


class _Turn:
    """One engine of a host's network namespace at a time chooses addresses.

    The lock is on the namespace itself, which every engine in it can open and no file system
    shows to others.  One that somebody keeps for good is not waited for.
    """

    def __enter__(self) -> None:
        import fcntl

        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        deadline = time.monotonic() + _TURN_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            return

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _asked_subnets(
    subnets: tuple[str, ...], gateways: tuple[str, ...], ip_ranges: tuple[str, ...]
) -> tuple[SubnetRecord, ...]:
    """What was asked for, each gateway and range with its subnet, in docker's words."""
    import ipaddress

    whole = [_network(text, "subnet") for text in subnets]
    for at, one in enumerate(whole):
        if any(one.overlaps(other) for other in whole[:at] if other.version == one.version):
            raise UsageError("multiple overlapping subnet configuration is not supported")
    ways: dict[int, str] = {}
    for text in gateways:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise UsageError(f"invalid gateway address: {text}") from None
        at = next((n for n, one in enumerate(whole) if address in one), -1)
        if at < 0:
            raise UsageError(f"no matching subnet for gateway {text}")
        if at in ways:
            raise UsageError(
                f"cannot configure multiple gateways ({text}, {ways[at]}) on the same subnet "
                f"({subnets[at]})"
            )
        ways[at] = str(address)
    parts: dict[int, str] = {}
    for text in ip_ranges:
        part = _network(text, "ip-range")
        at = next(
            (
                n
                for n, one in enumerate(whole)
                if int(one[0]) <= int(part[0]) <= int(part[-1]) <= int(one[-1])
                and one.version == part.version
            ),
            -1,
        )
        if at < 0:
            raise UsageError(f"no matching subnet for range {text}")
        if at in parts:
            raise UsageError(
                f"cannot configure multiple ranges ({text}, {parts[at]}) on the same subnet "
                f"({subnets[at]})"
            )
        parts[at] = str(part)
    return tuple(
        SubnetRecord(
            cidr=str(one), gateway=ways.get(at, "") or str(one[1]), ip_range=parts.get(at, "")
        )
        for at, one in enumerate(whole)
    )


def _network(text: str, what: str) -> IPNetwork:
    import ipaddress

    address, slash, _prefix = text.partition("/")
    try:
        if not slash:
            raise ValueError
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        if what == "subnet":
            raise UsageError(f"Invalid subnet {text} : invalid CIDR address: {text}") from None
        raise UsageError(f"invalid {what} {text}: invalid CIDR address: {text}") from None
    if what == "subnet" and str(found.network_address) != str(ipaddress.ip_address(address)):
        raise UsageError(f"invalid network config: invalid subnet {text}: it should be {found}")
    if what == "subnet" and found.num_addresses < 4:
        raise UsageError(f"subnet {text} has no room: it holds fewer than two containers")
    return found


def _checked_options(options: Mapping[str, str], *, ipv6: bool) -> int:
    """Refuse what no network here can do; the MTU."""
    for name in options:
        if name not in OPTIONS:
            raise UsageError(
                f'unknown network option "{name}"', hint=f"there are {', '.join(OPTIONS)}"
            )
    text = next((options[name] for name in MTU_OPTIONS if name in options), "")
    if not text:
        return 0
    least = LEAST_MTU_IPV6 if ipv6 else LEAST_MTU
    if not (text.isascii() and text.isdigit() and least <= int(text) <= MOST_MTU):
        raise UsageError(f"invalid MTU {text}: {least} to {MOST_MTU} are allowed")
    return int(text)


def _chosen(
    paths: Paths, asked: tuple[SubnetRecord, ...], *, ipv6: bool
) -> tuple[SubnetRecord, ...]:
    """The subnets of a new network, none of which overlaps what there is; the turn is ours."""
    import ipaddress

    linked, routed = _taken_by_host()
    others = [each.cidr for name in networks.names(paths) for each in _subnets_of(paths, name)]
    for subnet in asked:
        wanted = ipaddress.ip_network(subnet.cidr)
        for one in (*others, *linked):
            other = ipaddress.ip_interface(one).network
            if other.version == wanted.version and other.overlaps(wanted):
                hint = f"{one} is " + (
                    "an address of this host" if one in linked else "another network's"
                )
                raise Conflict("Pool overlaps with other one on this address space", hint=hint)
    chosen = [*asked]
    if not any(":" not in each.cidr for each in chosen):
        chosen.insert(0, _free_subnet((*others, *linked, *routed)))
    has6 = any(":" in each.cidr for each in chosen)
    if ipv6 and not has6:
        # RFC 4193: a prefix of nobody else's, by chance.
        prefix = ipaddress.IPv6Network((b"\xfd" + os.urandom(7) + bytes(8), 64))
        chosen.append(SubnetRecord(cidr=str(prefix), gateway=str(prefix[1])))
    if has6 and not ipv6:
        raise UsageError("an IPv6 subnet needs IPv6 to be enabled", hint="add --ipv6")
    return tuple(chosen)


def _free_subnet(taken: tuple[str, ...]) -> SubnetRecord:
    import ipaddress

    from netns import AddressesExhausted, ipam

    for pool, prefix in POOLS:
        try:
            cidr = ipam.free_subnet(pool, prefix, taken)
        except AddressesExhausted:
            continue
        return SubnetRecord(cidr=cidr, gateway=str(ipaddress.ip_network(cidr)[1]))
    raise Conflict(
        "all predefined address pools have been fully subnetted",
        hint="choose one with --subnet, or `sandbox network prune`",
    )


def _taken_by_host() -> tuple[list[str], list[str]]:
    """The networks of this host's addresses, and the destinations of its routes."""
    from netns import NetnsError
    from netns.netlink import Netlink

    try:
        with Netlink.open() as netlink:
            linked = [one for one in netlink.all_addresses() if not one.startswith("fe80:")]
            return linked, [one.destination for one in netlink.routes()]
    except NetnsError as error:
        raise HostLacks(f"cannot ask this host for its addresses: {error}") from error


def _subnets_of(paths: Paths, name: str) -> tuple[SubnetRecord, ...]:
    try:
        return networks.read(paths, name).subnets
    except (NetworkNotFound, DamagedDocument):
        return ()


def _subnet_document(subnet: SubnetRecord) -> Json:
    made: dict[str, Json] = {"Subnet": subnet.cidr}
    if subnet.ip_range:
        made["IPRange"] = subnet.ip_range
    made["Gateway"] = subnet.gateway
    return made


def _options_document(record: NetworkRecord) -> dict[str, Json]:
    made: dict[str, Json] = dict(record.options)
    if record.name == networks.DEFAULT:
        made = {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": record.bridge,
            "com.docker.network.driver.mtu": str(record.mtu or 1500),
        }
    return made
