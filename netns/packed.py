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
from netns.errors import InvalidValue, LinkNotFound
from netns.netlink import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from netns.model import Endpoint

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 18, 20, 24
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLMSG_ERROR = 2
_NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

IFF_UP = 1
IFA_F_NODAD = 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_NET_NS_FD = 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 4, 5
_IFLA_BRPORT_MODE, _NESTED = 4, 0x8000
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
NFT_MSG_GETSETELEM = 10 << 8 | 13  # subsystem and message
_NFPROTO_INET = 1
_NFTA_SET_ELEM_LIST_TABLE, _NFTA_SET_ELEM_LIST_SET, _NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
_NFTA_LIST_ELEM, _NFTA_SET_ELEM_KEY, _NFTA_DATA_VALUE = 1, 1, 1
_RTA_GATEWAY = 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1

HEADER = Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = Struct("=BxHiII")  # family, type, index, flags, which flags
_ADDRESS = Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE = Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags
NETFILTER = Struct("=BBH")  # family, version, resource
ATTRIBUTE = Struct("=HH")
_NUMBER = Struct("=I")
ERRNO = Struct("=i")
_SHORT = Struct("=H")
_SIOCGIFFLAGS, _SIOCGIFINDEX = 0x8913, 0x8933
_NAME_SIZE, _REQUEST_SIZE = 16, 40  # of struct ifreq


def plumbing(endpoint: Endpoint, bridge: str, index: int) -> tuple[bytes, bytes, bytes]:
    """Everything that makes an endpoint of a bridge: messages in a row, three rows of them.

    ``index`` is the bridge's; who sends the rows another time looks it up again, and puts it into
    the attribute IFLA_MASTER of the first message.

    The first row is for the host's namespace: the first message makes the pair, and its last four
    bytes take the descriptor of the other namespace, in the machine's byte order; before the
    others is the time for `settings.harden_link`.  The second row is for the other namespace:
    addresses, link up, routes; an address on the link 0 is one of the link ``endpoint.name``, whose
    index is known when it is there.  The third row is for the host's again, when all is done:
    questions that make the kernel look at its links at once.

    An endpoint without an MTU has the kernel's, which the bridge follows.
    """
    made = [message for _, message in make(endpoint, index)]
    plumbed = [message for _, message in plumb(endpoint)]
    settled = [message for _, message in settle(endpoint, bridge)]
    return b"".join(made), b"".join(plumbed), b"".join(settled)


def make(
    endpoint: Endpoint, bridge: int, *, namespace: int = 0, mtu: int = 0
) -> tuple[tuple[str, bytes], ...]:
    """Messages in the host's namespace, with what each does.

    ``namespace`` is the descriptor of the other one, ``mtu`` that of an endpoint without.
    """
    check(endpoint)
    pair = veth(
        endpoint.link,
        peer=endpoint.name,
        peer_namespace=namespace,
        mac=model.checked_mac(endpoint.mac or model.mac_of(endpoint.addresses[0])),
        mtu=endpoint.mtu or mtu,
        master=bridge,
    )
    return (
        (f"make veth {endpoint.link} with {endpoint.name}", pair),
        (f"bring up link {endpoint.link}", up(endpoint.link, hairpin=endpoint.hairpin)),
    )


def plumb(endpoint: Endpoint, index: int = 0) -> tuple[tuple[str, bytes], ...]:
    """Messages in the other namespace; ``index`` is that of the link there."""
    name = endpoint.name
    return (
        *((f"give {name} the address {each}", address(index, each)) for each in endpoint.addresses),
        (f"bring up link {name}", up(name)),
        *(
            (f"add the route to default by {each.gateway}", default_route(each.gateway))
            for each in endpoint.routes
        ),
    )


def settle(endpoint: Endpoint, bridge: str) -> tuple[tuple[str, bytes], ...]:
    """Questions in the host's namespace.

    A port forwards when the kernel's link watch has seen its other end come up, at its leisure; a
    question about the link makes it look now (from 6.8 on).  Without that the container's first
    packets are lost, and the next is tried a second later.
    """
    return (
        (f"look up link {endpoint.link}", look_up(endpoint.link)),
        (f"look up link {bridge}", look_up(bridge)),
    )


def check(endpoint: Endpoint) -> None:
    """Raise InvalidValue for an endpoint that cannot be meant."""
    model.checked_link_name(endpoint.link)
    model.checked_link_name(endpoint.name)
    if not endpoint.addresses:
        raise InvalidValue("endpoint", endpoint.link, "it has no address")
    for each in endpoint.addresses:
        if "/" not in each:
            raise InvalidValue("address", each, "its prefix is missing")
        model.packed_address(each)
    for route in endpoint.routes:
        if (
            route.destination != "default"
            or not route.gateway
            or route.link not in {"", endpoint.name}
        ):
            reason = "an endpoint has default routes by gateways alone; for others open a Netlink"
            raise InvalidValue("route", route.destination, reason)
        model.packed_address(route.gateway)


def veth(
    name: str, *, peer: str, peer_namespace: int, mac: str, mtu: int = 0, master: int = 0
) -> bytes:
    """Make a pair, its peer in the namespace of that descriptor; both ends are down.

    The descriptor is the end of the message.  ``master`` is the bridge that the end here becomes a
    port of; 0, like an ``mtu`` of 0, is left to the kernel.
    """
    size = number(_IFLA_MTU, mtu) if mtu else b""
    other = _LINK.pack(0, 0, 0, 0, 0) + (
        text(_IFLA_IFNAME, peer)
        + attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + size
        + number(_IFLA_NET_NS_FD, peer_namespace)
    )
    info = text(_IFLA_INFO_KIND, "veth") + attribute(
        _IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other)
    )
    return _message(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _LINK.pack(0, 0, 0, 0, 0)
        + text(_IFLA_IFNAME, name)
        + size
        + (number(_IFLA_MASTER, master) if master else b"")
        + attribute(_IFLA_LINKINFO, info),
    )


