"""What a container knows of the names on its networks: its files under /etc, and the resolvers.

On networks that were made by somebody, a resolver beside the gateway knows the names of the others;
on the default one they are in /etc/hosts.  The files are written at each start, when the
endpoints are in their folders and before the plan is sent.
"""

from __future__ import annotations

from ..errors import SandboxError
from ..state import networks
from . import etc, hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..paths import Paths
    from ..state.containers import ContainerRecord
    from ..state.networks import NetworkRecord
    from .options import RunOptions


def prepare(
    paths: Paths,
    record: ContainerRecord,
    options: RunOptions,
    hostname: str,
    joined: Iterable[tuple[NetworkRecord, tuple[str, ...]]],
    *,
    is_running: bool = False,
) -> None:
    """Write ``hosts`` and ``resolv.conf`` of a start, and see to its resolvers.

    ``joined`` are its networks, with its addresses there.  One that is running has its files
    changed in place.
    """
    found = tuple(joined)
    folder = paths.container(record.id)
    if not found:
        text = etc.hosts_text(options, hostname)
        hosts.write(f"{folder}/hosts", text, is_running=is_running)
        return
    made = [network for network, _ in found if network.name != networks.DEFAULT]
    default = next((network for network, _ in found if network.name == networks.DEFAULT), None)
    place = etc.Place(
        addresses=tuple(one.partition("/")[0] for _, addresses in found for one in addresses),
        gateway=_gateway(found[0][0]),
        resolver=_resolver(made),
    )
    for network in made:
        see_to_resolver(paths, network)
    text, needs_resolver = etc.resolv_text_at(options, place)
    if needs_resolver:
        try:
            see_to_resolver(paths, found[0][0], answers=False)
        except SandboxError:
            pass  # a host without a resolver of its own: the run may do without names
    hosts.write(f"{folder}/resolv.conf", text, is_running=is_running)
    text = etc.hosts_text(options, hostname, place)
    if default is None:
        hosts.write(f"{folder}/hosts", text, is_running=is_running)
    else:
        live = paths.live_network(default.id)
        hosts.join(paths, live, record.id, text, is_running=is_running)


def see_to_resolver(paths: Paths, network: NetworkRecord, *, answers: bool = True) -> None:
    """The network has a resolver; a quick look if it has one."""
    from .resolving import ensure

    ensure(
        paths.live_network(network.id),
        name=network.name,
        subnets=tuple((each.cidr, each.gateway) for each in network.subnets),
        internal=network.internal,
        answers=answers,
    )


def _resolver(made: list[NetworkRecord]) -> str:
    """Any of them knows the names of all that the container is on; one that asks others, if any."""
    if not made:
        return ""
    return _gateway(next((network for network in made if not network.internal), made[0]))


def _gateway(network: NetworkRecord) -> str:
    four = (each.gateway for each in network.subnets if ":" not in each.cidr)
    return next(four, network.subnets[0].gateway)
