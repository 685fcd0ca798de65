"""Published ports as elements of a table's maps (see ``netns.nat``), packed by hand.

An element's key is the host's end of a port, its value the other end, and its comment the owner.
Fields of a key or value are padded to words of four bytes, in network order:

    named4  address (4), protocol, port  ->  address (4), port
    named6  address (16), protocol, port ->  address (16), port
    any4/6  protocol, port               ->  the same values
"""

from __future__ import annotations

import _socket
from _struct import Struct

from netns import model, nfnetlink, packed
from netns.errors import InvalidValue
from netns.model import PortMapping

MAPS = ("named4", "named6", "any4", "any6")
ANY = ("", "0.0.0.0", "::")

_NEWSETELEM, _GETSETELEM, _DELSETELEM = ((10 << 8) | number for number in (12, 13, 14))
_INET = 1
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _DATA, _USERDATA, _VALUE = 1, 1, 2, 6, 1
_COMMENT = 0  # in the user data, as libnftables writes it
_NUMBERS: dict[str, int] = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOLS: dict[int, model.Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}
_END = Struct("!B3xH2x")  # protocol and port
_PORT = Struct("!H2x")


def put(table: str, mapping: PortMapping) -> bytes:
    """Publish a port; one that is published already is EEXIST."""
    element = _of_key(mapping) + packed.nested(_DATA, packed.attribute(_VALUE, value_of(mapping)))
    owner = model.checked_owner(mapping.owner).encode()
    if owner:
        comment = bytes((_COMMENT, len(owner) + 1)) + owner + b"\0"
        element += packed.attribute(_USERDATA, comment)
    flags = packed.NLM_F_CREATE | packed.NLM_F_EXCL
    return _message(_NEWSETELEM, flags, table, map_of(mapping), element)


def take(table: str, mapping: PortMapping) -> bytes:
    """Withdraw a port; one that is not published is ENOENT."""
    return _message(_DELSETELEM, 0, table, map_of(mapping), _of_key(mapping))


def question(table: str, mapping: PortMapping) -> bytes:
    """Ask for the element of a port; one that is not published is ENOENT."""
    return _message(_GETSETELEM, 0, table, map_of(mapping), _of_key(mapping))


def listing(table: str, name: str) -> bytes:
    """Ask for all elements of a map."""
    names = packed.text(_TABLE, table) + packed.text(_SET, name)
    return nfnetlink.message(_GETSETELEM, 0, _INET, names)


def mappings_of(name: str, body: bytes) -> list[PortMapping]:
    """The ports in an answer about the map of that name."""
    listed = nfnetlink.body_attributes(body).get(_ELEMENTS, b"")
    return [_mapping(name, dict(nfnetlink.attributes(e))) for _, e in nfnetlink.attributes(listed)]


def map_of(mapping: PortMapping) -> str:
    """The name of the map that the port belongs into."""
    family = 6 if model.is_ipv6(mapping.address) else 4
    return f"any{family}" if mapping.host_address in ANY else f"named{family}"


def key_of(mapping: PortMapping) -> bytes:
    """The host's end of the port."""
    protocol = _NUMBERS.get(mapping.protocol)
    if protocol is None:
        known = ", ".join(model.PROTOCOLS)
        raise InvalidValue("protocol", mapping.protocol, f"known are {known}")
    end = _END.pack(protocol, model.checked_port(mapping.host_port))
    if mapping.host_address in ANY:
        return end
    return _same_family(mapping) + end


def value_of(mapping: PortMapping) -> bytes:
    """The other end of the port."""
    address, _ = model.packed_address(mapping.address)
    return address + _PORT.pack(model.checked_port(mapping.port))


def _same_family(mapping: PortMapping) -> bytes:
    host, _ = model.packed_address(mapping.host_address)
    if model.is_ipv6(mapping.host_address) != model.is_ipv6(mapping.address):
        reason = f"it cannot lead to {mapping.address}, which is of the other family"
        raise InvalidValue("host address", mapping.host_address, reason)
    return host


def _of_key(mapping: PortMapping) -> bytes:
    return packed.nested(_KEY, packed.attribute(_VALUE, key_of(mapping)))


def _message(type_: int, flags: int, table: str, name: str, element: bytes) -> bytes:
    attributes = packed.text(_TABLE, table) + packed.text(_SET, name)
    listed = packed.nested(_ELEMENTS, packed.nested(_ELEMENT, element))
    return nfnetlink.message(type_, flags, _INET, attributes + listed)


def _mapping(name: str, element: dict[int, bytes]) -> PortMapping:
    key = dict(nfnetlink.attributes(element[_KEY]))[_VALUE]
    value = dict(nfnetlink.attributes(element[_DATA]))[_VALUE]
    protocol, host_port = _END.unpack_from(key, len(key) - _END.size)
    return PortMapping(
        host_address=_text(key[: -_END.size]),
        host_port=host_port,
        protocol=_PROTOCOLS[protocol],
        address=_text(value[: -_PORT.size]),
        port=_PORT.unpack_from(value, len(value) - _PORT.size)[0],
        owner=_comment(element.get(_USERDATA, b"")),
    )


def _text(address: bytes) -> str:
    if not address:
        return ""
    family = _socket.AF_INET6 if len(address) == 16 else _socket.AF_INET
    return _socket.inet_ntop(family, address)


def _comment(data: bytes) -> str:
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == _COMMENT:
            return data[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        data = data[2 + length :]
    return ""
