"""Where the parts of an image come from: a tar file, a stream, or a folder.

A `Source` gives parts by name.  A name is looked up among the archive's own
members, links among them included; nothing outside is ever reached.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

from ..errors import DamagedArchive, UnsafeArchive
from .flow import flowing
from .streams import CHUNK, write_all
from .tarmembers import UNEXPECTED_EOF, Member, inside, members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol, Self

    from .tarmembers import Stream

    class Source(Protocol):
        """The parts of an image, by name."""

        def has(self, name: str) -> bool:
            """Whether there is a part of this name."""

        def open(self, name: str) -> Part:
            """The part; `DamagedArchive` if there is none.  The caller closes it."""

        def close(self) -> None:
            """Let go of what the source holds."""


MAX_LINKS = 8


class Part:
    """A range of a file that is open for reading, and kept by this object."""

    def __init__(self, name: str, fd: int, *, start: int, size: int) -> None:
        self.name = name
        self.size = size
        self._fd = fd
        self._start = start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        os.close(self._fd)

    def start(self, length: int) -> bytes:
        """The first bytes, at most ``length``."""
        return os.pread(self._fd, min(length, self.size), self._start)

    def content(self, *, limit: int) -> bytes:
        """All of it, if it is not longer than ``limit``."""
        if self.size > limit:
            raise UnsafeArchive(entry=self.name, problem=f"longer than {limit} bytes")
        parts = []
        at = 0
        while at < self.size:
            part = os.pread(self._fd, min(CHUNK, self.size - at), self._start + at)
            if not part:
                raise DamagedArchive(UNEXPECTED_EOF)
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def copy_to(self, fd: int) -> None:
        """Append all of it to a file, in the kernel where that can be done."""
        self._copy(fd, self.size, lambda _count: None)

    def _copy(self, fd: int, most: int, copied: Callable[[int], None]) -> None:
        at = 0
        share = True
        while at < self.size:
            want = min(self.size - at, most)
            if share:
                # Shares the blocks on file systems that can.
                try:
                    count = os.copy_file_range(self._fd, fd, want, self._start + at)
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                        raise
                    share = False
                    continue
            else:
                count = os.sendfile(fd, self._fd, self._start + at, min(want, 64 << 20))
            if not count:
                raise DamagedArchive(UNEXPECTED_EOF)
            at += count
            copied(count)

    @contextmanager
    def kept_in(self, fd: int) -> Iterator[int]:
        """Keep all of it in a file, and give a descriptor from which it can be read meanwhile."""
        if self.size <= CHUNK:
            self.copy_to(fd)
            os.lseek(fd, 0, os.SEEK_SET)
            yield fd
            return
        with flowing(fd, lambda copied: self._copy(fd, CHUNK, copied), lambda: None) as read:
            yield read


class TarSource:
    """An uncompressed archive in a regular file: headers are read, contents stay where they are.

    Borrows the descriptor.
    """

    def __init__(self, fd: int, stream: Stream) -> None:
        self._fd = fd
        base = os.lseek(fd, 0, os.SEEK_CUR)
        self._members = _index(
            {inside(member.name): _moved(member, base) for member in members(stream)}
        )

    def has(self, name: str) -> bool:
        """Whether there is a part of this name."""
        return inside(name) in self._members

    def open(self, name: str) -> Part:
        """The part; the caller closes it."""
        member = _found(self._members, name)
        return Part(name, os.dup(self._fd), start=member.start, size=member.size)

    def close(self) -> None:
        """Nothing is held."""


class SpooledSource:
    """An archive that can be read only once: its files are kept in ``folder`` on the way.

    Borrows the folder, which is the staging folder of the one who loads.
    """

    def __init__(self, stream: Stream, folder: str) -> None:
        self._folder = folder
        found: dict[str, Member] = {}
        for number, member in enumerate(members(stream)):
            if member.kind == "file":
                _spool(stream, member.size, f"{folder}/member-{number}")
            found[inside(member.name)] = _numbered(member, number)
        self._members = _index(found)

    def has(self, name: str) -> bool:
        """Whether there is a part of this name."""
        return inside(name) in self._members

    def open(self, name: str) -> Part:
        """The part; the caller closes it."""
        member = _found(self._members, name)
        fd = os.open(f"{self._folder}/member-{member.start}", os.O_RDONLY | os.O_CLOEXEC)
        return Part(name, fd, start=0, size=member.size)

    def close(self) -> None:
        """What is kept goes with the staging folder."""


class FolderSource:
    """An image layout in a folder.  Symbolic links are not followed: none belong there."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def has(self, name: str) -> bool:
        """Whether there is a part of this name."""
        try:
            self.open(name).__exit__()
        except DamagedArchive:
            return False
        return True

    def open(self, name: str) -> Part:
        """The part; the caller closes it."""
        *folders, last = inside(name).split("/")
        held = os.dup(self._root)
        try:
            for folder in folders:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                lower = os.open(folder, flags, dir_fd=held)
                os.close(held)
                held = lower
            # A FIFO would wait for its other end.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(last, flags, dir_fd=held)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DamagedArchive(f"{name} is missing") from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise UnsafeArchive(entry=name, problem="a symbolic link") from error
        finally:
            os.close(held)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise UnsafeArchive(entry=name, problem="not a regular file")
        return Part(name, fd, start=0, size=status.st_size)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._root)


def _index(found: dict[str, Member]) -> dict[str, Member]:
    # The last of several members of one name wins, as with tar itself; a link
    # counts as the file that it leads to.
    made = {}
    for name, member in found.items():
        target: Member | None = member
        for _ in range(MAX_LINKS):
            if target is None or target.kind not in ("symlink", "hardlink"):
                break
            target = found.get(_target(target))
        if target is not None and target.kind == "file":
            made[name] = target
    return made


def _target(member: Member) -> str:
    if member.kind == "hardlink":
        return inside(member.link)
    if member.link.startswith("/"):
        raise UnsafeArchive(entry=member.name, problem="a link out of the archive")
    folder = inside(member.name).rpartition("/")[0]
    return inside(f"{folder}/{member.link}")


def _found(found: dict[str, Member], name: str) -> Member:
    member = found.get(inside(name))
    if member is None:
        raise DamagedArchive(f"{name} is missing")
    return member


def _moved(member: Member, base: int) -> Member:
    return Member(
        name=member.name,
        kind=member.kind,
        size=member.size,
        start=member.start + base,
        link=member.link,
    )


def _numbered(member: Member, number: int) -> Member:
    return Member(
        name=member.name, kind=member.kind, size=member.size, start=number, link=member.link
    )


def _spool(stream: Stream, size: int, path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while size:
            part = stream.read(min(size, CHUNK))
            if not part:
                raise DamagedArchive(UNEXPECTED_EOF)
            write_all(fd, part)
            size -= len(part)
    finally:
        os.close(fd)
