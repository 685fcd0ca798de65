"""Delete a small tree by handle, without loading the native module.

Most containers end with an empty writable layer and a handful of files.  What
turns out to be larger is left to `sandbox.layer.unpack.remove_tree`.
"""

from __future__ import annotations

import errno
import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_small(parent_fd: int, name: str, *, budget: int = 256) -> bool:
    """Remove ``name``; False, with a part of it gone, when it holds more than ``budget``."""
    return _remove(parent_fd, name, budget) >= 0


def _remove(parent_fd: int, name: str, budget: int) -> int:
    if budget <= 0:
        return -1
    try:
        os.unlink(name, dir_fd=parent_fd)
        return budget - 1
    except FileNotFoundError:
        return budget
    except OSError as error:
        # EISDIR is Linux's word for a folder, EPERM POSIX's.
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=parent_fd)
        return budget - 1
    except OSError as error:
        if error.errno == errno.ENOENT:
            return budget
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    try:
        fd = os.open(name, _FOLDER, dir_fd=parent_fd)
    except FileNotFoundError:
        # Somebody else is deleting it too.
        return budget
    try:
        for entry in os.listdir(fd):
            budget = _remove(fd, entry, budget)
            if budget < 0:
                return -1
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    return budget - 1
