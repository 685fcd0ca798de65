"""Half-made things: folders below ``staging/`` that live no longer than their maker.

    staging/image-<id>.lock     held (flock) by the one of several loads of an image that works
    staging/image-<random>/     one a load, import, tag or removal
        candidates              what may have become, or may stay, without an image: one
                                ``layer <hex>`` or ``blob <hex>`` a line

The maker holds a lock (flock) on the folder itself; the kernel drops it with the
maker.  A folder that nobody holds is dead: `sweep` removes it, and whatever its
candidates name that no image refers to.  So a maker that dies between two renames
leaves nothing, and a removal that must wait for a load is carried out afterwards.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from contextlib import contextmanager

from ..errors import StoreFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

PREFIX = "image-"
_GET_FLAGS, _SET_FLAGS, _TOPDIR = 0x80086601, 0x40086602, 0x00020000  # linux/fs.h, ext4.h
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def full_store(root: str) -> Iterator[None]:
    """Say `StoreFull` where the kernel says that there is no space."""
    try:
        yield
    except StoreFull as error:
        if error.path == root:
            raise
        raise StoreFull(root) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFull(root) from error


class Staging:
    """One folder of ours, removed at the end whatever happened."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def create(cls, root: str) -> Staging:
        """Make a folder below ``root`` and hold it."""
        while True:
            path = f"{root}/{PREFIX}{os.urandom(12).hex()}"
            os.mkdir(path, 0o700)
            try:
                fd = os.open(path, _FOLDER)
            except FileNotFoundError:
                continue  # a sweep came between
            fcntl.flock(fd, fcntl.LOCK_EX)
            # A sweep that held it first has removed it.
            if _is_same(path, fd):
                return cls(path, fd)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder with everything in it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                remove(self.path)
            finally:
                os.close(fd)

    def leave(self) -> None:
        """Let go of the folder without removing it: the next sweep carries it out."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, name: str, content: bytes) -> str:
        """Make a file with this content, on the disk when this returns; its path."""
        path = f"{self.path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        return path

    def propose(self, candidates: list[str]) -> None:
        """Write down, before it happens, what may end up without an image."""
        self.write("candidates", "".join(f"{line}\n" for line in candidates).encode())


def spread(path: str) -> None:
    """Have ext4 put each folder made in ``path`` where there are few others.

    It would put all of them, with their files, into one group of inodes; who unpacks where
    something was removed a moment ago then waits for it to look at each inode that is not
    to be taken again yet, several times as long as for all the rest.
    """
    try:
        fd = os.open(path, _FOLDER)
    except OSError:
        return
    try:
        flags = bytearray(4)
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        wanted = int.from_bytes(flags, sys.byteorder) | _TOPDIR
        fcntl.ioctl(fd, _SET_FLAGS, wanted.to_bytes(4, sys.byteorder))
    except OSError:
        pass  # another file system, which has no such flag
    finally:
        os.close(fd)


class Turn:
    """One at a time for each name, for a block; the lock's file goes with the last holder."""

    def __init__(self, root: str, name: str) -> None:
        self._path = f"{root}/{PREFIX}{name}.lock"
        self._fd = -1

    def __enter__(self) -> None:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # The holder before us may have removed the file that we waited for.
            if _is_same(self._path, fd):
                self._fd = fd
                return
            os.close(fd)

    def __exit__(self, *_failure: object) -> None:
        os.unlink(self._path)
        os.close(self._fd)


def sweep(root: str, carry_out: Callable[[list[str]], bool]) -> tuple[str, ...]:
    """Remove the folders of dead makers; the names of those removed.

    ``carry_out`` is given each folder's candidates; if it says no (someone is
    loading), the folder stays for the next sweep, empty but for them.
    """
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return ()
    removed = []
    for name in names:
        if not name.startswith(PREFIX):
            continue  # other parts of the engine stage here too
        path = f"{root}/{name}"
        is_lock = name.endswith(".lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC if is_lock else _FOLDER)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_same(path, fd):
                continue
            if is_lock:
                os.unlink(path)
            elif carry_out(_candidates(path)):
                remove(path)
                removed.append(name)
            else:
                for other in os.listdir(fd):
                    if other != "candidates":
                        remove(f"{path}/{other}")
        except BlockingIOError:
            pass  # its maker lives
        finally:
            os.close(fd)
    return tuple(removed)


def remove(path: str) -> None:
    """Remove a tree by handle."""
    from ..layer.unpack import remove_tree

    parent, _, name = path.rpartition("/")
    fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def _candidates(path: str) -> list[str]:
    try:
        with open(f"{path}/candidates", encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _is_same(path: str, fd: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
