"""Folders that a layer holds without saying so.

A layer that has ``usr/bin/tool`` need not have ``usr``.  Over a lower layer that has
``usr`` with an owner and a mode of its own, those must go on to hold: an overlay
shows the topmost folder's.  So such a folder takes its owner, mode, extended
attributes and times from the next lower layer that has it.  What that is depends on
the layers below, which is why unpacked layers are kept by ChainID.
"""

from __future__ import annotations

import errno
import os
import stat

from ..layer.whiteout import OPAQUE_XATTR, OPAQUE_XATTR_ROOTLESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def settle_implied(layers: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Settle the implied folders of layers: (unpacked tree, its implied folders), lowest first."""
    for number, (tree, implied) in enumerate(layers):
        lower = [path for path, _ in reversed(layers[:number])]
        # A parent before what is in it: its times are its own, but its mode may shut it.
        for name in sorted(implied):
            _settle(tree, _parts(name), lower)


def take_times(tree: str, implied: Sequence[str], model: str) -> None:
    """Give implied folders the times that they have in another copy of the tree.

    Where no lower layer has them, their times are those of the unpacking.
    """
    for name in implied:
        fd, _ = _find(tree, _parts(name))
        other, _ = _find(model, _parts(name))
        try:
            if fd >= 0 and other >= 0:
                status = os.fstat(other)
                os.utime(_by_handle(fd), ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            for each in (fd, other):
                if each >= 0:
                    os.close(each)


def _settle(tree: str, parts: list[str], lower: list[str]) -> None:
    for path in lower:
        found, hidden = _find(path, parts)
        if found >= 0:
            try:
                _take_after(tree, parts, found)
            finally:
                os.close(found)
            return
        if hidden:
            return


def _find(tree: str, parts: list[str]) -> tuple[int, bool]:
    """The folder in this layer, or -1; and whether this layer hides those below it."""
    held = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    hidden = False
    try:
        for part in parts:
            try:
                step = os.open(part, _STEP, dir_fd=held)
            except FileNotFoundError:
                return -1, hidden
            os.close(held)
            held = step
            if not stat.S_ISDIR(os.fstat(held).st_mode):
                return -1, True
            hidden = hidden or _is_opaque(held)
        found, held = held, -1
        return found, hidden
    finally:
        if held >= 0:
            os.close(held)


def _take_after(tree: str, parts: list[str], model: int) -> None:
    fd, _ = _find(tree, parts)
    if fd < 0:
        return
    try:
        status = os.stat(_by_handle(model))
        path = _by_handle(fd)
        os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(_by_handle(model)):
            if not name.startswith(("trusted.overlay.", "user.overlay.")):
                _copy_attribute(name, _by_handle(model), path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)


def _copy_attribute(name: str, model: str, path: str) -> None:
    try:
        os.setxattr(path, name, os.getxattr(model, name))
    except OSError as error:
        # The file system of the store keeps no such attribute, or the kernel sets it itself.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            raise


def _is_opaque(fd: int) -> bool:
    for name in (OPAQUE_XATTR, OPAQUE_XATTR_ROOTLESS):
        try:
            if os.getxattr(_by_handle(fd), name) == b"y":
                return True
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise
    return False


def _by_handle(fd: int) -> str:
    # The O_PATH descriptor itself, under the only name that these calls take.
    return f"/proc/self/fd/{fd}"


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]
