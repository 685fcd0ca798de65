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
    from .joining import Joined
    from .options import RunOptions


def prepare(
    paths: Paths,
    record: ContainerRecord,
    options: RunOptions,
    hostname: str,
    joined: Iterable[Joined],
) -> None:
    """Write ``hosts`` and ``resolv.conf`` of a start, and see to its resolvers."""
    found = tuple(joined)
    folder = paths.container(record.id)
    if not found:
        hosts.write(f"{folder}/hosts", etc.hosts_text(options, hostname), is_running=False)
        return
    made = [each.network for each in found if each.network.name != networks.DEFAULT]
    default = next((e.network for e in found if e.network.name == networks.DEFAULT), None)
    place = etc.Place(
        addresses=tuple(one.partition("/")[0] for each in found for one in each.addresses),
        gateway=_gateway(found[0].network),
        resolver=_gateway(made[0]) if made else "",
    )
    for network in made:
        see_to_resolver(paths, network)
    text, needs_resolver = etc.resolv_text_at(options, place)
    if needs_resolver:
        try:
            see_to_resolver(paths, found[0].network, answers=False)
        except SandboxError:
            pass  # a host without a resolver of its own: the run may do without names
    hosts.write(f"{folder}/resolv.conf", text, is_running=False)
    text = etc.hosts_text(options, hostname, place)
    if default is None:
        hosts.write(f"{folder}/hosts", text, is_running=False)
    else:
        hosts.join(paths, paths.live_network(default.id), record.id, text)


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


def _gateway(network: NetworkRecord) -> str:
    four = (each.gateway for each in network.subnets if ":" not in each.cidr)
    return next(four, network.subnets[0].gateway)
