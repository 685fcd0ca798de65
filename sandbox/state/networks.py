"""Network records: one folder each, and what is known of their endpoints.

    networks/<name>/
      network.json   what was asked for (this module); never changed
      lock           shared by whoever joins a container to it, held by who mends or removes it
    <run>/networks/<id>/
      leases         which container has which address
      island         is there if the host had no nftables: nothing is forwarded
      endpoints/<container id>   a file for each container on it, in flat text

A network is made in the staging folder and renamed into place, so of several makers of one
name exactly one wins.  ``host`` and ``none`` are no networks of this kind and have no folder.
"""

from __future__ import annotations

import errno
import os

from ..errors import DamagedDocument, NetworkNotFound, StoreFull, UsageError
from ..record import Record
from . import lock
from .document import read_bytes, read_document, remove_file, replace_bytes, replace_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json
    from ..paths import Paths

VERSION = 1
DRIVER = "bridge"
DEFAULT = "bridge"
PREDEFINED = ("bridge", "host", "none")
STAGED = "network-"  # `sandbox.engine.sweep` knows it too
MAX_NAME = 255


class SubnetRecord(Record):
    """A range of addresses: ``cidr``, the ``gateway`` in it, the part that is given out."""

    cidr: str
    gateway: str
    ip_range: str = ""  # all of it


class NetworkRecord(Record):
    """The document of one network; ``bridge`` and ``table`` are the kernel's names of it."""

    name: str
    id: str
    created_ns: int
    driver: str = DRIVER
    bridge: str
    table: str
    subnets: tuple[SubnetRecord, ...]
    internal: bool = False
    ipv6: bool = False
    mtu: int = 0  # the kernel's
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


class EndpointRecord(Record):
    """What others have to know of a container on a network; addresses are without a prefix."""

    container_id: str
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    link: str = ""
    mac: str = ""


def is_name(text: str) -> bool:
    """A name that a network may have."""
    return (
        0 < len(text) <= MAX_NAME
        and text.isascii()
        and text[0].isalnum()
        and all(c.isalnum() or c in "_.-" for c in text)
    )


def make(paths: Paths, record: NetworkRecord, *, durable: bool) -> bool:
    """Put a network down; False when there is one of the name."""
    folder = paths.network(record.name)
    os.makedirs(paths.networks, mode=0o700, exist_ok=True)
    if os.path.isdir(folder):
        return False
    while True:
        staged = f"{paths.staging}/{STAGED}{os.urandom(8).hex()}"
        os.mkdir(staged, 0o700)
        try:
            held = lock.take(f"{staged}/lock")
            break
        except FileNotFoundError:
            # Taken for debris, by a sweep that came between the two calls.
            continue
    with held:
        try:
            replace_document(f"{staged}/network.json", _document(record), durable=durable)
            os.rename(staged, folder)
        except BaseException as error:
            for name in ("network.json", "lock"):
                remove_file(f"{staged}/{name}")
            os.rmdir(staged)
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(paths.networks) from error
            raise
    if durable:
        from .document import sync_folder  # only who makes one

        sync_folder(paths.networks)
    return True


def read(paths: Paths, name: str) -> NetworkRecord:
    """The document.  `NetworkNotFound`, or `DamagedDocument` when it is not one."""
    if not is_name(name):
        raise NetworkNotFound(name)
    path = f"{paths.network(name)}/network.json"
    try:
        value = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NetworkNotFound(name) from None
    if value.get("version") != VERSION or value.get("name") != name:
        raise DamagedDocument(what=path, problem="another version, or another network's")
    try:
        return _record(value, name)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DamagedDocument(what=path, problem="a field is missing or of another type") from error


def names(paths: Paths) -> list[str]:
    """The names of all networks that have a folder, in order."""
    try:
        found = os.listdir(paths.networks)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if is_name(name))


def find(paths: Paths, text: str) -> NetworkRecord:
    """The network meant by a name, an id or the start of one."""
    try:
        return read(paths, text)
    except NetworkNotFound:
        if not text or text.strip("0123456789abcdef"):
            raise
    matches = []
    for name in names(paths):
        try:
            record = read(paths, name)
        except (NetworkNotFound, DamagedDocument):
            continue
        if record.id == text:
            return record
        if record.id.startswith(text):
            matches.append(record)
    if len(matches) > 1:
        raise UsageError(f"network {text} is ambiguous ({len(matches)} matches found on name)")
    if not matches:
        raise NetworkNotFound(text)
    return matches[0]


# Endpoints


def leases_path(paths: Paths, network_id: str) -> str:
    """The file of the network's leases."""
    return f"{paths.live_network(network_id)}/leases"


