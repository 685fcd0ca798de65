"""``--publish`` and ``--expose`` as text: docker's grammar, and its words for what is none of it.

    -p [[ip]:[host[-end]]:]container[-end][/tcp|udp|sctp]      -p published=8080,target=80
    --expose port[-end][/tcp|udp|sctp]

An exposed port is kept as docker writes it, ``80/tcp``.
"""

from __future__ import annotations

import _socket

from ..errors import UsageError
from .options import PortSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_publish(text: str) -> tuple[PortSpec, ...]:
    """One ``--publish``, which may mean a range of ports."""
    raw = _short(text) if "=" in text else text
    left, _, last = raw.rpartition(":")
    address, _, host = left.rpartition(":")
    port, slash, protocol = last.partition("/")
    if not port:
        raise UsageError(f"no port specified: {raw}<empty>")
    address = _address(address)
    first, end = _range(port) or _refuse(f"invalid containerPort: {port}")
    low, high = (_range(host) or _refuse(f"invalid hostPort: {host}")) if host else (0, 0)
    if host and high - low != end - first and first != end:
        raise UsageError(
            f"invalid ranges specified for container and host Ports: {port} and {host}"
        )
    protocol = _protocol(protocol if slash else "tcp")
    if first == end:
        spec = PortSpec(
            host_address=address,
            host_port=low,
            host_end=high if high != low else 0,
            port=first,
            protocol=protocol,
        )
        return (spec,)
    return tuple(
        PortSpec(
            host_address=address,
            host_port=low + number if host else 0,
            port=first + number,
            protocol=protocol,
        )
        for number in range(end - first + 1)
    )


def parse_expose(text: str) -> tuple[str, ...]:
    """One ``--expose``, which may mean a range of ports."""
    if ":" in text:
        raise UsageError(f"invalid port format for --expose: {text}")
    port, slash, protocol = text.partition("/")
    found = _range(port)
    if found is None:
        raise UsageError(f"invalid range format for --expose: {port}, error: {_why(port)}")
    protocol = _protocol(protocol if slash else "tcp")
    return tuple(f"{number}/{protocol}" for number in range(found[0], found[1] + 1))


def of_mapping(ports: Mapping[Any, Any]) -> Iterable[str]:
    """The texts of docker-py's ``{"80/tcp": 8080}``, ``("127.0.0.1", 8080)``, None or a list."""
    for inside, hosts in ports.items():
        for host in hosts if isinstance(hosts, list) else [hosts]:
            if host is None:
                yield str(inside)
            elif isinstance(host, tuple):
                address, *port = (str(part) for part in host)
                shown = f"[{address}]" if ":" in address else address
                yield f"{shown}:{port[0] if port else ''}:{inside}"
            else:
                yield f"{host}:{inside}"


def key_of(spec: PortSpec) -> str:
    """The container's port as docker's documents name it: ``80/tcp``."""
    return f"{spec.port}/{spec.protocol}"


def sort_key(exposed: str) -> tuple[int, str]:
    """By number, then by protocol."""
    port, _, protocol = exposed.partition("/")
    return (int(port) if port.isdigit() else 0, protocol)


def _short(text: str) -> str:
    """The long form in the words of the short one, as docker reads it."""
    words = {"protocol": "tcp", "published": "", "target": ""}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"invalid publish opts format (should be name=value but got '{part}')")
        words[name] = value
    return f"{words['published']}:{words['target']}/{words['protocol']}"


def _address(text: str) -> str:
    """As the kernel writes it; brackets stand around an IPv6 address, or not."""
    inner = text
    if text.startswith("["):
        if not text.endswith("]"):
            problem = "missing ']' in address"
            raise UsageError(f"invalid IP address {text}: address {text}:: {problem}")
        inner = text[1:-1]
    if not inner:
        return ""
    family = _socket.AF_INET6 if ":" in inner else _socket.AF_INET
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, inner))
    except (OSError, UnicodeError, ValueError):
        raise UsageError(f"invalid IP address: {inner}") from None


def _range(text: str) -> tuple[int, int] | None:
    first, dash, last = text.partition("-")
    low = _number(first)
    high = _number(last) if dash else low
    return None if low is None or high is None or high < low else (low, high)


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > 65535:
        return None
    return int(text)


def _why(text: str) -> str:
    for part in text.split("-", 1):
        if not part:
            return "empty string specified for ports" if not text else _syntax(part)
        if _number(part) is None:
            is_number = part.isascii() and part.isdigit()
            return (
                f'strconv.ParseUint: parsing "{part}": value out of range'
                if is_number
                else (_syntax(part))
            )
    return f"invalid range specified for port: {text}"


def _syntax(text: str) -> str:
    return f'strconv.ParseUint: parsing "{text}": invalid syntax'


def _protocol(text: str) -> str:
    known = text.lower() or "tcp"
    if known not in PROTOCOLS:
        raise UsageError(f"invalid proto: {text}")
    return known


def _refuse(message: str) -> tuple[int, int]:
    raise UsageError(message)
