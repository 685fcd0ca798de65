"""Marks of a layer for overlays that are mounted in a user namespace.

Such an overlay cannot see ``trusted.*``, so a folder that hides what is below it would
show it again.  It asks for ``user.overlay.opaque`` instead, which is put beside the other
mark when the first container with a user namespace uses the layer: most layers never have
one, and in an overlay without a user namespace the attribute would show for what it is.
Whiteouts are devices, and the same in both.

An archive of the tree has neither (``native/pack.c``), so trees still compare equal.
"""

from __future__ import annotations

import errno
import os

from ..errors import HostLacks
from .whiteout import OPAQUE_XATTR_ROOTLESS, is_opaque

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = "usermarks"  # beside the tree: all of it is marked


def mark_for_user_namespaces(tree: str) -> None:
    """Mark a layer's tree, which nobody else changes; next to nothing when that is done.

    Two may do it at once.  Raises `HostLacks` when the file system keeps no such attributes
    and the layer needs them: what it hides would show.
    """
    done = f"{os.path.dirname(tree)}/{_MARK}"
    if os.path.exists(done):
        return
    top = os.open(tree, _FOLDER)
    try:
        # Engine-owned and at rest, so names lead where they say; each is bounded by its archive.
        folders = ["."]
        while folders:
            path = folders.pop()
            fd = os.open(path, _FOLDER, dir_fd=top)
            try:
                if is_opaque(fd):
                    _mark(fd, f"{tree}/{path}")
                with os.scandir(fd) as found:
                    folders += [
                        f"{path}/{each.name}"
                        for each in found
                        if each.is_dir(follow_symlinks=False)
                    ]
            finally:
                os.close(fd)
    finally:
        os.close(top)
    os.close(os.open(done, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _mark(fd: int, path: str) -> None:
    try:
        os.setxattr(fd, OPAQUE_XATTR_ROOTLESS, b"y")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
            raise
        raise HostLacks(
            f"the store's file system cannot mark {path} for user namespaces: "
            f"{os.strerror(error.errno).lower()}",
            hint="without the mark files would show that the image has deleted",
        ) from error
    os.fsync(fd)  # before it is written down that all are marked
