"""The ports of a container as docker's columns and ``port`` show them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..engine.publishing import Port


def column(ports: Iterable[Port]) -> str:
    """The cell of ``ps``, of sorted ports; neighbours that lead to their own number are a range."""
    groups: dict[tuple[str, str], list[int]] = {}  # first and last of the range that grows
    shown, others = [], []
    for each in ports:
        if each.host_port and each.host_port != each.port:
            others.append(f"{host(each)}->{each.port}/{each.protocol}")
            continue
        key = (each.host_address, each.protocol)
        group = groups.get(key)
        if group is not None and each.port == group[1] + 1:
            group[1] = each.port
            continue
        if group is not None:
            shown.append(_group(key, group))
        groups[key] = [each.port, each.port]
    shown += [_group(key, group) for key, group in groups.items()]
    return ", ".join((*shown, *others))


def lines(ports: Sequence[Port], wanted: str = "") -> list[str]:
    """What ``port`` prints: all that are published, or where ``80/tcp`` is."""
    published = [each for each in ports if each.host_port]
    if not wanted:
        return [f"{each.port}/{each.protocol} -> {host(each)}" for each in published]
    port, _, protocol = wanted.partition("/")
    number, protocol = int(port), protocol or "tcp"
    return [host(each) for each in published if (each.port, each.protocol) == (number, protocol)]


def host(port: Port) -> str:
    """The host's end."""
    return f"{_bracketed(port.host_address)}:{port.host_port}"


def _group(key: tuple[str, str], group: list[int]) -> str:
    first, last = group
    numbers = str(first) if first == last else f"{first}-{last}"
    address, protocol = key
    if address:
        numbers = f"{_bracketed(address)}:{numbers}->{numbers}"
    return f"{numbers}/{protocol}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def parse_filter(text: str) -> set[tuple[int, str]]:
    """``80``, ``80/udp`` or ``80-90/tcp`` of the filters ``publish`` and ``expose``.

    ValueError for what is none of these.
    """
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    low, high = int(first), int(last if dash else first)
    if not 0 < low <= high <= 65535 or (protocol or "tcp") not in ("tcp", "udp", "sctp"):
        raise ValueError(text)
    return {(number, protocol or "tcp") for number in range(low, high + 1)}
