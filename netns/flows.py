"""Tracked UDP flows that go where a port led before, or did not yet lead.

A flow without connections is one as long as packets come, and goes where its first packet went:
to the host itself after the port is published, and to an address that is nobody's after it is
withdrawn.  Connection tracking is told to forget such flows, and looks at the next packet anew.
"""

from __future__ import annotations

import _socket
from errno import ENOENT

from netns import model, nfnetlink, packed, settings
from netns.errors import RulesRefused
from netns.nfnetlink import Refusal, Wire, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.model import PortMapping

_CT_GET, _CT_DELETE = ((1 << 8) | number for number in (1, 2))
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_DST_PORT = 1, 3
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5
_UDP = 17


def forget(mappings: tuple[PortMapping, ...]) -> int:
    """Forget the flows of these UDP ports, in the thread's namespace; the answer is how many.

    A flow is meant if it leads to a mapping's address or to the host itself; one that the
    host forwards to another host's port of that number is left alone.
    """
    if settings.read("netfilter/nf_conntrack_count") == "0":
        return 0  # the kernel's walk over its table takes milliseconds
    forgotten = 0
    own: set[bytes] | None = None
    try:
        with Wire() as wire:
            for mapping in mappings:
                inside, _ = model.packed_address(mapping.address)
                for flow in _flows(wire, mapping.host_port, len(inside)):
                    asked = _address(flow.get(_TUPLE_ORIG, b""), is_source=False)
                    answered_by = _address(flow.get(_TUPLE_REPLY, b""), is_source=True)
                    own = nfnetlink.own_addresses() if own is None else own
                    if asked in own and answered_by in (inside, asked):
                        forgotten += _forget(wire, flow, len(inside))
    except Refusal as error:
        reason = f"cannot forget tracked flows: {_reason(error)}"
        raise RulesRefused(reason, text="") from error
    return forgotten


def _flows(wire: Wire, port: int, size: int) -> list[dict[int, bytes]]:
    number = packed.attribute(_PROTO_NUMBER, bytes((_UDP,)))
    wanted = port.to_bytes(2, "big")
    by = packed.nested(_TUPLE_PROTO, number + packed.attribute(_PROTO_DST_PORT, wanted))
    flags = packed.number(_FILTER_ORIG, _BY_PROTOCOL_AND_PORT) + packed.number(_FILTER_REPLY, 0)
    asked = packed.nested(_TUPLE_ORIG, by) + packed.nested(_FILTER, flags)
    listing = nfnetlink.message(_CT_GET, 0, _family(size), asked)
    found = (nfnetlink.body_attributes(body) for body in wire.dump(listing))
    # Before Linux 5.8 the kernel does not choose.
    return [flow for flow in found if _end(flow.get(_TUPLE_ORIG, b"")) == (_UDP, wanted)]


def _forget(wire: Wire, flow: dict[int, bytes], size: int) -> int:
    which = packed.nested(_TUPLE_ORIG, flow[_TUPLE_ORIG])
    for kind in (_ZONE, _ID):
        if kind in flow:
            which += packed.attribute(kind, flow[kind])
    try:
        wire.do(nfnetlink.message(_CT_DELETE, 0, _family(size), which))
    except Refusal as error:
        if error.errno != ENOENT:  # it ended meanwhile
            raise
        return 0
    return 1


def _address(tuple_: bytes, *, is_source: bool) -> bytes:
    numbers = (1, 3) if is_source else (2, 4)
    addresses = dict(attributes(dict(attributes(tuple_)).get(_TUPLE_IP, b"")))
    return next((addresses[number] for number in numbers if number in addresses), b"")


def _end(tuple_: bytes) -> tuple[int, bytes]:
    protocol = dict(attributes(dict(attributes(tuple_)).get(_TUPLE_PROTO, b"")))
    return protocol.get(_PROTO_NUMBER, b"\0")[0], protocol.get(_PROTO_DST_PORT, b"")


def _family(size: int) -> int:
    return int(_socket.AF_INET6 if size == 16 else _socket.AF_INET)


def _reason(error: Refusal) -> str:
    import os

    return os.strerror(error.errno).lower()
