"""What is asked for and what is reported, as frozen records.

Addresses are text, as the kernel writes them, so that a record is one line in a document and
costs nothing to import; whoever counts with them makes an ``ipaddress`` of them.  `checked`
functions refuse what cannot be meant before anything is made.
"""

from __future__ import annotations

from netns.errors import InvalidValue
from netns.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
    from typing import Literal, TypeAlias

    Protocol: TypeAlias = Literal["tcp", "udp", "sctp"]
    IPNetwork: TypeAlias = IPv4Network | IPv6Network
    IPInterface: TypeAlias = IPv4Interface | IPv6Interface

PROTOCOLS = ("tcp", "udp", "sctp")
LINK_NAME_MAX = 15
TABLE_NAME_MAX = 64
_WORD_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_NAME = _WORD_LETTERS | frozenset(".-")
_WORD = _NAME | frozenset("/:@+,=")


class Subnet(Record):
    """A range of addresses: ``cidr``, its ``gateway``, and the part that leases are taken from."""

    cidr: str
    gateway: str
    range: str = ""  # all of cidr
    reserved: tuple[str, ...] = ()  # never leased


class NetworkConfig(Record):
    """One bridge with its subnets; the names are the caller's, and recorded before they are used.

    ``table`` is the nftables table, which all networks of one caller share.  Empty, for
    hosts without nftables, it makes an island: its endpoints reach each other and the host, and
    nobody else.
    """

    bridge: str
    table: str
    subnets: tuple[Subnet, ...]
    mtu: int = 0  # the kernel's
    internal: bool = False  # no way out of it or into it
    masquerade: bool = True  # what leaves it has the host's address


class Route(Record):
    """A route; ``destination`` is ``default`` or a network, ``gateway`` empty if on the link."""

    destination: str
    gateway: str = ""
    link: str = ""


class Endpoint(Record):
    """One attachment to a network: ``link`` is the end on the host, ``name`` the one inside.

    ``hairpin`` lets a frame back out of the port that it came from.  An endpoint that is to reach
    itself by a published port of the host needs it where br_netfilter is loaded (docker loads it),
    for there the frame never leaves the bridge.
    """

    link: str
    name: str = "eth0"
    addresses: tuple[str, ...]  # with their prefix: 10.0.0.2/24
    routes: tuple[Route, ...] = ()
    mac: str = ""  # made from the first address
    mtu: int = 0  # the bridge's
    hairpin: bool = False


class PortMapping(Record):
    """A port of the host that leads to one of an address; host_address empty is any address."""

    host_address: str = ""
    host_port: int  # 0: whichever is free, for `ports.reserve`
    protocol: Protocol = "tcp"
    address: str
    port: int
    owner: str = ""


class Lease(Record):
    """An address given to an owner."""

    address: str
    owner: str


class Link(Record):
    """A link as the kernel reports it."""

    index: int
    name: str
    kind: str  # bridge, veth, ...; empty for a device
    mac: str
    mtu: int
    is_up: bool
    master: int  # the index of the bridge it is a port of; 0 if none


def checked_link_name(name: str) -> str:
    """The name, if a link can have it and it needs no quoting anywhere."""
    if not name or len(name) > LINK_NAME_MAX:
        raise InvalidValue("link name", name, f"1 to {LINK_NAME_MAX} characters are allowed")
    if not _NAME.issuperset(name) or name in {".", "..", "all", "default"}:
        raise InvalidValue("link name", name, "letters, digits and _.- are allowed")
    return name


def checked_table_name(name: str) -> str:
    """The name, if an nftables table can have it and it needs no quoting."""
    if not _WORD_LETTERS.issuperset(name) or not name[:1].isalpha() or len(name) > TABLE_NAME_MAX:
        reason = f"a letter and then letters, digits and _ are allowed, up to {TABLE_NAME_MAX}"
        raise InvalidValue("table name", name, reason)
    return name


def checked_owner(owner: str) -> str:
    """The owner, if it can stand in a line of words and in a comment of nftables."""
    if len(owner) > 120 or not _WORD.issuperset(owner):
        raise InvalidValue("owner", owner, "up to 120 letters, digits and _.-/:@+,= are allowed")
    return owner


def checked_port(port: int, *, lowest: int = 1) -> int:
    """The port, if there is one of that number."""
    if not lowest <= port <= 65535:
        raise InvalidValue("port", port, f"{lowest} to 65535 are allowed")
    return port


def checked_mac(mac: str) -> str:
    """The hardware address in lower case, if it is one of a single link."""
    parts = mac.lower().split(":")
    if len(parts) != 6 or any(len(p) != 2 or not _is_hex(p) for p in parts):
        raise InvalidValue("hardware address", mac, "six pairs of hexadecimal digits are needed")
    if int(parts[0], 16) & 1:
        raise InvalidValue("hardware address", mac, "it is a multicast address")
    return mac.lower()


def network(cidr: str) -> IPNetwork:
    """Parse ``10.0.0.0/24``; bits below the prefix are an error."""
    import ipaddress  # with its own imports, some milliseconds

    try:
        return ipaddress.ip_network(cidr)
    except ValueError as error:
        raise InvalidValue("subnet", cidr, str(error)) from error


def interface(text: str) -> IPInterface:
    """Parse ``10.0.0.2/24``, or ``10.0.0.2`` as an address alone."""
    import ipaddress

    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise InvalidValue("address", text, str(error)) from error


def is_ipv6(text: str) -> bool:
    """Whether an address or a network, as text, is one of IPv6."""
    return ":" in text


def packed_address(text: str) -> tuple[bytes, int]:
    """The bytes of ``10.0.0.2/24`` and its prefix, without the price of ``ipaddress``."""
    import _socket  # the compiled half of `socket`

    host, _, prefix = text.partition("/")
    family = _socket.AF_INET6 if is_ipv6(host) else _socket.AF_INET
    try:
        packed = _socket.inet_pton(family, host)
        length = int(prefix) if prefix else len(packed) * 8
    except (OSError, ValueError) as error:
        raise InvalidValue("address", text, "it is none of IPv4 or IPv6") from error
    if not 0 <= length <= len(packed) * 8:
        raise InvalidValue("address", text, "its prefix is too long")
    return packed, length


def mac_of(address: str) -> str:
    """A hardware address made from an address of a subnet.

    Who leases the address next has the same one, so no neighbour holds a stale entry.
    """
    packed, _ = packed_address(address)
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *packed[-4:]))


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)
