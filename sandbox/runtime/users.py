"""``--user`` and the image's USER: names and numbers become ids, groups and a home.

``/etc/passwd`` and ``/etc/group`` of an image are read from descriptors that the
caller opens inside the root; no Python ever enters it.  `find_in_layers` opens a
file in a stack of overlay layers, or in a plain folder, by handle.  Digits are
always a number: a user called "0" in an image is never looked up by that name.
"""

from __future__ import annotations

import os
from errno import ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOTDIR, ENOTSUP, EPERM

from ..errors import UsageError
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Opener = Callable[[str], "int | None"]

MAX_ID = (1 << 31) - 1
MAX_BYTES = 16 << 20
MAX_LINKS = 40
MAX_GROUPS = 1024

_S_IFMT = 0o170000
_S_IFREG = 0o100000
_S_IFDIR = 0o040000
_S_IFLNK = 0o120000
_S_IFCHR = 0o020000
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Account(Record):
    """Who a process is; ``groups`` begins with the primary one."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_user(user: str, open_in_root: Opener, *, group_add: Iterable[str] = ()) -> Account:
    """``[NAME|UID][:GROUP|GID]``, with docker's rules and words.

    ``open_in_root`` returns a descriptor of a file of the root, which is closed
    here, or None.  A number needs no entry; its home is then ``/`` and its group 0.
    """
    wanted, _colon, group = user.partition(":")
    number = _number(wanted or "0")
    uid, gid, home, name = number or 0, 0, "/", ""
    looked_for = wanted if number is None else str(number)
    for fields in _entries(open_in_root, "/etc/passwd", 7, having=looked_for):
        entry_uid, entry_gid = _digits(fields[2]), _digits(fields[3])
        if entry_uid is None or entry_gid is None:
            continue
        if (fields[0] == wanted) if number is None else (entry_uid == number):
            uid, gid, home, name = entry_uid, entry_gid, fields[5] or "/", fields[0]
            break
    else:
        if number is None:
            raise UsageError(f"unable to find user {wanted}: no matching entries in passwd file")
    added = list(group_add)
    listed: list[int] = []
    if group or name or added:
        # Mostly the question is only in which groups the user is.
        having = "" if group or added else name
        groups = [
            (fields[0], entry_gid, fields[3])
            for fields in _entries(open_in_root, "/etc/group", 4, having=having)
            if (entry_gid := _digits(fields[2])) is not None
        ]
        if group:
            gid = _find_group(group, groups)
        elif name:
            listed = [
                entry_gid for _name, entry_gid, members in groups if name in members.split(",")
            ]
        listed += [_find_group(each, groups) for each in added]
    all_groups = tuple(dict.fromkeys((gid, *listed)))
    if len(all_groups) > MAX_GROUPS:
        raise UsageError(f"user {user or '0'} is in more than {MAX_GROUPS} groups")
    return Account(uid=uid, gid=gid, groups=all_groups, home=home)


def find_in_layers(layers: Sequence[str], path: str) -> int | None:
    """Open a regular file as the overlay of ``layers`` (top first) would show it, or None.

    Whiteouts and opaque folders hold; links are followed inside the stack and
    nowhere else.  The descriptor is the caller's to close.  Anything but a
    regular file is a `UsageError`, without having been opened.
    """
    stack: list[int] = []
    try:
        for layer in layers:
            # One by one: what was opened before a failure is closed below.
            stack.append(os.open(layer, _FOLDER_FLAGS))  # noqa: PERF401
        found = _walk(stack, path)
    finally:
        for fd in stack:
            os.close(fd)
    if found is None:
        return None
    try:
        if os.fstat(found).st_mode & _S_IFMT != _S_IFREG:
            raise UsageError(f"{path} of the image is not a regular file")
        # From the handle, so it is the very file that was looked at.
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(found)


def _walk(root: list[int], path: str) -> int | None:
    # `trail` has the merged folders from the root down to here, each a stack of descriptors.
    todo = _parts(path)
    trail = [root]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name == ".":
                continue
            if name == "..":
                if len(trail) > 1:
                    _close(trail.pop())
                continue
            kind, fds = _look_up(trail[-1], name)
            if kind == _S_IFDIR:
                trail.append(fds)
            elif kind == _S_IFLNK:
                links += 1
                target = os.readlink("", dir_fd=fds[0])
                _close(fds)
                if links > MAX_LINKS:
                    raise UsageError(f"{path} of the image: {os.strerror(ELOOP).lower()}")
                if target.startswith("/"):
                    while len(trail) > 1:
                        _close(trail.pop())
                todo += _parts(target)
            elif not fds:
                return None
            elif todo:
                _close(fds)
                return None
            else:
                return fds[0]
        return os.dup(trail[-1][0])
    finally:
        while len(trail) > 1:
            _close(trail.pop())


def _parts(path: str) -> list[str]:
    # The last one first.  "." stays, and stands for a slash at the end: a file has neither.
    parts = [part for part in path.split("/") if part]
    if path.endswith("/"):
        parts.append(".")
    parts.reverse()
    return parts


def _look_up(stack: list[int], name: str) -> tuple[int, list[int]]:
    # The kind of what the overlay shows under this name, and its descriptors: one, or for a
    # folder one a layer; none when there is nothing.
    found: list[int] = []
    try:
        for at, folder in enumerate(stack):
            try:
                fd = os.open(name, _PATH_FLAGS, dir_fd=folder)
            except OSError as error:
                if error.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
                    continue
                raise
            status = os.fstat(fd)
            kind = status.st_mode & _S_IFMT
            if kind == _S_IFDIR:
                found.append(fd)
                if at + 1 < len(stack) and _is_opaque(fd):
                    break
                continue
            if found or (kind == _S_IFCHR and status.st_rdev == 0):
                # A file below a folder is hidden by it; a whiteout hides what is below.
                os.close(fd)
                break
            return kind, [fd]
    except BaseException:
        _close(found)
        raise
    return (_S_IFDIR if found else 0), found


def _is_opaque(fd: int) -> bool:
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            return os.getxattr(f"/proc/self/fd/{fd}", name) == b"y"
        except OSError as error:
            if error.errno not in (ENODATA, ENOTSUP, EPERM):
                raise
    return False


def _entries(open_in_root: Opener, path: str, count: int, *, having: str) -> Iterable[list[str]]:
    # `having` passes over lines that cannot be meant, which most are, without taking them apart.
    fd = open_in_root(path)
    if fd is None:
        return
    try:
        text = _read(fd, path)
    finally:
        os.close(fd)
    for line in text.split("\n"):
        if having not in line:
            continue
        # Fewer fields are as good as more: passwd(5) files in images are written by hand.
        fields = line.strip().split(":")
        if len(fields) >= 3 and fields[0] and not fields[0].startswith("#"):
            yield fields + [""] * (count - len(fields))


def _read(fd: int, path: str) -> str:
    status = os.fstat(fd)
    if status.st_mode & _S_IFMT != _S_IFREG:
        raise UsageError(f"{path} of the image is not a regular file")
    parts = []
    size = 0
    while data := os.read(fd, 1 << 16):
        size += len(data)
        if size > MAX_BYTES:
            raise UsageError(f"{path} of the image has more than {MAX_BYTES} bytes")
        parts.append(data)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _find_group(wanted: str, groups: list[tuple[str, int, str]]) -> int:
    number = _number(wanted)
    if number is not None:
        return number
    for name, gid, _members in groups:
        if name == wanted:
            return gid
    raise UsageError(f"unable to find group {wanted}: no matching entries in group file")


def _number(text: str) -> int | None:
    # None for a name; a number out of range is refused, never taken for a name.
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    if text[0] in "-+" or len(digits) > 20 or int(digits) > MAX_ID:
        raise UsageError(f"uids and gids must be in range 0-{MAX_ID}: {text}")
    return int(digits)


def _digits(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID:
        return int(text)
    return None


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
