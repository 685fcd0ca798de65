"""Small files that can be made anew: read only when nobody else can have written them.

A cache holds what a start would otherwise compute (a seccomp program, a launch
plan) and hands it to the kernel as root, so a file counts only when this user
owns it, nobody else may write to it, and it is whole: a check sum at its end tells
what a full disk or a power cut made of it.  Anything else is as if it were not there.
"""

from __future__ import annotations

import os
from _imp import source_hash

_SUM_BYTES = 8
_KEY = 3


def read(path: str, *, max_bytes: int) -> bytes | None:
    """The whole file, or None when there is none to be trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # whatever the reason, it is made anew
    try:
        status = os.fstat(fd)
        if (
            status.st_mode & 0o170022 != 0o100000
            or status.st_uid != os.geteuid()
            or not _SUM_BYTES < status.st_size <= max_bytes + _SUM_BYTES
        ):
            return None
        whole = os.read(fd, max_bytes + _SUM_BYTES + 1)
    finally:
        os.close(fd)
    data = whole[:-_SUM_BYTES]
    return data if whole[-_SUM_BYTES:] == _sum(data) else None


def write(path: str, data: bytes) -> None:
    """Keep it for whoever comes next, in a folder for this user alone; failing is no failure."""
    # Another thread, or a process of another pid namespace, may be writing the same.
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            whole = data + _sum(data)
            # A disk that fills up takes a part and says nothing; see `read`.
            if os.write(fd, whole) != len(whole):
                raise OSError
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        # A full or read-only store, or two at once: the content itself is in hand.
        try:
            os.unlink(temporary)
        except OSError:
            pass


def _sum(data: bytes) -> bytes:
    # Against accidents, not against an enemy: what Python tells a changed source by, and the
    # quickest that is built in.
    return source_hash(_KEY, data)
