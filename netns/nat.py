"""The rules of a caller's networks: masquerade, forwarding, isolation; one table for all of them.

The rules never change.  They look into sets that hold the networks' bridges, and into maps that
hold the published ports, so a network or a port is an element more and no rule is rewritten:

    bridges      every bridge
    loops        every bridge twice: from it and back to it
    homes4/6     every subnet with its bridge
    masqueraded  bridges whose packets leave with the host's address
    internal     bridges that nothing leaves and nothing enters
    named4/6     published ports of one address of the host
    any4/6       published ports of every address of the host

What they say, of new connections:

    out of a network           allowed, and masqueraded where that is asked for
    into a network             only to a published port
    between two networks       only to a published port
    inside a network           allowed
    an internal network        nothing but inside
    everything else            none of this table's business: other rules are left to say

Published ports work from the outside, from containers (a reply of a neighbour on the same bridge
must come back through the host, so that is masqueraded; by its address and not by the bridge it
comes from, which br_netfilter does not tell), from the host by its addresses, and by
loopback.  For the last, packets from 127.0.0.1 have to leave by a bridge, which Linux allows with
``route_localnet`` alone; it is set for the bridge only, and the chain ``guard`` drops what comes
from a bridge to 127.0.0.0/8 before anything else looks at it, so no service on the host's loopback
is reachable from a container.

Port 53 of a network's gateway is the network's own, for a resolver: what its containers send there
arrives, also where port 53 of the host is published.

Host and link names stay in the sets when a bridge is removed by others; that does no harm.
"""

from __future__ import annotations

