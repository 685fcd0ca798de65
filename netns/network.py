"""Network: a bridge, its subnets and its rules together; endpoints attached and detached.

A `Network` does not remember: the bridge and the table are the kernel's, what was asked for is
the caller's `NetworkConfig`, and who has which address is the lease store's.  So each verb may be
called again after a crash, or by another process.

    is_ready  a quick look whether anybody removed it
    ensure    bridge, addresses, settings, rules: made, or mended where somebody broke them
    attach    a veth into a namespace, with addresses and the way out
    detach    takes it back
    remove    takes all of it back

Out of its scope: when to do this, names of containers, published ports (``netns.ports``).
"""

from __future__ import annotations

from netns import bridge, ipam, model, nat, nftables, settings, veth
from netns.errors import InvalidValue, LinkNotFound
from netns.model import Endpoint, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.ipam import LeaseStore
    from netns.model import Lease, NetworkConfig, Subnet
    from netns.namespace import Namespace


class Network:
    """A bridge network on a host; ``host`` is the namespace of the bridge, the thread's if None."""

    def __init__(self, config: NetworkConfig, *, host: Namespace | None = None) -> None:
        """Keep the wishes; nothing is made before `ensure`."""
        if not config.subnets:
            raise InvalidValue("network", config.bridge, "it has no subnet")
        for subnet in config.subnets:
            ipam.checked_subnet(subnet)
        model.checked_link_name(config.bridge)
        if config.table:
            model.checked_table_name(config.table)
        self.config = config
        self._host = host

    def ensure(self) -> None:
        """Make the network, or mend it; what is as it should be is left alone.

        Rules first: a bridge without them would be open to other networks for a moment.
        """
        from netns.netlink import Netlink

        config = self.config
        if config.table:
            nftables.apply(nat.declaration(config), namespace=self._host)
        with settings.in_namespace(self._host) as host, Netlink.open(host) as netlink:
            bridge.ensure(
                *(netlink, host, config.bridge),
                addresses=tuple(ipam.with_prefix(s, s.gateway) for s in config.subnets),
                mtu=config.mtu,
            )
            if not config.table:
                with host.entered():
                    nat.forward_nothing(config.bridge)
            elif not config.internal:
                with host.entered():
                    nat.allow_forwarding(ipv6=self._has(6))
                    nat.allow_loopback(config.bridge)
            if config.table:
                nat.pass_other_firewalls(
                    *(config.bridge, config.table),
                    gateways=tuple(subnet.gateway for subnet in config.subnets),
                    forwards=not config.internal,
                    namespace=host,
                )

    def is_ready(self) -> bool:
        """Whether the bridge is up and the rules know it: a quick look, for before each use.

        It sees what others remove (the bridge, the table, all of nftables), not that somebody
        changed an address or a rule.
        """
        from netns import packed

        config = self.config
        with settings.in_namespace(self._host) as host, host.entered():
            with packed.Wire(host.path) as wire:
                if not wire.is_up(config.bridge):
                    return False
            if not config.table:
                return nat.forwards_nothing(config.bridge)
            question = packed.link_in_set(config.table, "bridges", config.bridge)
            with packed.Wire(host.path, protocol=packed.NETLINK_NETFILTER) as wire:
                try:
                    wire.ask(config.bridge, f"look into table {config.table}", question)
                except LinkNotFound:
                    return False
        return True

    def attach(self, endpoint: Endpoint, namespace: Namespace) -> Endpoint:
        """Give the namespace a link to this network; the answer has what was left open filled in.

        An endpoint without routes gets a default route by each gateway of its addresses' families,
        unless the network is internal.
        """
        filled = self.filled(endpoint)
        with settings.in_namespace(self._host) as host:
            veth.create(host, self.config.bridge, filled, namespace)
        return filled

    def detach(self, endpoint: Endpoint) -> None:
        """Remove the endpoint's pair of links; dropping its namespace does the same, cheaper."""
        from netns.netlink import Netlink

        with Netlink.open(self._host) as netlink:
            veth.remove(netlink, endpoint)

    def filled(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with hardware address, MTU and routes where none are asked for."""
        if not endpoint.addresses:
            raise InvalidValue("endpoint", endpoint.link, "it has no address")
        return Endpoint(
            link=endpoint.link,
            name=endpoint.name,
            addresses=endpoint.addresses,
            routes=endpoint.routes or self._way_out(endpoint),
            mac=endpoint.mac or model.mac_of(endpoint.addresses[0]),
            mtu=endpoint.mtu or self.config.mtu,
            hairpin=endpoint.hairpin,
        )

    def lease(
        self, store: LeaseStore, owner: str, *, wanted: tuple[str, ...] = ()
    ) -> tuple[Lease, ...]:
        """Take an address of each subnet for the owner; all of them, or none."""
        taken = []
        left = list(wanted)
        try:
            for subnet in self.config.subnets:
                asked = next((one for one in left if _belongs(one, subnet)), "")
                if asked:
                    left.remove(asked)
                taken.append(ipam.lease(store, subnet, owner, wanted=asked))
            if left:
                raise InvalidValue("address", left[0], "it is in no subnet of the network")
        except BaseException:
            if taken:
                ipam.give_back(store, tuple(taken))
            raise
        return tuple(taken)

    def addresses(self, leases: tuple[Lease, ...]) -> tuple[str, ...]:
        """Leases as an endpoint has them: with the prefix of their subnet."""
        return tuple(
            ipam.with_prefix(subnet, lease.address)
            for lease in leases
            for subnet in self.config.subnets
            if _belongs(lease.address, subnet)
        )

    def remove(self) -> None:
        """Take back the bridge and its place in the rules; the table stays for other networks."""
        from netns.netlink import Netlink

        with Netlink.open(self._host) as netlink:
            bridge.remove(netlink, self.config.bridge)
        if not self.config.table:
            return
        nat.leave_other_firewalls(self.config.bridge, self.config.table, namespace=self._host)
        if nftables.exists(nat.table(self.config.table), namespace=self._host):
            nftables.apply(nat.withdrawal(self.config), namespace=self._host)

    def _way_out(self, endpoint: Endpoint) -> tuple[Route, ...]:
        if self.config.internal:
            return ()
        families = {model.is_ipv6(address) for address in endpoint.addresses}
        routes = []
        for is_ipv6 in sorted(families):
            ways = (s.gateway for s in self.config.subnets if model.is_ipv6(s.cidr) == is_ipv6)
            routes += [
                Route(destination="default", gateway=gateway, link=endpoint.name)
                for gateway in list(ways)[:1]
            ]
        return tuple(routes)

    def _has(self, version: int) -> bool:
        return any(model.network(s.cidr).version == version for s in self.config.subnets)


def _belongs(address: str, subnet: Subnet) -> bool:
    return ipam.is_in(subnet, address)
