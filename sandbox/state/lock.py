"""One lock an object, held by the living.

``flock`` on a file that stays: the lock belongs to the open file description,
goes with the last descriptor of it, and so never outlives its holders.  A
description can be handed to a child (the monitor gets ``alive`` that way).
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Lock:
    """A held lock; `close` lets it go, and may be called twice."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close this description's descriptor; others that share it keep the lock."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def take(path: str, *, shared: bool = False) -> Lock:
    """Wait for the lock, or for a share of it.  `FileNotFoundError` without the object's folder."""
    while True:
        lock = _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        assert lock is not None
        if _is_current(lock.fd, path):
            return lock
        # The object was removed, and maybe made anew, while we waited.
        lock.close()


def try_take(path: str) -> Lock | None:
    """The lock, or None when somebody living has it."""
    lock = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is not None and not _is_current(lock.fd, path):
        lock.close()
        raise FileNotFoundError(path)
    return lock


def is_held(path: str) -> bool:
    """Somebody living has the lock; False when there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _locked(path: str, how: int) -> Lock | None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return Lock(fd)


def _is_current(fd: int, path: str) -> bool:
    held = os.fstat(fd)
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
