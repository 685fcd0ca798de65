"""How a layer says that something of the layers below is gone.

In an archive it is an empty file: ``.wh.NAME`` beside where NAME was, and
``.wh..wh..opq`` in a folder of which nothing below shows.  Other names that begin
with ``.wh..wh.`` are aufs' own notes and mean nothing.  In an unpacked tree it is
overlayfs' form: a character device 0:0 called NAME, and an extended attribute on the
folder.  ``unpack.c`` turns the first into the second.
"""

from __future__ import annotations

import os
import stat

PREFIX = ".wh."
META_PREFIX = ".wh..wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
OPAQUE_XATTR_ROOTLESS = "user.overlay.opaque"


def whiteout_name(name: str) -> str:
    """What the whiteout of ``name``, one path component, is called in an archive."""
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"no name of a file: {name!r}")
    return PREFIX + name


def hidden_name(name: str) -> str | None:
    """What an archive's file of this name hides; None if it is no whiteout of one name."""
    if not name.startswith(PREFIX) or name.startswith(META_PREFIX):
        return None
    hidden = name[len(PREFIX) :]
    return hidden if hidden not in ("", ".", "..") else None


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs' mark for a name that is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(fd: int, *, xattr: str = OPAQUE_XATTR) -> bool:
    """Whether the open folder hides all that is below it."""
    try:
        return os.getxattr(fd, xattr) == b"y"
    except OSError:
        # ENODATA most often; without the privilege to see it, it also has no effect.
        return False
