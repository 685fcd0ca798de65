"""Messages packed by hand are those of pyroute2, byte for byte."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netns import packed

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


@pytest.mark.parametrize("name", ["v", "ve-12345", "fifteen-letters"])
def test_a_veth(name: str) -> None:
    peer = {
        "attrs": [
            ("IFLA_IFNAME", "eth0"),
            ("IFLA_ADDRESS", MAC),
            ("IFLA_MTU", 1400),
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
        [("IFLA_IFNAME", name), ("IFLA_MTU", 1400), ("IFLA_LINKINFO", {"attrs": info})],
    )

    assert packed.veth(name, peer="eth0", peer_namespace=7, mac=MAC, mtu=1400) == expected


@pytest.mark.parametrize("master", [0, 9])
def test_a_link_comes_up(master: int) -> None:
    attributes = [("IFLA_MASTER", master)] if master else []
    expected = encoded(ifinfmsg(), packed.RTM_NEWLINK, 0, attributes, index=3, flags=1, change=1)

    assert packed.up(3, master=master) == expected


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
        [("RTA_GATEWAY", gateway), ("RTA_OIF", 5)],
        family=socket.AF_INET6 if ":" in gateway else socket.AF_INET,
        table=254,
        proto=4,
        scope=0,
        type=1,
    )

    assert packed.default_route(5, gateway) == expected


def test_a_question_for_a_link() -> None:
    expected = encoded(ifinfmsg(), packed.RTM_GETLINK, 0, [("IFLA_IFNAME", "eth0")])

    assert packed.look_up("eth0") == expected
