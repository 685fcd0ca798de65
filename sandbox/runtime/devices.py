"""Device nodes, links in ``/dev``, and the rules on which devices may be used."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..native.plan import op
from ..oci.spec import Device, DeviceCgroup
from .mounts import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..native.plan import Op

S_IFMT = 0o170000
S_IFCHR = 0o020000
S_IFBLK = 0o060000
S_IFIFO = 0o010000

_TYPE_BITS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

# What the specification wants in every container: name, major, minor.
DEFAULT_NODES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
DEFAULT_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
)

# Deny first.  Any node may be made (nodes come in archives), only these used; 5:2 and 136 are
# the terminals of the container's own devpts.  The host's console, 5:1, is not among them:
# /dev/console is a pty.
DEFAULT_RULES = (
    DeviceCgroup(allow=False),
    DeviceCgroup(allow=True, type="c", access="m"),
    DeviceCgroup(allow=True, type="b", access="m"),
    *[
        DeviceCgroup(allow=True, type="c", major=major, minor=minor)
        for _path, major, minor in DEFAULT_NODES
    ],
    DeviceCgroup(allow=True, type="c", major=5, minor=2),
    DeviceCgroup(allow=True, type="c", major=136),
)
ALL_RULES = (DeviceCgroup(allow=True),)

# Folders of the host's /dev that are mounts of a container's own, or other people's nodes.
_NOT_COPIED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def node_ops(devices: Sequence[Device], *, bound: bool) -> list[Op]:
    """The default nodes and links, then these devices.

    ``bound``: a new user namespace may not make nodes; the host's are bound.
    """
    if not bound and not devices:
        return [*_DEFAULT_OPS]
    ops: list[Op] = []
    wanted = {normalize(each.path): each for each in devices}
    for path, major, minor in DEFAULT_NODES:
        if path not in wanted:
            ops.append(
                op("bind", path, path, 0, 0, 0)
                if bound
                else op("mknod", path, S_IFCHR | 0o666, major, minor, 0, 0)
            )
    for path, each in wanted.items():
        kind = _TYPE_BITS.get(each.type)
        if kind is None:
            raise UsageError(f"invalid device {path}: type {each.type!r} is not c, u, b or p")
        if path in ("/dev/ptmx", "/dev/console"):
            # Both belong to the container's own terminals; --privileged lists the host's.
            continue
        mode = 0o666 if each.file_mode is None else each.file_mode & 0o7777
        if bound and kind != S_IFIFO:
            ops.append(op("bind", path, path, 0, 0, 0))
        else:
            ops.append(op("mknod", path, kind | mode, each.major, each.minor, each.uid, each.gid))
    ops += [op("symlink", target, path) for target, path in DEFAULT_LINKS if path not in wanted]
    return ops


# The common case, made once.
_DEFAULT_OPS = (
    *[
        op("mknod", path, S_IFCHR | 0o666, major, minor, 0, 0)
        for path, major, minor in DEFAULT_NODES
    ],
    *[op("symlink", target, path) for target, path in DEFAULT_LINKS],
)


def parse_device(text: str) -> tuple[tuple[Device, ...], tuple[DeviceCgroup, ...]]:
    """``HOST[:CONTAINER][:rwm]``: the nodes and their rules.

    A folder stands for every device in it.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise UsageError(f"invalid device specification: {text}")
    host = container = parts[0]
    access = "rwm"
    if len(parts) == 3:
        container, access = parts[1] or host, parts[2]
    elif len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            container = parts[1]
    if not _is_access(access):
        raise UsageError(f"bad mode specified: {access}")
    if not container.startswith("/"):
        raise UsageError(f"{container} is not an absolute path")
    found = _devices_at(host, normalize(container))
    rules = [
        DeviceCgroup(allow=True, type=each.type, major=each.major, minor=each.minor, access=access)
        for each in found
    ]
    return tuple(found), tuple(rules)


def parse_rule(text: str) -> DeviceCgroup:
    """``--device-cgroup-rule``: ``c 1:3 rwm``, with ``*`` for any number."""
    words = text.split()
    problem = UsageError(f"invalid device cgroup format '{text}'")
    if len(words) != 3 or words[0] not in ("a", "b", "c") or not _is_access(words[2]):
        raise problem
    major, colon, minor = words[1].partition(":")
    numbers: list[int | None] = []
    for number in (major, minor):
        if number == "*":
            numbers.append(None)
        elif number.isascii() and number.isdigit() and len(number) < 10:
            numbers.append(int(number))
        else:
            raise problem
    if not colon:
        raise problem
    return DeviceCgroup(
        allow=True, type=words[0], major=numbers[0], minor=numbers[1], access=words[2]
    )


def host_devices(root: str = "/dev") -> tuple[Device, ...]:
    """Every device node of the host, for ``--privileged``."""
    return tuple(_walk(root, root))


def _devices_at(host: str, container: str) -> list[Device]:
    try:
        status = os.stat(host)
    except OSError as error:
        raise UsageError(
            f'error gathering device information while adding custom device "{host}": '
            f"{(error.strerror or 'cannot be read').lower()}"
        ) from error
    if status.st_mode & S_IFMT == 0o040000:
        found = list(_walk(host, container))
    else:
        device = _device(container, status)
        found = [] if device is None or device.type == "p" else [device]
    if not found:
        raise UsageError(
            f'error gathering device information while adding custom device "{host}": '
            "not a device node"
        )
    return found


def _walk(folder: str, container: str) -> Iterable[Device]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{container.rstrip('/')}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_COPIED:
                    yield from _walk(entry.path, path)
            elif entry.name != "console" and not entry.is_symlink():
                device = _device(path, entry.stat(follow_symlinks=False))
                if device is not None and device.type != "p":
                    yield device


def _device(path: str, status: os.stat_result) -> Device | None:
    kinds = {S_IFCHR: "c", S_IFBLK: "b", S_IFIFO: "p"}
    kind = kinds.get(status.st_mode & S_IFMT)
    if kind is None:
        return None
    return Device(
        type=kind,
        path=path,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=status.st_mode & 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
    )


def _is_access(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")
