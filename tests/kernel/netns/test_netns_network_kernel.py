"""Networks: packets through bridges and rules, between hosts of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requires
from kit.nethosts import HOST4, OUTSIDE4, OUTSIDE6, TABLE, Fabric, Server, call, is_silent

import netns
from netns import Namespace, Netlink, nat, nftables, settings

pytestmark = [requires.root, requires.program("nft")]

Serve = Callable[..., Server]


def test_containers_of_a_network_reach_each_other(fabric: Fabric, serve: Serve) -> None:
    network = fabric.network(ipv6=True)
    one, two = fabric.container(network), fabric.container(network)

    assert call(one, serve(two, "10.9.1.3", 80), "10.9.1.3", 80) == "10.9.1.2"
    assert call(one, serve(two, "fd00:1::3", 80), "fd00:1::3", 80) == "fd00:1::2"


def test_a_container_reaches_outside_with_the_hosts_address(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    inside = fabric.container(fabric.network())

    for protocol in ("tcp", "udp"):
        server = serve(outside, OUTSIDE4, 80, protocol)
        assert call(inside, server, OUTSIDE4, 80, protocol) == HOST4


def test_ipv6_is_masqueraded_too(fabric: Fabric, outside: Namespace, serve: Serve) -> None:
    inside = fabric.container(fabric.network(ipv6=True))

    seen = call(inside, serve(outside, OUTSIDE6, 80), OUTSIDE6, 80)

    assert seen == "2001:db8::1"


def test_without_masquerade_the_address_is_the_containers(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    inside = fabric.container(fabric.network(masquerade=False))
    with Netlink.open(outside) as netlink:
        route = netns.Route(destination="10.9.1.0/24", gateway=HOST4, link="wire")
        netlink.add_route(route)

    assert call(inside, serve(outside, OUTSIDE4, 80), OUTSIDE4, 80) == "10.9.1.2"


def test_containers_of_two_networks_do_not_reach_each_other(fabric: Fabric, serve: Serve) -> None:
    one = fabric.container(fabric.network(ipv6=True))
    other = fabric.container(fabric.network(ipv6=True))
    serve(other, "10.9.2.3", 80)
    serve(other, "fd00:2::3", 80)

    assert is_silent(one, "10.9.2.3", 80)
    assert is_silent(one, "fd00:2::3", 80)


def test_nobody_outside_reaches_a_container_by_its_address(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    inside = fabric.container(fabric.network())
    serve(inside, "10.9.1.2", 80)
    with Netlink.open(outside) as netlink:
        route = netns.Route(destination="10.9.1.0/24", gateway=HOST4, link="wire")
        netlink.add_route(route)

    assert is_silent(outside, "10.9.1.2", 80)


def test_the_host_reaches_a_container(fabric: Fabric, serve: Serve) -> None:
    inside = fabric.container(fabric.network())

    assert call(fabric.host, serve(inside, "10.9.1.2", 80), "10.9.1.2", 80) == "10.9.1.1"


def test_an_internal_network_has_no_way_out(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    fabric.network()  # so that the host forwards
    network = fabric.network(internal=True)
    inside, neighbour = fabric.container(network), fabric.container(network)
    serve(outside, OUTSIDE4, 80)
    assert is_silent(inside, OUTSIDE4, 80)

    # Nor by a route of its own making.
    with Netlink.open(inside) as netlink:
        route = netns.Route(destination="default", gateway="10.9.2.1", link="eth0")
        netlink.add_route(route)
    assert is_silent(inside, OUTSIDE4, 80)
    assert call(inside, serve(neighbour, "10.9.2.3", 80), "10.9.2.3", 80) == "10.9.2.2"


def test_a_container_does_not_reach_the_hosts_loopback(fabric: Fabric, serve: Serve) -> None:
    inside = fabric.container(fabric.network())
    serve(fabric.host, "127.0.0.1", 80)
    with inside.entered():
        settings.write("ipv4/conf/eth0/route_localnet", "1")
        settings.write("ipv4/conf/lo/route_localnet", "1")
    with Netlink.open(inside) as netlink:
        # As a hostile container would: everything leads to the bridge.
        netlink.remove_address("lo", "127.0.0.1/8")
        route = netns.Route(destination="127.0.0.0/8", gateway="10.9.1.1", link="eth0")
        netlink.add_route(route)

    assert is_silent(inside, "127.0.0.1", 80)


def test_ensure_mends_what_somebody_removed(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    network = fabric.network()
    with Netlink.open(fabric.host) as netlink:
        netlink.remove("br1")
    nat.remove(TABLE, namespace=fabric.host)
    network.ensure()
    network.ensure()

    inside = fabric.container(network)

    assert call(inside, serve(outside, OUTSIDE4, 80), OUTSIDE4, 80) == HOST4


def test_a_network_is_ready_until_somebody_removes_a_part(fabric: Fabric) -> None:
    network = fabric.network()
    fabric.network()
    assert network.is_ready()

    with Netlink.open(fabric.host) as netlink:
        netlink.change("br1", up=False)
        assert not network.is_ready()
        netlink.remove("br1")
    assert not network.is_ready()
    network.ensure()
    assert network.is_ready()
    nftables.apply(nat.withdrawal(network.config), namespace=fabric.host)
    assert not network.is_ready()
    nftables.run_text("flush ruleset", namespace=fabric.host)
    assert not network.is_ready()
    network.ensure()
    assert network.is_ready()


def test_ensure_twice_changes_nothing(fabric: Fabric) -> None:
    def rules() -> int:
        with fabric.host.entered():
            import subprocess

            return hash(subprocess.check_output(["nft", "list", "ruleset"]))

    network = fabric.network()
    before = rules()

    network.ensure()

    assert rules() == before


def test_a_removed_network_leaves_nothing_of_itself(fabric: Fabric) -> None:
    network = fabric.network()
    keeps = fabric.network()
    rules = nat.table(TABLE)

    network.remove()
    network.remove()

    with Netlink.open(fabric.host) as netlink:
        assert not netlink.has_link("br1")
        assert netlink.has_link(keeps.config.bridge)
    bridges = nftables.elements(rules, "bridges", namespace=fabric.host)
    assert [element.key for element in bridges["bridges"]] == [("br2",)]
    nat.remove(TABLE, namespace=fabric.host)
    assert nftables.elements(rules, "bridges", namespace=fabric.host) == {}
    network.remove()


def test_a_detached_endpoint_is_gone(fabric: Fabric) -> None:
    network = fabric.network()
    inside = fabric.container(network)

    network.detach(netns.Endpoint(link="ve1", addresses=("10.9.1.2/24",)))

    with Netlink.open(inside) as netlink:
        assert not netlink.has_link("eth0")


def test_a_namespace_that_is_dropped_takes_its_links_along(fabric: Fabric) -> None:
    network = fabric.network()
    inside = Namespace.create()
    network.attach(netns.Endpoint(link="drop", addresses=("10.9.1.9/24",)), inside)

    inside.close()

    import time

    deadline = time.monotonic() + 20
    with Netlink.open(fabric.host) as netlink:
        while netlink.has_link("drop"):
            assert time.monotonic() < deadline
            time.sleep(0.02)


FOREIGN = """
table ip filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        ip saddr 203.0.113.1 drop
    }
}
"""


def test_a_firewall_that_drops_what_it_does_not_know_lets_networks_through(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    nftables.run_text(FOREIGN, namespace=fabric.host)
    network = fabric.network()
    network.ensure()
    inside = fabric.container(network)
    server = serve(outside, OUTSIDE4, 80)

    assert call(inside, server, OUTSIDE4, 80) == HOST4

    there = nftables.commented_rules("ip", "filter", "FORWARD", namespace=fabric.host)
    assert [comment for _, comment in there] == [f"{TABLE}:br1"] * 2
    network.remove()
    assert nftables.commented_rules("ip", "filter", "FORWARD", namespace=fabric.host) == ()


@requires.program("iptables")
def test_iptables_shows_whose_the_rules_are(fabric: Fabric) -> None:
    import subprocess

    with fabric.host.entered():
        subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
    fabric.network()

    with fabric.host.entered():
        shown = subprocess.check_output(["iptables", "-S", "FORWARD"], text=True)

    assert f'-A FORWARD -i br1 -m comment --comment "{TABLE}:br1" -j ACCEPT' in shown


def test_a_host_that_listens_to_routers_goes_on_listening(
    fabric: Fabric, outside: Namespace
) -> None:
    fabric.network(ipv6=True)

    with fabric.host.entered():
        assert settings.read("ipv6/conf/all/forwarding") == "1"
        assert settings.read("ipv6/conf/wire/accept_ra") == "2"
        assert settings.read("ipv6/conf/br1/accept_ra") == "0"


def test_a_transaction_holds_as_a_whole_or_not_at_all(host: Namespace) -> None:
    rules = nat.table(TABLE)
    element = nftables.Element(key=('"br9"',))
    wrong = nftables.Put(table=rules, set="nonesuch", elements=(element,))

    with pytest.raises(netns.RulesRefused, match="No such file") as caught:
        nftables.apply((nftables.Declare(table=rules), wrong), namespace=host)

    assert "nonesuch" in caught.value.text
    assert not nftables.exists(rules, namespace=host)


def test_a_host_without_nft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "NFT", "no-such-nft")

    with pytest.raises(netns.RulesUnavailable) as caught:
        nftables.run_text("")
    assert "nftables" in caught.value.hint


def test_without_rules_a_network_is_an_island(
    fabric: Fabric, outside: Namespace, serve: Serve
) -> None:
    fabric.network()  # so that the host forwards
    configs = [
        netns.NetworkConfig(
            bridge=f"plain{number}",
            table="",
            subnets=(netns.Subnet(cidr=f"10.8.{number}.0/24", gateway=f"10.8.{number}.1"),),
        )
        for number in (1, 2)
    ]
    ends = []
    for number, config in enumerate(configs, 1):
        network = netns.Network(config, host=fabric.host)
        network.ensure()
        assert network.is_ready()
        for last in (2, 3):
            ends.append(fabric.new())
            endpoint = netns.Endpoint(
                link=f"pl{number}{last}", addresses=(f"10.8.{number}.{last}/24",)
            )
            network.attach(endpoint, ends[-1])
    one, neighbour, stranger, _ = ends
    server = serve(one, "10.8.1.2", 80)

    assert call(neighbour, server, "10.8.1.2", 80) == "10.8.1.3"
    assert call(fabric.host, server, "10.8.1.2", 80) == "10.8.1.1"
    assert is_silent(stranger, "10.8.1.2", 80)
    serve(outside, OUTSIDE4, 80)
    assert is_silent(one, OUTSIDE4, 80)
    with fabric.host.entered():
        settings.write("ipv4/conf/plain1/forwarding", "1")
    assert not netns.Network(configs[0], host=fabric.host).is_ready()
    netns.Network(configs[0], host=fabric.host).remove()
    with Netlink.open(fabric.host) as netlink:
        assert not netlink.has_link("plain1")


def test_nftables_is_looked_for(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nftables.is_available(namespace=host)

    monkeypatch.setattr(nftables, "NFT", "no-such-program")
    assert not nftables.is_available(namespace=host)
