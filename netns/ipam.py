"""Subnets and leases: which addresses are free, and who has which.

A lease is taken in a `LeaseStore`, which is a transaction: `LeaseStore.edit` shows all leases,
lets the block change them, and keeps the change if the block ends well.  `FileLeases` is one
locked file; a program with a store of its own passes that instead.

Addresses go round: the next one is looked for after the last that was given, so that an address
rests before it is somebody else's.
"""

from __future__ import annotations

import os

from netns import model
from netns.errors import AddressesExhausted, AddressTaken, InvalidValue, LeasesDamaged
from netns.model import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Protocol

    from netns.model import IPNetwork, Subnet
else:
    Protocol = object


class LeaseStore(Protocol):
    """Where leases are kept: one transaction at a time."""

    def edit(self) -> AbstractContextManager[Leases]:
        """Give the leases to change; keep them if the block ends without an error."""


class Leases:
    """What a store holds: the owner of each address, and the last address given of a range."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.last: dict[str, str] = {}


class FileLeases:
    """Leases in one file, a line each, replaced as a whole; ``<path>.lock`` is the lock."""

    def __init__(self, path: str) -> None:
        self.path = path

    def edit(self) -> AbstractContextManager[Leases]:
        """Lock, read, let the block change, replace the file if anything is different."""
        from contextlib import contextmanager

        @contextmanager
        def block() -> Iterator[Leases]:
            import fcntl

            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self._read()
                leases = _parsed(before, self.path)
                yield leases
                after = _lines(leases)
                if after != before:
                    self._replace(after)
            finally:
                os.close(lock)

        return block()

    def _read(self) -> str:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _replace(self, text: str) -> None:
        # Without fsync: after a power cut nobody is left who has an address.
        temporary = f"{self.path}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, self.path)


def lease(store: LeaseStore, subnet: Subnet, owner: str, *, wanted: str = "") -> Lease:
    """Take an address of the subnet for ``owner``: the wanted one, or the next that is free."""
    owner = model.checked_owner(owner)
    if not owner:
        raise InvalidValue("owner", owner, "it is empty")
    whole, part = _ranges(subnet)
    kept = _kept(subnet, whole)
    with store.edit() as leases:
        if wanted:
            address = _wanted(whole, kept, wanted)
            if address in leases.owners:
                raise AddressTaken(address, leases.owners[address])
        else:
            address = _next(part, kept, leases)
            leases.last[str(part)] = address
        leases.owners[address] = owner
    return Lease(address=address, owner=owner)


def release(store: LeaseStore, owner: str) -> tuple[Lease, ...]:
    """Give back every address of the owner, and say which; none is nothing to do."""
    with store.edit() as leases:
        given = tuple(Lease(address=a, owner=o) for a, o in leases.owners.items() if o == owner)
        for one in given:
            del leases.owners[one.address]
    return given


def give_back(store: LeaseStore, leases: tuple[Lease, ...]) -> None:
    """Give back these leases alone; one that is another's by now is left to him."""
    with store.edit() as held:
        for one in leases:
            if held.owners.get(one.address) == one.owner:
                del held.owners[one.address]


def leased(store: LeaseStore) -> tuple[Lease, ...]:
    """Every lease, oldest first."""
    with store.edit() as leases:
        return tuple(Lease(address=a, owner=o) for a, o in leases.owners.items())


def with_prefix(subnet: Subnet, address: str) -> str:
    """The address as a link of the subnet has it: ``10.0.0.2/24``."""
    return f"{address}/{model.network(subnet.cidr).prefixlen}"


def checked_subnet(subnet: Subnet) -> Subnet:
    """The subnet, if its gateway and its range lie in it."""
    whole, _ = _ranges(subnet)
    gateway = model.interface(subnet.gateway).ip
    if gateway.version != whole.version or gateway not in whole:
        raise InvalidValue("gateway", subnet.gateway, f"it is not in {subnet.cidr}")
    return subnet


def free_subnet(pool: str, prefix: int, taken: Iterable[str]) -> str:
    """The first network of that prefix in the pool that overlaps with none of ``taken``.

    ``taken`` are networks or addresses with their prefix, of both families: routes, links
    and other networks.  A default route takes nothing.
    """
    whole = model.network(pool)
    used = [model.interface(one).network for one in taken if one != "default"]
    used = [one for one in used if one.version == whole.version and one.prefixlen]
    size = 1 << (whole.max_prefixlen - prefix)
    first, end = int(whole.network_address), int(whole.broadcast_address) + 1
    while first + size <= end:
        candidate = model.network(f"{whole.network_address + (first - int(whole[0]))}/{prefix}")
        clash = [int(one.broadcast_address) + 1 for one in used if _overlap(one, candidate)]
        if not clash:
            return str(candidate)
        # Past the largest obstacle, rounded up to the next whole network.
        first = -(-max(*clash, first + size) // size) * size
    raise AddressesExhausted(pool, len(used))


def _overlap(one: IPNetwork, two: IPNetwork) -> bool:
    return int(one[0]) <= int(two[-1]) and int(two[0]) <= int(one[-1])


def _ranges(subnet: Subnet) -> tuple[IPNetwork, IPNetwork]:
    whole = model.network(subnet.cidr)
    part = model.network(subnet.range) if subnet.range else whole
    inside = whole.version == part.version and (
        int(whole[0]) <= int(part[0]) and int(part[-1]) <= int(whole[-1])
    )
    if not inside:
        raise InvalidValue("range", subnet.range, f"it is not in {subnet.cidr}")
    return whole, part


def _kept(subnet: Subnet, whole: IPNetwork) -> set[int]:
    """What is never leased: the gateway, what is reserved, and the ends of the subnet."""
    kept = {int(model.interface(one).ip) for one in (subnet.gateway, *subnet.reserved)}
    kept.add(int(whole[0]))
    if whole.version == 4 and whole.prefixlen < 31:
        kept.add(int(whole[-1]))
    return kept


def _wanted(whole: IPNetwork, kept: set[int], wanted: str) -> str:
    address = model.interface(wanted).ip
    if address.version != whole.version or address not in whole:
        raise InvalidValue("address", wanted, f"it is not in {whole}")
    if int(address) in kept:
        raise InvalidValue("address", wanted, f"it is not for an endpoint of {whole}")
    return str(address)


def _next(part: IPNetwork, kept: set[int], leases: Leases) -> str:
    first, end = int(part[0]), int(part[-1])
    last = leases.last.get(str(part))
    start = int(model.interface(last).ip) + 1 if last else first
    for begin, stop in ((max(start, first), end), (first, min(start - 1, end))):
        for number in range(begin, stop + 1):
            if number not in kept:
                address = str(part[number - first])
                if address not in leases.owners:
                    return address
    taken = sum(1 for one in leases.owners if model.interface(one).ip in part)
    raise AddressesExhausted(str(part), taken)


def _parsed(text: str, path: str) -> Leases:
    leases = Leases()
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) != 3 or words[0] not in {"last", "lease"}:
            raise LeasesDamaged(path, line)
        (leases.last if words[0] == "last" else leases.owners)[words[1]] = words[2]
    return leases


def _lines(leases: Leases) -> str:
    last = [f"last {part} {address}\n" for part, address in leases.last.items()]
    owners = [f"lease {address} {owner}\n" for address, owner in leases.owners.items()]
    return "".join((*last, *owners))
