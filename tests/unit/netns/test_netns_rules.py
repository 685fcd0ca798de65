"""The rules as text: what nft is handed."""

from __future__ import annotations

import pytest

import netns
from netns import NetworkConfig, PortMapping, Subnet, nat, nftables, ports
from netns.nftables import Chain, Declare, Drop, Element, Put, Set, Table, Take

TABLE = Table(
    name="t",
    sets=(Set(name="s", key="ifname"), Set(name="m", key="inet_service", value="ipv4_addr")),
    chains=(
        Chain(name="c", hook="forward", rules=("iifname @s accept", "drop")),
        Chain(name="plain", rules=()),
    ),
)
CONFIG = NetworkConfig(
    bridge="br0", table="t", subnets=(Subnet(cidr="10.0.0.0/24", gateway="10.0.0.1"),)
)


def test_a_table_is_declared_so_that_a_second_time_changes_nothing() -> None:
    assert nftables.text([Declare(table=TABLE)]).splitlines() == [
        "add table inet t",
        "add set inet t s { type ifname; }",
        "add map inet t m { type inet_service : ipv4_addr; }",
        "add chain inet t c { type filter hook forward priority 0; policy accept; }",
        "flush chain inet t c",
        "add chain inet t plain",
        "flush chain inet t plain",
        "add rule inet t c iifname @s accept",
        "add rule inet t c drop",
    ]


def test_elements_are_put_and_taken() -> None:
    one = Element(key=("tcp", 80), value=("10.0.0.2", 8080), comment="web")

    put = nftables.text([Put(table=TABLE, set="m", elements=(one,), new=True)])
    take = nftables.text([Take(table=TABLE, set="m", elements=(one,))])

    pair = 'tcp . 80 comment "web" : 10.0.0.2 . 8080'
    assert put == f"create element inet t m {{ {pair} }}\n"
    assert take.splitlines() == [
        f"add element inet t m {{ {pair} }}",
        "delete element inet t m { tcp . 80 }",
    ]


def test_no_elements_are_no_command() -> None:
    assert nftables.text([Put(table=TABLE, set="s", elements=())]) == ""


def test_a_table_that_is_not_there_can_be_dropped() -> None:
    assert nftables.text([Drop(table=TABLE)]) == "add table inet t\ndelete table inet t\n"


def test_the_rules_do_not_depend_on_the_networks() -> None:
    lines = nftables.text(nat.declaration(CONFIG)).splitlines()

    rules = [line for line in lines if line.startswith("add rule")]
    assert rules
    assert not any("br0" in line or "10.0.0" in line for line in rules)


@pytest.mark.parametrize(
    ("options", "sets"),
    [
        ({}, {"bridges", "loops", "homes4", "masqueraded"}),
        ({"masquerade": False}, {"bridges", "loops", "homes4"}),
        ({"internal": True}, {"bridges", "loops", "homes4", "internal"}),
    ],
)
def test_a_network_is_in_the_sets_of_what_it_wishes(
    options: dict[str, bool], sets: set[str]
) -> None:
    config = NetworkConfig(bridge="br0", table="t", subnets=CONFIG.subnets, **options)

    changes = nat.declaration(config)

    assert {change.set for change in changes if isinstance(change, Put)} == sets


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a;b", "a-b", "1a", "a" * 65])
def test_a_name_that_would_need_quoting_is_refused(name: str) -> None:
    with pytest.raises(netns.InvalidValue, match="table name"):
        nat.table(name)


@pytest.mark.parametrize("owner", ['a"b', "a b", "a\n", "x" * 121])
def test_an_owner_cannot_leave_its_comment(owner: str) -> None:
    mapping = PortMapping(host_port=80, address="10.0.0.2", port=80, owner=owner)

    with pytest.raises(netns.InvalidValue, match="owner"):
        ports.publish("t", (mapping,))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"host_port": 0}, "port 0"),
        ({"host_port": 70000}, "port 70000"),
        ({"host_address": "::1"}, "of the other family"),
        ({"host_address": "10.0.0"}, "invalid address"),
        ({"protocol": "icmp"}, "known are tcp, udp, sctp"),
        ({"address": "10.0.0.2; drop"}, "invalid address"),
    ],
)
def test_a_port_that_cannot_be_meant_is_refused(fields: dict[str, object], complaint: str) -> None:
    asked = {"host_port": 80, "address": "10.0.0.2", "port": 80} | fields

    with pytest.raises(netns.InvalidValue, match=complaint):
        ports.publish("t", (PortMapping(**asked),))