def is_island(paths: Paths, network_id: str) -> bool:
    """Whether the network is without rules, for this host had no nftables when it was made."""
    return os.path.exists(_island(paths, network_id))


def mark_island(paths: Paths, network_id: str, *, is_island: bool) -> None:
    """Say whether it is."""
    if is_island:
        replace_bytes(_island(paths, network_id), b"")
    else:
        remove_file(_island(paths, network_id))


def _island(paths: Paths, network_id: str) -> str:
    return f"{paths.live_network(network_id)}/island"


def prepare(paths: Paths, network_id: str) -> None:
    """Make the run folder of a network."""
    os.makedirs(f"{paths.live_network(network_id)}/endpoints", mode=0o700, exist_ok=True)


def write_endpoint(paths: Paths, network_id: str, endpoint: EndpointRecord) -> None:
    """Say to everybody that a container is on a network, before it runs."""
    lines = ["version 1\n"]
    lines += [f"address {address}\n" for address in endpoint.addresses]
    lines += [f"name {name}\n" for name in endpoint.names]
    lines += [f"link {endpoint.link}\n", f"mac {endpoint.mac}\n"]
    replace_bytes(_endpoint(paths, network_id, endpoint.container_id), "".join(lines).encode())


def read_endpoint(paths: Paths, network_id: str, container_id: str) -> EndpointRecord | None:
    """What is known of a container on a network; None when it is not on it."""
    try:
        data = read_bytes(_endpoint(paths, network_id, container_id))
    except (FileNotFoundError, NotADirectoryError):
        return None
    found: dict[str, list[str]] = {"address": [], "name": [], "link": [], "mac": []}
    for line in data.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word in found:
            found[word].append(rest)
    return EndpointRecord(
        container_id=container_id,
        addresses=tuple(found["address"]),
        names=tuple(found["name"]),
        link="".join(found["link"][:1]),
        mac="".join(found["mac"][:1]),
    )


def remove_endpoint(paths: Paths, network_id: str, container_id: str) -> None:
    """Forget a container on a network."""
    remove_file(_endpoint(paths, network_id, container_id))


def endpoints(paths: Paths, network_id: str) -> list[str]:
    """The ids of the containers on a network, in order."""
    try:
        found = os.listdir(f"{paths.live_network(network_id)}/endpoints")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in found if len(name) == 64)


def _endpoint(paths: Paths, network_id: str, container_id: str) -> str:
    return f"{paths.live_network(network_id)}/endpoints/{container_id}"


def _document(record: NetworkRecord) -> dict[str, object]:
    return {
        "version": VERSION,
        "name": record.name,
        "id": record.id,
        "created_ns": record.created_ns,
        "driver": record.driver,
        "bridge": record.bridge,
        "table": record.table,
        "subnets": [
            {"cidr": each.cidr, "gateway": each.gateway, "ip_range": each.ip_range}
            for each in record.subnets
        ],
        "internal": record.internal,
        "ipv6": record.ipv6,
        "mtu": record.mtu,
        "labels": dict(record.labels),
        "options": dict(record.options),
    }


def _record(value: dict[str, Json], name: str) -> NetworkRecord:
    subnets = value["subnets"]
    if not isinstance(subnets, list) or not subnets:
        raise TypeError
    found = []
    for each in subnets:
        if not isinstance(each, dict):
            raise TypeError
        found.append(
            SubnetRecord(
                cidr=_text(each, "cidr"),
                gateway=_text(each, "gateway"),
                ip_range=_text(each, "ip_range"),
            )
        )
    record = NetworkRecord(
        name=name,
        id=_text(value, "id"),
        created_ns=_number(value, "created_ns"),
        driver=_text(value, "driver"),
        bridge=_text(value, "bridge"),
        table=_text(value, "table"),
        subnets=tuple(found),
        internal=value["internal"] is True,
        ipv6=value["ipv6"] is True,
        mtu=_number(value, "mtu"),
        labels=_pairs(value, "labels"),
        options=_pairs(value, "options"),
    )
    if len(record.id) != 64 or record.id.strip("0123456789abcdef"):
        raise ValueError  # it becomes a folder's name
    return record


def _text(value: dict[str, Json], key: str) -> str:
    found = value[key]
    if not isinstance(found, str):
        raise TypeError
    return found


def _number(value: dict[str, Json], key: str) -> int:
    found = value[key]
    if not isinstance(found, int):
        raise TypeError
    return found


def _pairs(value: dict[str, Json], key: str) -> tuple[tuple[str, str], ...]:
    found = value[key]
    if not isinstance(found, dict):
        raise TypeError
    return tuple((name, str(item)) for name, item in found.items())
