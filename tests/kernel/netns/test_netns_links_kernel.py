"""Links, bridges, addresses and routes against the real kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires

import netns
from netns import Endpoint, Namespace, Netlink, Route, bridge, link, settings, veth

pytestmark = requires.root

ROOT = Path(__file__).parents[3]


@pytest.fixture
def netlink(host: Namespace) -> Iterator[Netlink]:
    with Netlink.open(host) as opened:
        yield opened


def make_bridge(netlink: Netlink, host: Namespace, *addresses: str, mtu: int = 0) -> None:
    bridge.ensure(netlink, host, "br0", addresses=addresses, mtu=mtu)


def test_a_bridge_has_its_addresses_mtu_and_a_lasting_mac(
    netlink: Netlink, host: Namespace
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24", mtu=1400)

    made = netlink.link("br0")
    assert (made.kind, made.mtu, made.is_up) == ("bridge", 1400, True)
    assert made.mac == "02:42:0a:09:00:01"
    assert netlink.addresses("br0") == ("10.9.0.1/24",)


def test_a_bridge_without_ipv6_has_none_and_hears_no_router(
    netlink: Netlink, host: Namespace
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")

    with host.entered():
        assert settings.read("ipv6/conf/br0/disable_ipv6") == "1"
        assert settings.read("ipv6/conf/br0/accept_ra") == "0"


def test_a_bridge_is_mended(netlink: Netlink, host: Namespace) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")
    netlink.remove_address("br0", "10.9.0.1/24")
    netlink.add_address("br0", "10.8.0.1/24")
    netlink.change("br0", up=False)
    index = netlink.link("br0").index

    make_bridge(netlink, host, "10.9.0.1/24")

    assert netlink.addresses("br0") == ("10.9.0.1/24",)
    assert netlink.link("br0").is_up
    assert netlink.link("br0").index == index


def test_a_link_of_another_kind_is_not_taken_for_the_bridge(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    netlink.add_veth("br0", peer="other", peer_namespace=new())

    with pytest.raises(netns.LinkExists, match="of kind veth"):
        make_bridge(netlink, host, "10.9.0.1/24")
    with pytest.raises(netns.LinkExists, match="no bridge"):
        bridge.remove(netlink, "br0")


def test_a_removed_bridge_is_nothing_to_remove(netlink: Netlink, host: Namespace) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")

    bridge.remove(netlink, "br0")
    bridge.remove(netlink, "br0")

    assert not netlink.has_link("br0")


def test_an_endpoint_is_plumbed(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24", "fd00:9::1/64")
    inside = new()
    endpoint = Endpoint(
        link="ve1",
        addresses=("10.9.0.2/24", "fd00:9::2/64"),
        routes=(
            Route(destination="default", gateway="10.9.0.1", link="eth0"),
            Route(destination="default", gateway="fd00:9::1", link="eth0"),
        ),
        mtu=1300,
    )

    veth.create(host, "br0", endpoint, inside)

    assert bridge.ports(netlink, "br0") == ("ve1",)
    with Netlink.open(inside) as inner:
        made = inner.link("eth0")
        assert (made.mac, made.mtu, made.is_up) == ("02:42:0a:09:00:02", 1300, True)
        assert {"10.9.0.2/24", "fd00:9::2/64"} < set(inner.addresses("eth0"))
        assert set(endpoint.routes) < set(inner.routes())
        assert "127.0.0.1/8" in inner.addresses("lo")
    with inside.entered():
        assert settings.read("ipv6/conf/eth0/accept_ra") == "0"
    with host.entered():
        assert settings.read("ipv6/conf/ve1/disable_ipv6") == "1"


def test_an_endpoint_without_ipv6_has_not_even_an_address_of_the_link(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")
    inside = new()

    veth.create(host, "br0", Endpoint(link="ve1", addresses=("10.9.0.2/24",)), inside)

    with Netlink.open(inside) as inner:
        assert inner.addresses("eth0") == ("10.9.0.2/24",)


def test_a_failed_endpoint_leaves_no_link(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")
    routes = (Route(destination="default", gateway="192.0.2.99", link="eth0"),)
    endpoint = Endpoint(link="ve1", addresses=("10.9.0.2/24",), routes=routes)

    with pytest.raises(netns.LinkError, match=r"default by 192\.0\.2\.99"):
        veth.create(host, "br0", endpoint, new())

    assert not netlink.has_link("ve1")


def test_removing_the_pair_twice_is_nothing(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")
    endpoint = Endpoint(link="ve1", addresses=("10.9.0.2/24",))
    veth.create(host, "br0", endpoint, new())

    veth.remove(netlink, endpoint)
    veth.remove(netlink, endpoint)

    assert not netlink.has_link("ve1")


def test_a_link_is_renamed_moved_and_changed(
    netlink: Netlink, host: Namespace, new: Callable[[], Namespace]
) -> None:
    inside = new()
    netlink.add_bridge("one")

    link.rename(netlink, "one", "two")
    link.set_mtu(netlink, "two", 1280)
    link.set_mac(netlink, "two", "02:00:00:00:00:01")
    netlink.add_veth("three", peer="four", peer_namespace=host)
    link.move(netlink, "three", inside)

    made = netlink.link("two")
    assert (made.mtu, made.mac) == (1280, "02:00:00:00:00:01")
    assert not netlink.has_link("three")
    with Netlink.open(inside) as inner:
        assert inner.has_link("three")


def test_errors_name_the_link_and_what_was_asked(netlink: Netlink) -> None:
    netlink.add_bridge("br0")

    with pytest.raises(netns.LinkExists, match="cannot make bridge br0 in a new namespace"):
        netlink.add_bridge("br0")
    with pytest.raises(netns.LinkNotFound, match="cannot look up link gone") as caught:
        netlink.change("gone", up=True)
    assert caught.value.name == "gone"


def test_an_address_and_a_route_twice_are_nothing(netlink: Netlink, host: Namespace) -> None:
    make_bridge(netlink, host, "10.9.0.1/24")
    route = Route(destination="10.77.0.0/16", gateway="10.9.0.7", link="br0")

    netlink.add_address("br0", "10.9.0.1/24")
    netlink.add_route(route)
    netlink.add_route(route)
    assert route in netlink.routes()
    netlink.remove_route(route)
    netlink.remove_route(route)

    assert route not in netlink.routes()


def test_plumbing_an_endpoint_loads_no_pyroute2() -> None:
    program = """
import sys
from netns import Endpoint, Namespace, packed, veth
with Namespace.create() as host, Namespace.create() as inside:
    with host.entered(), packed.Wire() as wire:
        wire.ask("br0", "make bridge", BRIDGE)
    endpoint = Endpoint(link="ve1", addresses=("10.9.0.2/24", "fd00::2/64"))
    veth.create(host, "br0", endpoint, inside)
print(*sys.modules)
"""
    from netns import packed

    body = packed._LINK.pack(0, 0, 0, 0, 0) + packed.text(packed._IFLA_IFNAME, "br0")
    info = packed.attribute(packed._IFLA_LINKINFO, packed.text(packed._IFLA_INFO_KIND, "bridge"))
    made = packed._message(packed.RTM_NEWLINK, packed.NLM_F_CREATE, body + info)
    head = f"import sys; sys.path.append({str(ROOT)!r}); BRIDGE = {made!r}"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", head + program], stdout=subprocess.PIPE, text=True, check=True
    )

    dear = {"pyroute2", "ipaddress", "json", "re", "socket", "subprocess", "typing", "contextlib"}
    assert not dear & set(done.stdout.split())
