"""Who has which names and addresses on a network: a folder with a small file for each endpoint.

``<folder>/<owner>``, flat text: ``version 1``, then lines ``address A`` (without a prefix),
``name N`` (the first is the one that an address is turned back into), ``link L``.  A file
is written whole and renamed into place, so a reader sees all of it or nothing, and needs no lock.
The folder is the whole truth: a name is there from the rename on, and gone with the file.
"""

from __future__ import annotations

import os
import time

from netns.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 65536
# A folder's time is taken from a clock of some milliseconds: what was read within them may have
# changed since without another time.
_UNSETTLED_NS = 50_000_000


class Named(Record):
    """One endpoint as others find it."""

    owner: str
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    link: str = ""


def write(folder: str, named: Named) -> None:
    """Put an endpoint into the folder, which is made if need be, or replace it."""
    text = "version 1\n"
    text += "".join([f"address {address}\n" for address in named.addresses])
    text += "".join([f"name {name}\n" for name in dict.fromkeys(named.names)])
    if named.link:
        text += f"link {named.link}\n"
    path = f"{folder}/{named.owner}"
    try:
        _create(f"{path}.new", text.encode())
    except FileNotFoundError:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        _create(f"{path}.new", text.encode())
    # Without fsync: after a power cut no endpoint is left.
    os.rename(f"{path}.new", path)


def remove(folder: str, owner: str) -> None:
    """Take an endpoint out; one that is not there is nothing to do."""
    try:
        os.unlink(f"{folder}/{owner}")
    except FileNotFoundError:
        pass


def read(folder: str, owner: str) -> Named | None:
    """One endpoint, or None when there is none, or what is there is no such file."""
    try:
        fd = os.open(f"{folder}/{owner}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = os.read(fd, MAX_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return None  # gone by now, or a folder
    return _parsed(owner, data.decode("utf-8", "replace"))


def owners(folder: str) -> tuple[str, ...]:
    """Who is in the folder; nobody if it is not there."""
    try:
        found = os.listdir(folder)
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in found if not name.endswith(".new")))


def entries(folder: str) -> Iterator[Named]:
    """Every endpoint of the folder."""
    for owner in owners(folder):
        named = read(folder, owner)
        if named is not None:
            yield named


class Folder:
    """A folder held in memory, and read again when it has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: tuple[int, int] = (0, 0)
        self._is_settled = False
        self._files: dict[str, tuple[tuple[int, int], Named | None]] = {}
        self._by_name: dict[str, list[Named]] = {}
        self._by_address: dict[str, Named] = {}

    def is_empty(self) -> bool:
        """Nobody is in the folder, or it is not there."""
        self._refresh()
        return not self._files

    def named(self, name: str) -> list[Named]:
        """Who has this name, in lower case."""
        self._refresh()
        return self._by_name.get(name, [])

    def at(self, address: str) -> Named | None:
        """Who has this address, written as the kernel writes it."""
        self._refresh()
        return self._by_address.get(address)

    def names(self) -> dict[str, list[Named]]:
        """Every name in lower case; not to be changed, and another object after a change."""
        self._refresh()
        return self._by_name

    def _refresh(self) -> None:
        try:
            status = os.stat(self.path)
        except OSError:
            self._seen, self._is_settled = (0, 0), False
            self._take({})
            return
        seen = (status.st_ino, status.st_mtime_ns)
        if self._is_settled and seen == self._seen:
            return
        self._is_settled = time.time_ns() - status.st_mtime_ns > _UNSETTLED_NS
        self._seen = seen
        self._take(self._read())

    def _read(self) -> dict[str, tuple[tuple[int, int], Named | None]]:
        found = {}
        try:
            with os.scandir(self.path) as there:
                for entry in there:
                    owner = entry.name
                    if owner.endswith(".new"):
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # gone by now
                    mark = (status.st_ino, status.st_mtime_ns)
                    known = self._files.get(owner)
                    if known is not None and known[0] == mark:
                        found[owner] = known
                    else:
                        found[owner] = (mark, read(self.path, owner))
        except OSError:
            return {}
        return found

    def _take(self, files: dict[str, tuple[tuple[int, int], Named | None]]) -> None:
        if files == self._files:
            return
        self._files = files
        self._by_name, self._by_address = {}, {}
        for _, (_, named) in sorted(files.items()):
            if named is None:
                continue
            for name in dict.fromkeys([name.lower().rstrip(".") for name in named.names]):
                self._by_name.setdefault(name, []).append(named)
            for address in named.addresses:
                self._by_address[address] = named


def _create(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _parsed(owner: str, text: str) -> Named | None:
    addresses, names, link = [], [], ""
    lines = text.splitlines()
    if not lines or lines[0] != "version 1":
        return None
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "address":
            addresses.append(rest)
        elif word == "name":
            names.append(rest)
        elif word == "link":
            link = rest
    return Named(owner=owner, addresses=tuple(addresses), names=tuple(names), link=link)
