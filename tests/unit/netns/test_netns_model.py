"""Records, names, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import netns
from netns import Endpoint, NetworkConfig, Subnet, model
from netns.network import Network

ROOT = Path(__file__).parents[3]
SUBNETS = (
    Subnet(cidr="10.0.0.0/24", gateway="10.0.0.1"),
    Subnet(cidr="fd00::/64", gateway="fd00::1"),
)


def network(**options: object) -> Network:
    return Network(NetworkConfig(bridge="br0", table="t", subnets=SUBNETS, **options))


def test_importing_the_library_loads_nothing_dear() -> None:
    program = (
        f"import sys; sys.path.append({str(ROOT)!r}); import netns, netns.network, netns.ports, "
        "netns.ipam, netns.link, netns.bridge, netns.veth, netns.packed; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )

    dear = {"pyroute2", "ipaddress", "json", "re", "socket", "subprocess", "typing", "ctypes"}
    assert not dear & set(done.stdout.split())


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        SUBNETS[0].cidr = "10.1.0.0/24"  # type: ignore[misc]  # what is tried


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b", "..", "all", 'a"b'])
def test_a_name_that_no_link_can_have_is_refused(name: str) -> None:
    with pytest.raises(netns.InvalidValue, match="link name"):
        model.checked_link_name(name)


@pytest.mark.parametrize("mac", ["", "02:42:00:00:00", "02:42:00:00:00:0g", "01:00:5e:00:00:01"])
def test_a_hardware_address_of_no_link_is_refused(mac: str) -> None:
    with pytest.raises(netns.InvalidValue, match="hardware address"):
        model.checked_mac(mac)


def test_a_hardware_address_comes_from_the_address() -> None:
    assert model.mac_of("10.1.2.3/24") == "02:42:0a:01:02:03"
    assert model.mac_of("fd00::1:2") == "02:42:00:01:00:02"


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.2/33", "10.0.0.2/x", "fd00::/129", "a"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(netns.InvalidValue, match="invalid address"):
        model.packed_address(text)


def test_an_endpoint_gets_a_way_out_of_each_family_that_it_has() -> None:
    both = network(mtu=1400).filled(Endpoint(link="v", addresses=("10.0.0.2/24", "fd00::2/64")))
    one = network().filled(Endpoint(link="v", addresses=("10.0.0.2/24",)))

    assert [route.gateway for route in both.routes] == ["10.0.0.1", "fd00::1"]
    assert both.mtu == 1400
    assert [route.gateway for route in one.routes] == ["10.0.0.1"]


def test_an_internal_network_has_no_way_out() -> None:
    filled = network(internal=True).filled(Endpoint(link="v", addresses=("10.0.0.2/24",)))

    assert filled.routes == ()


def test_a_lease_is_taken_of_each_subnet_or_of_none(tmp_path: Path) -> None:
    store = netns.FileLeases(str(tmp_path / "leases"))

    leases = network().lease(store, "web", wanted=("fd00::9",))
    with pytest.raises(netns.AddressTaken, match="web"):
        network().lease(store, "other", wanted=("fd00::9",))

    assert network().addresses(leases) == ("10.0.0.2/24", "fd00::9/64")
    assert {one.owner for one in netns.ipam.leased(store)} == {"web"}
