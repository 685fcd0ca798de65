"""Small files that can be made anew: read only when nobody else can have written them.

A cache holds what a start would otherwise compute (a seccomp program, a launch
plan) and hands it to the kernel as root, so a file counts only when this user
owns it and nobody else may write to it; anything else is as if it were not there.
"""

from __future__ import annotations

import os


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
            or not 0 < status.st_size <= max_bytes
        ):
            return None
        data = os.read(fd, max_bytes + 1)
    finally:
        os.close(fd)
    return data if len(data) == status.st_size else None


def write(path: str, data: bytes) -> None:
    """Keep it for whoever comes next, in a folder for this user alone; failing is no failure."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        # A full or read-only store, or two at once: the content itself is in hand.
        try:
            os.unlink(temporary)
        except OSError:
            pass
