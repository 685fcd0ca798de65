"""Netlink messages packed by hand, for plumbing one endpoint in a millisecond.

Making and plumbing a veth is on the way of every start of a container, and pyroute2 costs 200 ms to
load and some 10 ms for it.  So these few messages are made here; tests hold them against
pyroute2's, byte by byte.  Whatever else is asked of rtnetlink goes by ``netns.netlink``.

Imports nothing but compiled-in modules: `struct` and `socket` as ``_struct`` and ``_socket``.
"""

from __future__ import annotations

import _socket
from _struct import Struct

from netns import model
from netns.errors import LinkNotFound
from netns.netlink import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

RTM_NEWLINK, RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 18, 19, 20, 24
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLMSG_ERROR = 2
_NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

IFF_UP = 1
IFA_F_NODAD = 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_NET_NS_FD = 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_PROTINFO, _IFLA_BRPORT_MODE, _NESTED = 12, 4, 0x8000
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
NFT_MSG_GETSETELEM = 10 << 8 | 13  # subsystem and message
_NFPROTO_INET = 1
_NFTA_SET_ELEM_LIST_TABLE, _NFTA_SET_ELEM_LIST_SET, _NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
_NFTA_LIST_ELEM, _NFTA_SET_ELEM_KEY, _NFTA_DATA_VALUE = 1, 1, 1
_RTA_OIF, _RTA_GATEWAY = 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1

_HEADER = Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = Struct("=BxHiII")  # family, type, index, flags, which flags
_ADDRESS = Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE = Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags
_NETFILTER = Struct("=BBH")  # family, version, resource
_ATTRIBUTE = Struct("=HH")
_NUMBER = Struct("=I")
_ERRNO = Struct("=i")


def veth(name: str, *, peer: str, peer_namespace: int, mac: str, mtu: int) -> bytes:
    """Make a pair, its peer in the namespace of that descriptor; both ends are down."""
    other = _LINK.pack(0, 0, 0, 0, 0) + (
        _text(_IFLA_IFNAME, peer)
        + _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + _number(_IFLA_MTU, mtu)
        + _number(_IFLA_NET_NS_FD, peer_namespace)
    )
    info = _text(_IFLA_INFO_KIND, "veth") + _attribute(
        _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, other)
    )
    return _message(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, name)
        + _number(_IFLA_MTU, mtu)
        + _attribute(_IFLA_LINKINFO, info),
    )


def up(index: int, *, master: int = 0) -> bytes:
    """Bring a link up, as a port of the bridge with the index ``master`` if that is not 0."""
    body = _LINK.pack(0, 0, index, IFF_UP, IFF_UP)
    return _message(RTM_NEWLINK, 0, body + (_number(_IFLA_MASTER, master) if master else b""))


def hairpin(index: int) -> bytes:
    """Let frames leave by the bridge port that they came in by."""
    mode = _attribute(_IFLA_BRPORT_MODE, b"\1")
    body = _LINK.pack(_socket.AF_BRIDGE, 0, index, 0, 0)
    return _message(RTM_SETLINK, 0, body + _nested(_IFLA_PROTINFO, mode))


def address(index: int, text: str) -> bytes:
    """Give a link an address with its prefix; no broadcast address, no waiting for neighbours."""
    family, packed, prefix = _parsed(text)
    flags = IFA_F_NODAD if family == _socket.AF_INET6 else 0
    return _message(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_REPLACE,
        _ADDRESS.pack(family, prefix, flags, 0, index)
        + _attribute(_IFA_LOCAL, packed)
        + _attribute(_IFA_ADDRESS, packed),
    )


def default_route(index: int, gateway: str) -> bytes:
    """Send what has no other route to the gateway, by a link."""
    family, packed, _ = _parsed(gateway)
    return _message(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        _ROUTE.pack(
            *(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC),
            *(_RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0),
        )
        + _attribute(_RTA_GATEWAY, packed)
        + _number(_RTA_OIF, index),
    )


def look_up(name: str) -> bytes:
    """Ask for a link by its name; the kernel's link watch is up to date afterwards (from 6.8)."""
    return _message(RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))


def link_in_set(table: str, set_: str, link: str) -> bytes:
    """Ask nftables whether the set of an inet table has the name of a link: ENOENT if not."""
    key = _nested(_NFTA_SET_ELEM_KEY, _attribute(_NFTA_DATA_VALUE, link.encode().ljust(16, b"\0")))
    return _message(
        NFT_MSG_GETSETELEM,
        0,
        _NETFILTER.pack(_NFPROTO_INET, 0, 0)
        + _text(_NFTA_SET_ELEM_LIST_TABLE, table)
        + _text(_NFTA_SET_ELEM_LIST_SET, set_)
        + _nested(_NFTA_SET_ELEM_LIST_ELEMENTS, _nested(_NFTA_LIST_ELEM, key)),
    )


class Wire:
    """One netlink socket in the namespace that the thread is in."""

    def __init__(self, where: str = "", *, protocol: int = _NETLINK_ROUTE) -> None:
        """Open the socket; ``where`` is for messages."""
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
        self._where = f" in {where}" if where else ""
        self._sequence = 0

    def ask(self, link: str, act: str, message: bytes) -> bytes:
        """Send one message and wait for its end; the answer is the body of the first reply."""
        self._sequence += 1
        length, type_, flags, _, _ = _HEADER.unpack_from(message)
        head = _HEADER.pack(length, type_, flags, self._sequence, 0)
        self._socket.send(head + message[_HEADER.size :])
        answer = b""
        while True:
            data = self._socket.recv(65536)
            while data:
                length, type_, _, sequence, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if type_ == _NLMSG_ERROR:
                    errno = -_ERRNO.unpack_from(body)[0]
                    if errno:
                        raise refusal(link, f"cannot {act}{self._where}", errno)
                    return answer
                answer = answer or body

    def look_up(self, name: str) -> tuple[int, int]:
        """The index and the MTU of a link."""
        body = self.ask(name, f"look up link {name}", look_up(name))
        index = _LINK.unpack_from(body)[2]
        mtu, at = 0, _LINK.size
        while at < len(body):
            length, type_ = _ATTRIBUTE.unpack_from(body, at)
            if type_ == _IFLA_MTU:
                mtu = _NUMBER.unpack_from(body, at + _ATTRIBUTE.size)[0]
            at += (length + 3) & ~3
        return index, mtu

    def is_up(self, name: str) -> bool:
        """Whether there is a link of that name and it is up."""
        try:
            body = self.ask(name, f"look up link {name}", look_up(name))
        except LinkNotFound:
            return False
        return bool(_LINK.unpack_from(body)[3] & IFF_UP)

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _message(type_: int, flags: int, body: bytes) -> bytes:
    # The sequence number is put in when it is sent.
    flags |= NLM_F_REQUEST | NLM_F_ACK
    return _HEADER.pack(_HEADER.size + len(body), type_, flags, 0, 0) + body


def _attribute(type_: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, type_) + value + bytes(-size % 4)


def _nested(type_: int, value: bytes) -> bytes:
    return _attribute(type_ | _NESTED, value)


def _number(type_: int, value: int) -> bytes:
    return _attribute(type_, _NUMBER.pack(value))


def _text(type_: int, value: str) -> bytes:
    return _attribute(type_, value.encode() + b"\0")


def _parsed(text: str) -> tuple[int, bytes, int]:
    packed, prefix = model.packed_address(text)
    family = _socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET
    return family, packed, prefix
