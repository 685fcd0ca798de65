"""Read and write one interface file, with the path and the value in every error.

Plain descriptors, because this is on the way of every container's start.  A
directory is made, listed and removed here too, so that a test has one place
where it can stand in for the kernel.
"""

from __future__ import annotations

import os
from errno import EACCES, ENODEV, ENOENT, EOPNOTSUPP, EPERM, EROFS

from cgroups.errors import FileError

# The file or its controller is not there: ENODEV after the group was removed
# under an open descriptor, EOPNOTSUPP for PSI that was switched off at boot.
ABSENT = (ENOENT, ENODEV, EOPNOTSUPP)
FORBIDDEN = (EACCES, EPERM, EROFS)

_CHUNK = 65536
_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC


def read(path: str) -> str:
    """The whole of a file, as text."""
    try:
        fd = os.open(path, _READ)
        try:
            data = chunk = os.read(fd, _CHUNK)
            # The kernel hands out whole pages; a short read is not yet the end.
            while chunk:
                chunk = os.read(fd, _CHUNK)
                data += chunk
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(path, None, error.errno or 0) from error
    return data.decode("utf-8", "surrogateescape")


def read_line(path: str) -> str:
    """The line of a file that has one, without its end, for one read(2) instead of two."""
    try:
        fd = os.open(path, _READ)
        try:
            return os.read(fd, _CHUNK).decode().rstrip("\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(path, None, error.errno or 0) from error


def read_if_present(path: str) -> str | None:
    """The whole of a file, or None where this host has no such file."""
    try:
        return read(path)
    except FileError as error:
        if error.errno in ABSENT:
            return None
        raise


def write(path: str, *values: str) -> None:
    """Write each value with a write(2) of its own, in order, through one descriptor."""
    value = values[0]
    try:
        fd = os.open(path, _WRITE)
        try:
            for value in values:
                os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(path, value, error.errno or 0) from error


def exists(path: str) -> bool:
    """Whether this host has such a file."""
    return os.access(path, os.F_OK)


def make_directory(path: str) -> None:
    """``mkdir``; raises OSError."""
    os.mkdir(path)


def remove_directory(path: str) -> None:
    """``rmdir``; raises OSError."""
    os.rmdir(path)


def subdirectories(path: str) -> list[str]:
    """The groups directly below; none when the group itself is gone."""
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise FileError(path, None, error.errno or 0) from error


def names(path: str) -> list[str]:
    """The files of a group; none when it is gone."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise FileError(path, None, error.errno or 0) from error


def pids_below(path: str) -> list[int]:
    """Every process at and below a group; none when it is gone; 0 for one we cannot see."""
    pids: list[int] = []
    pending = [path]
    while pending:
        here = pending.pop()
        text = read_if_present(here + "/cgroup.procs")
        if text is not None:
            pids += [int(pid) for pid in text.split()]
            pending += subdirectories(here)
    return pids


def number(text: str | None) -> int | None:
    """One number; None for no file, and for ``max``."""
    text = text.strip() if text else ""
    return int(text) if text.lstrip("-").isdigit() else None


def flat(text: str | None) -> dict[str, int]:
    """``key value`` lines."""
    found: dict[str, int] = {}
    for line in text.splitlines() if text else ():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def nested(text: str | None) -> dict[str, dict[str, str]]:
    """``key name=value name=value`` lines."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines() if text else ():
        key, *pairs = line.split()
        found[key] = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return found
