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
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType
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

    def edit(self) -> _Edit:
        """Lock, read, let the block change, replace the file if anything is different."""
        return _Edit(self)

    def rebuild(self, owners: Mapping[str, str]) -> None:
        """Put other leases, by address, in the place of a file that cannot be read."""
        import fcntl

        leases = Leases()
        leases.owners.update(owners)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                _parsed(self._read(), self.path)
            except LeasesDamaged:  # nobody else has done it meanwhile
                self._replace(_lines(leases))
        finally:
            os.close(lock)

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


class _Edit:
    """One transaction on a file; a class, for ``contextlib`` costs more than the transaction."""

    def __init__(self, store: FileLeases) -> None:
        self._store = store
        self._lock = -1
        self._before = ""
        self._leases = Leases()

    def __enter__(self) -> Leases:
        import fcntl

        path = f"{self._store.path}.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._before = self._store._read()
            self._leases = _parsed(self._before, self._store.path)
        except BaseException:
            os.close(self._lock)
            raise
        return self._leases

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                after = _lines(self._leases)
                if after != self._before:
                    self._store._replace(after)
        finally:
            os.close(self._lock)


class _Range:
    """A subnet's addresses as numbers; ``ipaddress`` is too dear for a lease."""

    __slots__ = ("family", "first", "last", "prefix", "text")

    def __init__(self, cidr: str) -> None:
        import _socket

        packed, self.prefix = model.packed_address(cidr)
        self.family = _socket.AF_INET6 if len(packed) == 16 else _socket.AF_INET
        self.first = int.from_bytes(packed, "big")
        free = len(packed) * 8 - self.prefix
        self.last = self.first | (1 << free) - 1
        self.text = cidr
        if self.first & (1 << free) - 1:
            raise InvalidValue("subnet", cidr, f"{cidr} has host bits set")

    def has(self, number: int | None) -> bool:
        return number is not None and self.first <= number <= self.last

    def number_of(self, address: str) -> int | None:
        """The address as a number, or None if it is of the other family."""
        packed, _ = model.packed_address(address)
        is_ours = (len(packed) == 16) == (":" in self.text)
        return int.from_bytes(packed, "big") if is_ours else None

    def address(self, number: int) -> str:
        import _socket

        return _socket.inet_ntop(self.family, number.to_bytes(16 if ":" in self.text else 4, "big"))


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
            leases.last[part.text] = address
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
    return f"{address}/{model.packed_address(subnet.cidr)[1]}"


def is_in(subnet: Subnet, address: str) -> bool:
    """Whether the address, with or without a prefix, is one of the subnet."""
    whole = _Range(subnet.cidr)
    return whole.has(whole.number_of(address))


def checked_subnet(subnet: Subnet) -> Subnet:
    """The subnet, if its gateway and its range lie in it."""
    whole, _ = _ranges(subnet)
    if not whole.has(whole.number_of(subnet.gateway)):
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


def _ranges(subnet: Subnet) -> tuple[_Range, _Range]:
    whole = _Range(subnet.cidr)
    part = _Range(subnet.range) if subnet.range else whole
    if whole.family != part.family or not (whole.has(part.first) and whole.has(part.last)):
        raise InvalidValue("range", subnet.range, f"it is not in {subnet.cidr}")
    return whole, part


def _kept(subnet: Subnet, whole: _Range) -> set[int]:
    """What is never leased: the gateway, what is reserved, and the ends of the subnet."""
    numbers = (whole.number_of(one) for one in (subnet.gateway, *subnet.reserved))
    kept = {number for number in numbers if number is not None}
    kept.add(whole.first)
    if ":" not in whole.text and whole.prefix < 31:
        kept.add(whole.last)
    return kept


def _wanted(whole: _Range, kept: set[int], wanted: str) -> str:
    number = whole.number_of(wanted)
    if number is None or not whole.has(number):
        raise InvalidValue("address", wanted, f"it is not in {whole.text}")
    if number in kept:
        raise InvalidValue("address", wanted, f"it is not for an endpoint of {whole.text}")
    return whole.address(number)


def _next(part: _Range, kept: set[int], leases: Leases) -> str:
    last = leases.last.get(part.text)
    number = part.number_of(last) if last else None
    start = part.first if number is None else number + 1
    for begin, stop in ((max(start, part.first), part.last), (part.first, start - 1)):
        for number in range(begin, min(stop, part.last) + 1):
            if number not in kept:
                address = part.address(number)
                if address not in leases.owners:
                    return address
    taken = sum(1 for one in leases.owners if part.has(part.number_of(one)))
    raise AddressesExhausted(part.text, taken)


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
