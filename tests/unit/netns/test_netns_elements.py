"""Elements of maps packed by hand are those of pyroute2 and of libnftables, byte for byte."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from netns import InvalidValue, PortMapping, elements, nfnetlink, packed

INET = 1
REQUEST, CREATE, EXCL = packed.NLM_F_REQUEST, packed.NLM_F_CREATE, packed.NLM_F_EXCL
NEWSETELEM, GETSETELEM, DELSETELEM = 0xA0C, 0xA0D, 0xA0E

CASES = {
    "any4": (
        PortMapping(host_port=8080, address="10.0.0.2", port=80, owner="web"),
        bytes.fromhex("06000000 1f900000"),
        bytes.fromhex("0a000002 00500000"),
    ),
    "any6": (
        PortMapping(host_port=53, protocol="udp", address="fd00::2", port=5353, owner="d/1"),
        bytes.fromhex("11000000 00350000"),
        socket.inet_pton(socket.AF_INET6, "fd00::2") + bytes.fromhex("14e90000"),
    ),
    "named4": (
        PortMapping(host_address="127.0.0.1", host_port=65535, address="10.0.0.2", port=1),
        bytes.fromhex("7f000001 06000000 ffff0000"),
        bytes.fromhex("0a000002 00010000"),
    ),
    "named6": (
        PortMapping(
            host_address="fd00::1", host_port=1, protocol="sctp", address="fd00::2", port=2
        ),
        socket.inet_pton(socket.AF_INET6, "fd00::1") + bytes.fromhex("84000000 00010000"),
        socket.inet_pton(socket.AF_INET6, "fd00::2") + bytes.fromhex("00020000"),
    ),
}
each = pytest.mark.parametrize(
    ("name", "mapping", "key", "value"), [(name, *case) for name, case in CASES.items()]
)


def encoded(type_: int, flags: int, name: str, element: list[Any]) -> bytes:
    message = nft_set_elem_list_msg()
    message["nfgen_family"] = INET
    message["attrs"] = [
        ("NFTA_SET_ELEM_LIST_TABLE", "tab"),
        ("NFTA_SET_ELEM_LIST_SET", name),
        ("NFTA_SET_ELEM_LIST_ELEMENTS", [{"attrs": element}]),
    ]
    message["header"]["type"] = type_
    message["header"]["flags"] = flags | REQUEST
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    message.encode()
    return without_marks(bytes(message.data))


def without_marks(message: bytes) -> bytes:
    """The same without NLA_F_NESTED, which pyroute2 sets in places of its own choice."""
    head, data = message[:20], message[20:]
    return head + _unmarked(data, 2)


def _unmarked(data: bytes, depth: int) -> bytes:
    made = b""
    for type_, value in nfnetlink.attributes(data):
        # The list is the third attribute; below it are elements, and in those key and data.
        nests = type_ == 3 if depth == 2 else True
        inner = _unmarked(value, depth - 1) if depth and nests else value
        if not depth and type_ in (1, 2) and len(value) > 4:
            inner = _unmarked_leaf(value)
        made += packed.attribute(type_, inner)
    return made


def _unmarked_leaf(value: bytes) -> bytes:
    return b"".join(packed.attribute(kind, leaf) for kind, leaf in nfnetlink.attributes(value))


def data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


@each
def test_a_port_is_put_into_its_map(
    name: str, mapping: PortMapping, key: bytes, value: bytes
) -> None:
    element = [("NFTA_SET_ELEM_KEY", data(key)), ("NFTA_SET_ELEM_DATA", data(value))]
    if mapping.owner:
        owner = mapping.owner.encode() + b"\0"
        element.append(("NFTA_SET_ELEM_USERDATA", bytes((0, len(owner))) + owner))

    expected = encoded(NEWSETELEM, CREATE | EXCL, name, element)

    assert without_marks(elements.put("tab", mapping)) == expected


@each
def test_a_port_is_taken_and_asked_for_by_its_key(
    name: str, mapping: PortMapping, key: bytes, value: bytes
) -> None:
    element = [("NFTA_SET_ELEM_KEY", data(key))]

    assert without_marks(elements.take("tab", mapping)) == encoded(DELSETELEM, 0, name, element)
    asked = encoded(GETSETELEM, 0, name, element)
    assert without_marks(elements.question("tab", mapping)) == asked


@each
def test_what_is_put_is_what_is_read(
    name: str, mapping: PortMapping, key: bytes, value: bytes
) -> None:
    body = elements.put("tab", mapping)[packed.HEADER.size :]

    assert elements.mappings_of(name, body) == [mapping]


def test_an_address_of_the_other_family_is_refused() -> None:
    crossed = PortMapping(host_address="::1", host_port=1, address="10.0.0.2", port=1)

    with pytest.raises(InvalidValue, match="the other family"):
        elements.put("tab", crossed)


def test_elements_are_as_the_program_nft_sends_them() -> None:
    """What ``strace`` shows of nft 1.0.6, from the mark of the list on."""
    named = PortMapping(
        host_address="1.2.3.4", host_port=8080, address="10.0.0.2", port=80, owner="web"
    )
    put_named = bytes.fromhex(
        "38000380 34000180 14000180 10000100 01020304 06000000 1f900000"
        "10000280 0c000100 0a000002 00500000 0a000600 00047765 62000000"
    )
    any6 = PortMapping(host_port=8080, protocol="udp", address="fd00::2", port=80)
    take_any6 = bytes.fromhex("18000380 14000180 10000180 0c000100 11000000 1f900000")

    assert elements.put("t", named).endswith(put_named)
    assert elements.take("t", any6).endswith(take_any6)