from netns import model, settings
from netns.nftables import (
    Chain,
    Declare,
    Drop,
    Element,
    Put,
    Set,
    Table,
    Take,
    apply,
    base_chains,
    commented_rules,
    run_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.model import NetworkConfig
    from netns.namespace import Namespace
    from netns.nftables import Change

RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100

_KEY4, _KEY6 = "ipv4_addr . inet_proto . inet_service", "ipv6_addr . inet_proto . inet_service"
_TO4, _TO6 = "ipv4_addr . inet_service", "ipv6_addr . inet_service"
_LOCAL = "fib daddr type local jump publish"


def table(name: str) -> Table:
    """The table as it is to be; a function of its name alone."""
    return Table(
        name=model.checked_table_name(name),
        sets=(
            Set(name="bridges", key="ifname"),
            Set(name="loops", key="ifname . ifname"),
            Set(name="homes4", key="ipv4_addr . ifname", has_ranges=True),
            Set(name="homes6", key="ipv6_addr . ifname", has_ranges=True),
            Set(name="masqueraded", key="ifname"),
            Set(name="internal", key="ifname"),
            Set(name="named4", key=_KEY4, value=_TO4),
            Set(name="named6", key=_KEY6, value=_TO6),
            Set(name="any4", key="inet_proto . inet_service", value=_TO4),
            Set(name="any6", key="inet_proto . inet_service", value=_TO6),
        ),
        chains=(
            Chain(
                name="guard",
                hook="prerouting",
                priority=RAW,
                rules=("iifname @bridges ip daddr 127.0.0.0/8 drop",),
            ),
            Chain(
                name="publish",
                rules=(
                    "dnat ip to ip daddr . meta l4proto . th dport map @named4",
                    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @named6",
                    "dnat ip to meta l4proto . th dport map @any4",
                    "dnat ip6 to meta l4proto . th dport map @any6",
                ),
            ),
            Chain(
                name="arriving",
                hook="prerouting",
                type="nat",
                priority=DSTNAT,
                rules=(
                    "ip daddr . iifname @homes4 meta l4proto { tcp, udp } th dport 53 return",
                    "ip6 daddr . iifname @homes6 meta l4proto { tcp, udp } th dport 53 return",
                    _LOCAL,
                ),
            ),
            Chain(
                name="own",
                hook="output",
                type="nat",
                priority=DSTNAT,
                rules=("ip6 daddr ::1 return", _LOCAL),
            ),
            Chain(
                name="leaving",
                hook="postrouting",
                type="nat",
                priority=SRCNAT,
                rules=(
                    "ip saddr . oifname @homes4 ct status dnat masquerade",
                    "ip6 saddr . oifname @homes6 ct status dnat masquerade",
                    "iifname @masqueraded oifname != @bridges masquerade",
                    "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
                ),
            ),
            Chain(
                name="forward",
                hook="forward",
                priority=FILTER,
                rules=(
                    "iifname != @bridges oifname != @bridges return",
                    "ct state established,related accept",
                    "iifname . oifname @loops accept",
                    "iifname @internal drop",
                    "oifname @internal drop",
                    "ct status dnat accept",
                    "oifname @bridges drop",
                ),
            ),
        ),
    )


def declaration(config: NetworkConfig) -> tuple[Change, ...]:
    """The changes that put one network into its table, which is made if it is not there.

    The network may have been there with other wishes, so it is taken out of each set first.
    Other subnets are another network: that is removed with the ones that it had.
    """
    rules = table(config.table)
    changes: list[Change] = [Declare(table=rules), *_membership(config, rules, Take)]
    return (*changes, *_membership(config, rules, Put))


def withdrawal(config: NetworkConfig) -> tuple[Change, ...]:
    """The changes that take one network out of its table."""
    rules = table(config.table)
    return (Declare(table=rules), *_membership(config, rules, Take))


def remove(name: str, *, namespace: Namespace | None = None) -> None:
    """Remove the table; one that is not there is nothing to do."""
    apply((Drop(table=table(name)),), namespace=namespace)


def _membership(
    config: NetworkConfig, rules: Table, verb: type[Put] | type[Take]
) -> tuple[Change, ...]:
    bridge = f'"{model.checked_link_name(config.bridge)}"'
    one, both = Element(key=(bridge,)), Element(key=(bridge, bridge))
    members: dict[str, tuple[Element, ...]] = {"bridges": (one,), "loops": (both,)}
    for subnet in config.subnets:
        name = "homes6" if model.is_ipv6(subnet.cidr) else "homes4"
        home = Element(key=(str(model.network(subnet.cidr)), bridge))
        members[name] = (*members.get(name, ()), home)
    if verb is Take or (config.masquerade and not config.internal):
        members["masqueraded"] = (one,)
    if verb is Take or config.internal:
        members["internal"] = (one,)
    return tuple(verb(table=rules, set=name, elements=each) for name, each in members.items())


def allow_forwarding(*, ipv6: bool) -> None:
    """Let the thread's namespace forward packets.

    A host that forwards IPv6 stops listening to routers, and would lose its own default route
    with that: links that listened go on (``accept_ra`` 2).
    """
    settings.write("ipv4/ip_forward", "1")
    if not ipv6 or settings.read("ipv6/conf/all/forwarding") == "1":
        return
    import os

    for link in os.listdir(f"{settings.ROOT}/ipv6/conf"):
        path = f"ipv6/conf/{link}"
        listens = settings.read(f"{path}/accept_ra") == "1"
        if link != "all" and listens and settings.read(f"{path}/forwarding") == "0":
            settings.write(f"{path}/accept_ra", "2")
    settings.write("ipv6/conf/all/forwarding", "1")


def allow_loopback(bridge: str) -> None:
    """Let packets from 127.0.0.1 leave by the bridge; only with the chain ``guard`` in force."""
    settings.write(f"ipv4/conf/{bridge}/route_localnet", "1")


def forward_nothing(bridge: str) -> None:
    """Forward no packet that comes by the bridge: all that can be done without rules.

    Whoever makes the host forward (``net.ipv4.ip_forward``) undoes this, so it is looked at
    before each use: `forwards_nothing`.
    """
    for path in _forwarding(bridge):
        settings.write(path, "0", optional=True)


def forwards_nothing(bridge: str) -> bool:
    """Whether that is so; what is not there forwards nothing either."""
    return all(settings.read(path) in ("0", "") for path in _forwarding(bridge))


def _forwarding(bridge: str) -> tuple[str, str]:
    return f"ipv4/conf/{bridge}/forwarding", f"ipv6/conf/{bridge}/forwarding"


def pass_other_firewalls(
    bridge: str,
    own: str,
    *,
    gateways: tuple[str, ...] = (),
    forwards: bool = True,
    namespace: Namespace | None = None,
) -> None:
    """Let a bridge's packets through other tables whose chains drop what they do not know.

    A packet must pass every table; docker and others set the policy of iptables' FORWARD to drop,
    ufw that of INPUT, where the questions to a resolver on the gateways come by.  The rules stand
    first there and carry the table's and the bridge's name, so that iptables shows whose they
    are and `leave_other_firewalls` finds them.
    """
    label = _label(bridge, own)
    commands = []
    for family, other, chain, hook in _dropping(own, namespace):
        there = commented_rules(family, other, chain, namespace=namespace)
        if any(comment == label for _, comment in there):
            continue
        if hook == "input":
            ways = _questions(bridge, family, gateways)
        else:
            ways = [f'{way} "{bridge}"' for way in ("iifname", "oifname") if forwards]
        commands += [
            f'insert rule {family} {other} {chain} {way} counter accept comment "{label}"'
            for way in ways
        ]
    if commands:
        run_text("\n".join(commands) + "\n", namespace=namespace)


def _questions(bridge: str, family: str, gateways: tuple[str, ...]) -> list[str]:
    """What a chain of this family sees of questions to a resolver, in words that iptables has."""
    return [
        f'iifname "{bridge}" {kind} daddr {gateway} {protocol} dport 53'
        for gateway in gateways
        for kind in ("ip6" if model.is_ipv6(gateway) else "ip",)
        if family in ("inet", kind)
        for protocol in ("udp", "tcp")
    ]


def leave_other_firewalls(bridge: str, own: str, *, namespace: Namespace | None = None) -> None:
    """Take back what `pass_other_firewalls` put there."""
    label = _label(bridge, own)
    commands = [
        f"delete rule {family} {other} {chain.name} handle {handle}"
        for family, other, chain, _ in base_chains(namespace=namespace)
        if chain.hook in ("forward", "input") and other != own
        for handle, comment in commented_rules(family, other, chain.name, namespace=namespace)
        if comment == label
    ]
    if commands:
        run_text("\n".join(commands) + "\n", namespace=namespace)


def _dropping(own: str, namespace: Namespace | None) -> list[tuple[str, str, str, str]]:
    return [
        (family, other, chain.name, chain.hook)
        for family, other, chain, policy in base_chains(namespace=namespace)
        if chain.hook in ("forward", "input")
        and chain.type == "filter"
        and policy == "drop"
        and other != own
        and family in {"ip", "ip6", "inet"}
    ]


def _label(bridge: str, own: str) -> str:
    return f"{own}:{bridge}"
