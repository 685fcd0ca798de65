"""A folder tree as a value, so that two can be compared."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

Entry = tuple[object, ...]


def picture(
    root: Path | str, *, directory_times: bool = True, without: str = ""
) -> dict[str, Entry]:
    """Everything below ``root``: type, mode, owner, size, time, link, device, content, names that
    share the inode, and extended attributes.  ``without`` is a path below it to leave out."""
    found: dict[str, Entry] = {}
    names: dict[int, str] = {}
    paths = [str(root)]
    while paths:
        path = paths.pop()
        name = os.path.relpath(path, root)
        if name == without:
            continue
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            paths += sorted((entry.path for entry in os.scandir(path)), reverse=True)
        first = names.setdefault(status.st_ino, name)
        found[name] = (
            stat.filemode(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_size if kind != stat.S_IFDIR else 0,
            status.st_mtime_ns if directory_times or kind != stat.S_IFDIR else 0,
            os.readlink(path) if kind == stat.S_IFLNK else "",
            status.st_rdev,
            _content(path) if kind == stat.S_IFREG else "",
            (status.st_nlink, first) if kind != stat.S_IFDIR else (),
            _xattrs(path),
        )
    return found


def _content(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def differences(left: dict[str, Entry], right: dict[str, Entry]) -> list[str]:
    return [
        f"{name}: {left.get(name)} != {right.get(name)}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]
