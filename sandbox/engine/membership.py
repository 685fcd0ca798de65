"""Which networks a container is on: changed in its document, and at once if it runs."""

from __future__ import annotations

from ..errors import ContainerNotFound, NetworkNotFound, UsageError, WrongStatus
from ..monitor import protocol
from ..record import replace
from ..state import containers, networks
from ..state.document import read_bytes
from . import joining, journal, publishing, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..monitor.protocol import Started
    from ..state.containers import ContainerRecord, Membership
    from ..state.networks import NetworkRecord
    from .container import Container
    from .engine import Engine
    from .status import Status


def connect(engine: Engine, network: NetworkRecord, name: str, wished: Membership) -> None:
    """Join a container to a network, now if it runs, and at each start."""
    container = engine.container(name)
    _check_kind(container, network)
    if network.name == networks.DEFAULT and (wished.ip or wished.ip6):
        raise UsageError("user specified IP address is supported on user defined networks only")
    if network.name == networks.DEFAULT and wished.aliases:
        raise UsageError(
            "network-scoped alias is supported only for containers in user defined networks"
        )
    with container._lock():
        sweep.settle_locked(engine.paths, container.id)
        record = containers.read(engine.paths, container.id)
        current = joining.memberships_of(record)
        if any(each.network == network.name for each in current):
            raise UsageError(
                f"endpoint with name {record.name} already exists in network {network.name}"
            )
        changed = replace(record, networks=(*current, wished))
        joining.check(engine.paths, replace(record, networks=(wished,)))
        status = container.status()
        if status.is_live:
            _join_now(engine, container, changed, wished, status)
        containers.write(engine.paths, changed, durable=not record.auto_remove)


def disconnect(engine: Engine, network: NetworkRecord, name: str, *, force: bool) -> None:
    """Take a container off a network, now if it runs, and for its next starts."""
    try:
        container = engine.container(name)
    except ContainerNotFound:
        found = [each for each in networks.endpoints(engine.paths, network.id) if each == name]
        if not force or not found:
            raise
        joining.give_back(engine.paths, found[0], ((network.id, "", network.name),))
        return
    _check_kind(container, network)
    with container._lock():
        sweep.settle_locked(engine.paths, container.id)
        record = containers.read(engine.paths, container.id)
        current = joining.memberships_of(record)
        left = tuple(each for each in current if each.network != network.name)
        if left == current:
            raise UsageError(f"container {record.id} is not connected to network {network.name}")
        changed = replace(record, networks=left)
        containers.write(engine.paths, changed, durable=not record.auto_remove)
        if container.status().is_live:
            _leave_now(engine, container, changed, network)


def _check_kind(container: Container, network: NetworkRecord) -> None:
    mode = container.options.network
    if network.name == "host":
        raise UsageError(
            "container cannot be disconnected from host network or connected to host network"
        )
    if network.name == "none" or mode == "none":
        raise UsageError(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )
    if not containers.is_network(mode):
        raise UsageError(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )


def _join_now(
    engine: Engine,
    container: Container,
    record: ContainerRecord,
    wished: Membership,
    status: Status,
) -> None:
    paths = engine.paths
    first = _first_process(container)
    if first is None:
        raise WrongStatus(
            f"container {record.id} is between two runs", container=record.id, status=status.word
        )
    found, index, share = joining.ready(paths, wished.network)
    with share:
        taken = _links(engine, record)
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        link = joining.link_of(record.id, number)
        place = (found.id, link, found.name)
        journal.add(paths, record.id, f"endpoint {' '.join(place)}\n")
        try:
            joined = joining.join(
                *(paths, record, _hostname(container), found, wished, index),
                number=number,
                ways=_ways(engine, record, but=wished.network),
            )
            _name(engine, container, record)
            from ..runtime.connect import connect_endpoint  # of a running container alone

            connect_endpoint(first.pid, first.start_time, joined.plumbing)
        except BaseException:
            joining.remove_links((link,))
            joining.give_back(paths, record.id, (place,))
            raise
    _tell_monitor(engine, container, record)


def _first_process(container: Container) -> Started | None:
    live = container._paths.live_container(container.id)
    try:
        return protocol.parse_started(read_bytes(f"{live}/started"))
    except FileNotFoundError:
        return None


def _leave_now(
    engine: Engine, container: Container, record: ContainerRecord, network: NetworkRecord
) -> None:
    paths = engine.paths
    endpoint = networks.read_endpoint(paths, network.id, record.id)
    if endpoint is not None:
        # Before somebody else can have the addresses.
        publishing.withdraw_from(paths, record.id, endpoint.addresses)
    if endpoint is not None and endpoint.link:
        joining.remove_links((endpoint.link,))
    joining.give_back(paths, record.id, ((network.id, "", network.name),))
    _name(engine, container, record)
    _tell_monitor(engine, container, record)


def _name(engine: Engine, container: Container, record: ContainerRecord) -> None:
    """See to its names on the networks that it is on now; its files are changed in place."""
    from .naming import prepare

    found = []
    for membership in joining.memberships_of(record):
        network = networks.read(engine.paths, membership.network)
        endpoint = networks.read_endpoint(engine.paths, network.id, record.id)
        if endpoint is not None:
            found.append((network, endpoint.addresses))
    hostname = _hostname(container)
    prepare(engine.paths, record, container.options, hostname, found, is_running=True)


def _tell_monitor(engine: Engine, container: Container, record: ContainerRecord) -> None:
    """The links that the restart policy's next runs have."""
    from ..runtime.connect import set_endpoints

    ways: set[bool] = set()
    found = []
    for membership in joining.memberships_of(record):
        network, index, share = joining.ready(engine.paths, membership.network)
        with share:
            endpoint = networks.read_endpoint(engine.paths, network.id, record.id)
            if endpoint is None:
                continue
            name = f"eth{_number(endpoint.link)}"
            addresses = tuple(_with_prefix(network, each) for each in endpoint.addresses)
            found.append(
                joining.plumbing_of(
                    *(network, index, endpoint.link, name, addresses, endpoint.mac), ways=ways
                )
            )
    with container._control() as control:
        set_endpoints(control, found)


def _with_prefix(network: NetworkRecord, address: str) -> str:
    from netns import ipam
    from netns.model import Subnet

    for each in network.subnets:
        subnet = Subnet(cidr=each.cidr, gateway=each.gateway)
        if ipam.is_in(subnet, address):
            return ipam.with_prefix(subnet, address)
    return address


def _links(engine: Engine, record: ContainerRecord) -> set[int]:
    """The numbers of the links that it has."""
    found = set()
    for membership in joining.memberships_of(record):
        try:
            network = networks.read(engine.paths, membership.network)
        except NetworkNotFound:
            continue
        endpoint = networks.read_endpoint(engine.paths, network.id, record.id)
        if endpoint is not None and endpoint.link:
            found.add(_number(endpoint.link))
    return found


def _number(link: str) -> int:
    text = link[12:]
    return int(text) if text.isdigit() else 0


def _ways(engine: Engine, record: ContainerRecord, *, but: str) -> set[bool]:
    """The families (is it IPv6?) that have a way out by another network of the container."""
    ways = set()
    for membership in joining.memberships_of(record):
        if membership.network == but:
            continue
        try:
            network = networks.read(engine.paths, membership.network)
        except NetworkNotFound:
            continue
        if not network.internal:
            ways |= {":" in each.cidr for each in network.subnets}
    return ways


def _hostname(container: Container) -> str:
    return container.options.hostname or container.id[:12]