def up(name: str, *, master: int = 0, hairpin: bool = False) -> bytes:
    """Bring a link up, as a port of the bridge with the index ``master`` if that is not 0.

    With ``hairpin``, frames leave by the port that they came in by; it must be one before.
    """
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name)
    body += number(_IFLA_MASTER, master) if master else b""
    if hairpin:
        port = text(_IFLA_INFO_SLAVE_KIND, "bridge") + attribute(
            _IFLA_INFO_SLAVE_DATA, attribute(_IFLA_BRPORT_MODE, b"\1")
        )
        body += attribute(_IFLA_LINKINFO, port)
    return _message(RTM_NEWLINK, 0, body)


def remove(name: str) -> bytes:
    """Remove a link, and the other one of a pair with it; ENODEV if there is none."""
    return _message(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name))


def address(index: int, text: str) -> bytes:
    """Give a link an address with its prefix; no broadcast address, no waiting for neighbours."""
    family, packed, prefix = _parsed(text)
    flags = IFA_F_NODAD if family == _socket.AF_INET6 else 0
    return _message(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_REPLACE,
        _ADDRESS.pack(family, prefix, flags, 0, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed),
    )


def default_route(gateway: str) -> bytes:
    """Send what has no other route to the gateway, by the link that reaches it."""
    family, packed, _ = _parsed(gateway)
    return _message(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        _ROUTE.pack(
            *(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC),
            *(_RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0),
        )
        + attribute(_RTA_GATEWAY, packed),
    )


def look_up(name: str) -> bytes:
    """Ask for a link by its name; the kernel's link watch is up to date afterwards (from 6.8)."""
    return _message(RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name))


def link_in_set(table: str, set_: str, link: str) -> bytes:
    """Ask nftables whether the set of an inet table has the name of a link: ENOENT if not."""
    key = nested(_NFTA_SET_ELEM_KEY, attribute(_NFTA_DATA_VALUE, link.encode().ljust(16, b"\0")))
    return _message(
        NFT_MSG_GETSETELEM,
        0,
        NETFILTER.pack(_NFPROTO_INET, 0, 0)
        + text(_NFTA_SET_ELEM_LIST_TABLE, table)
        + text(_NFTA_SET_ELEM_LIST_SET, set_)
        + nested(_NFTA_SET_ELEM_LIST_ELEMENTS, nested(_NFTA_LIST_ELEM, key)),
    )


def index_if_up(name: str) -> int:
    """The index of a link of the thread's namespace; 0 when it is not there, or not up.

    By ioctl(2): a netlink question waits for the kernel's lock over all links of all namespaces,
    which whoever removes one holds for some 30 ms.
    """
    import fcntl

    asked = name.encode().ljust(_REQUEST_SIZE, b"\0")
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        flags = fcntl.ioctl(socket, _SIOCGIFFLAGS, asked)
        index = fcntl.ioctl(socket, _SIOCGIFINDEX, asked)
    except OSError:
        return 0
    finally:
        socket.close()
    is_up = _SHORT.unpack_from(flags, _NAME_SIZE)[0] & IFF_UP
    return int(ERRNO.unpack_from(index, _NAME_SIZE)[0]) if is_up else 0


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
        self._socket.send(numbered(message, self._sequence, 0))
        answer = b""
        while True:
            data = self._socket.recv(65536)
            while data:
                length, type_, _, sequence, _ = HEADER.unpack_from(data)
                body, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if type_ == _NLMSG_ERROR:
                    errno = -ERRNO.unpack_from(body)[0]
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
            length, type_ = ATTRIBUTE.unpack_from(body, at)
            if type_ == _IFLA_MTU:
                mtu = _NUMBER.unpack_from(body, at + ATTRIBUTE.size)[0]
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


def head(type_: int, flags: int, body: bytes) -> bytes:
    """The header of a request with that body; the sequence number is put in when it is sent."""
    return HEADER.pack(HEADER.size + len(body), type_, flags | NLM_F_REQUEST, 0, 0)


def numbered(message: bytes, sequence: int, flags: int) -> bytes:
    """The message with its sequence number, and with these flags more."""
    length, type_, had, _, _ = HEADER.unpack_from(message)
    return HEADER.pack(length, type_, had | flags, sequence, 0) + message[HEADER.size :]


def _message(type_: int, flags: int, body: bytes) -> bytes:
    return head(type_, flags | NLM_F_ACK, body) + body


def attribute(type_: int, value: bytes) -> bytes:
    """An attribute, padded to the next whole word."""
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, type_) + value + bytes(-size % 4)


def nested(type_: int, value: bytes) -> bytes:
    """An attribute of attributes, marked as such."""
    return attribute(type_ | _NESTED, value)


def number(type_: int, value: int) -> bytes:
    """An attribute of 32 bits in the host's order."""
    return attribute(type_, _NUMBER.pack(value))


def text(type_: int, value: str) -> bytes:
    """An attribute of a text, with its end."""
    return attribute(type_, value.encode() + b"\0")


def _parsed(text: str) -> tuple[int, bytes, int]:
    packed, prefix = model.packed_address(text)
    family = _socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET
    return family, packed, prefix
