"""Messages packed by hand are those of pyroute2, byte for byte."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netns import Endpoint, InvalidValue, Route, packed

MAC = "02:42:0a:00:00:02"


def encoded(message: Any, type_: int, how: int, attributes: list[Any], **fields: int) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message["header"]["type"] = type_
    message["header"]["flags"] = how | packed.NLM_F_REQUEST | packed.NLM_F_ACK
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    message.encode()
    return bytes(message.data)


@pytest.mark.parametrize("mtu", [0, 1400])
@pytest.mark.parametrize("master", [0, 9])
@pytest.mark.parametrize("name", ["v", "ve-12345", "fifteen-letters"])
def test_a_veth(name: str, master: int, mtu: int) -> None:
    size = [("IFLA_MTU", mtu)] if mtu else []
    port = [("IFLA_MASTER", master)] if master else []
    peer = {
        "attrs": [
            ("IFLA_IFNAME", "eth0"),
            ("IFLA_ADDRESS", MAC),
            *size,
            ("IFLA_NET_NS_FD", 7),
        ]
    }
    info = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
    ]
    expected = encoded(
        ifinfmsg(),
        packed.RTM_NEWLINK,
        packed.NLM_F_CREATE | packed.NLM_F_EXCL,
        [("IFLA_IFNAME", name), *size, *port, ("IFLA_LINKINFO", {"attrs": info})],
    )

    made = packed.veth(name, peer="eth0", peer_namespace=7, mac=MAC, mtu=mtu, master=master)
    assert made == expected
    # Who has no descriptor yet puts it there.
    assert made[-4:] == struct.pack("=i", 7)


@pytest.mark.parametrize("master", [0, 9])
@pytest.mark.parametrize("hairpin", [False, True])
def test_a_link_comes_up(hairpin: bool, master: int) -> None:
    info = [
        ("IFLA_INFO_SLAVE_KIND", "bridge"),
        ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]}),
    ]
    port = [("IFLA_LINKINFO", {"attrs": info})] if hairpin else []
    bridge = [("IFLA_MASTER", master)] if master else []
    attributes = [("IFLA_IFNAME", "eth0"), *bridge, *port]
    expected = encoded(ifinfmsg(), packed.RTM_NEWLINK, 0, attributes, flags=1, change=1)

    assert packed.up("eth0", hairpin=hairpin, master=master) == expected


def test_a_link_goes() -> None:
    expected = encoded(ifinfmsg(), packed.RTM_DELLINK, 0, [("IFLA_IFNAME", "eth0")])

    assert packed.remove("eth0") == expected


@pytest.mark.parametrize(
    ("text", "prefix"), [("10.0.0.2/24", 24), ("fd00::2/64", 64), ("10.0.0.2", 32)]
)
def test_an_address(text: str, prefix: int) -> None:
    host = text.partition("/")[0]
    is_ipv6 = ":" in host
    expected = encoded(
        ifaddrmsg(),
        packed.RTM_NEWADDR,
        packed.NLM_F_CREATE | packed.NLM_F_REPLACE,
        [("IFA_LOCAL", host), ("IFA_ADDRESS", host)],
        family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
        prefixlen=prefix,
        flags=packed.IFA_F_NODAD if is_ipv6 else 0,
        index=5,
    )

    assert packed.address(5, text) == expected


@pytest.mark.parametrize("gateway", ["10.0.0.1", "fd00::1"])
def test_a_default_route(gateway: str) -> None:
    expected = encoded(
        rtmsg(),
        packed.RTM_NEWROUTE,
        packed.NLM_F_CREATE | packed.NLM_F_REPLACE,
        [("RTA_GATEWAY", gateway)],
        family=socket.AF_INET6 if ":" in gateway else socket.AF_INET,
        table=254,
        proto=4,
        scope=0,
        type=1,
    )

    assert packed.default_route(gateway) == expected


def test_a_question_for_a_link() -> None:
    expected = encoded(ifinfmsg(), packed.RTM_GETLINK, 0, [("IFLA_IFNAME", "eth0")])

    assert packed.look_up("eth0") == expected


def test_an_endpoint_is_three_rows_of_these_messages() -> None:
    endpoint = Endpoint(
        link="ve1",
        addresses=("10.0.0.2/24", "fd00::2/64"),
        routes=(Route(destination="default", gateway="10.0.0.1"),),
        hairpin=True,
    )

    make, plumb, settle = packed.plumbing(endpoint, "br0", 9)

    pair = packed.veth("ve1", peer="eth0", peer_namespace=0, mac=MAC, master=9)
    assert make == pair + packed.up("ve1", hairpin=True)
    assert plumb == (
        packed.address(0, "10.0.0.2/24")
        + packed.address(0, "fd00::2/64")
        + packed.up("eth0")
        + packed.default_route("10.0.0.1")
    )
    assert settle == packed.look_up("ve1") + packed.look_up("br0")


@pytest.mark.parametrize(
    "wrong", [{"addresses": ()}, {"link": "a/b"}, {"mac": "01:00:00:00:00:01"}]
)
def test_an_endpoint_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    endpoint = Endpoint(**({"link": "ve1", "addresses": ("10.0.0.2/24",)} | wrong))

    with pytest.raises(InvalidValue):
        packed.plumbing(endpoint, "br0", 9)
