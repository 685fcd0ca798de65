"""Mounts of the specification as operations: option words, order, cgroup file systems.

An option word is the specification's or mount(8)'s; what is neither goes to the
file system as it is.  Targets are resolved inside the root, in C; nothing here
touches a path.
"""

from __future__ import annotations

from ..errors import UsageError
from ..native.plan import (
    MOUNT_COPY_UP,
    MOUNT_IDMAPPED,
    MOUNT_NO_CREATE,
    MOUNT_OPTIONAL,
    MOUNT_RECURSIVE,
    MOUNT_RECURSIVE_ATTRIBUTES,
    op,
)
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..native.plan import Op
    from ..oci.spec import Mount
    from .launch import Group

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
_ATIME = 0x70

MS_REC = 1 << 14
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

# word: (bits to clear, bits to set)
_ATTRIBUTES = {
    "ro": (0, MOUNT_ATTR_RDONLY),
    "rw": (MOUNT_ATTR_RDONLY, 0),
    "nosuid": (0, MOUNT_ATTR_NOSUID),
    "suid": (MOUNT_ATTR_NOSUID, 0),
    "nodev": (0, MOUNT_ATTR_NODEV),
    "dev": (MOUNT_ATTR_NODEV, 0),
    "noexec": (0, MOUNT_ATTR_NOEXEC),
    "exec": (MOUNT_ATTR_NOEXEC, 0),
    "noatime": (_ATIME, MOUNT_ATTR_NOATIME),
    "atime": (_ATIME, 0),
    "relatime": (_ATIME, 0),
    "norelatime": (_ATIME, 0),
    "strictatime": (_ATIME, MOUNT_ATTR_STRICTATIME),
    "nostrictatime": (_ATIME, 0),
    "nodiratime": (0, MOUNT_ATTR_NODIRATIME),
    "diratime": (MOUNT_ATTR_NODIRATIME, 0),
    "nosymfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
}

PROPAGATION = {
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

# Words of mount(8) that ask for what is so anyway.
_SILENT = frozenset({"defaults", "async", "nouser", "auto", "noauto", "loud", "nomand"})

# A kernel without these is no reason to refuse a container (docker's mounts are all optional in
# this sense on one kernel or another); tmpfs, proc and devpts are.
_OPTIONAL_TYPES = frozenset({"mqueue"})

_COPY_UP = frozenset({"tmpcopyup", "copyup"})

CGROUP_ROOT = "/sys/fs/cgroup"


class Options(Record):
    """What a list of option words says."""

    attributes: int = 0
    propagation: int = 0
    flags: int = 0
    bind: bool = False
    data: tuple[str, ...] = ()


def parse_options(words: Iterable[str]) -> Options:
    """Sort the words; the last of two that contradict one another wins."""
    attributes = propagation = flags = 0
    bind = False
    data = []
    for word in words:
        change = _ATTRIBUTES.get(word)
        if change is not None:
            attributes = attributes & ~change[0] | change[1]
        elif word in PROPAGATION:
            propagation = PROPAGATION[word]
        elif word == "bind":
            bind = True
        elif word == "rbind":
            bind = True
            flags |= MOUNT_RECURSIVE
        elif word[:1] == "r" and word[1:] in _ATTRIBUTES:
            # "rro": the attribute for everything below, too.  The plan has one set of attributes
            # a mount, so a plain word beside it becomes recursive as well: the stricter reading.
            clear, put = _ATTRIBUTES[word[1:]]
            attributes = attributes & ~clear | put
            flags |= MOUNT_RECURSIVE_ATTRIBUTES
        elif word in ("idmap", "ridmap"):
            flags |= MOUNT_IDMAPPED
        elif word in _COPY_UP:
            flags |= MOUNT_COPY_UP
        elif word in ("remount", "mand", "sync", "dirsync", "silent", "lazytime", "iversion"):
            if word == "remount":
                raise UsageError("mount option remount is not supported")
            data.append(word)
        elif word and word not in _SILENT:
            data.append(word)
    return Options(
        attributes=attributes, propagation=propagation, flags=flags, bind=bind, data=tuple(data)
    )


def normalize(path: str) -> str:
    """An absolute path without ``.``, ``..``, repeated or final slashes, as text."""
    if "//" not in path and "/." not in path and path[:1] == "/" and path[-1:] != "/":
        return path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def in_order(mounts: Iterable[Mount]) -> list[Mount]:
    """Parents before what is mounted below them, and otherwise as listed."""
    # Sorting is stable, and a path is longer than its parent's.
    return sorted(mounts, key=lambda mount: _depth(mount.destination))


def merge(defaults: Iterable[Mount], wanted: Iterable[Mount]) -> tuple[Mount, ...]:
    """The wanted mounts over the default ones, as docker does it.

    A mount replaces the default one with the same destination, and one on
    ``/dev`` those below it too.
    """
    wanted = tuple(wanted)
    taken = {normalize(mount.destination) for mount in wanted}
    kept = [
        mount
        for mount in defaults
        if mount.destination not in taken
        and not ("/dev" in taken and mount.destination.startswith("/dev/"))
    ]
    return tuple(in_order([*kept, *wanted]))


def is_bind(mount: Mount) -> bool:
    """A host folder or file, not a new file system."""
    return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options


def mount_op(mount: Mount) -> Op:
    """One mount that is not a cgroup's."""
    options = parse_options(mount.options)
    target = normalize(mount.destination)
    if target == "/":
        raise UsageError("invalid mount: destination can't be '/'")
    flags = options.flags
    if mount.uid_mappings or mount.gid_mappings:
        # Carried out with the container's own maps; others would need a second user namespace.
        flags |= MOUNT_IDMAPPED
    if options.bind or mount.type == "bind":
        if not mount.source.startswith("/"):
            raise UsageError(
                f"invalid mount: the source of {target} must be an absolute path, "
                f"not {mount.source!r}"
            )
        return op("bind", mount.source, target, options.attributes, options.propagation, flags)
    if not mount.type or mount.type == "none":
        raise UsageError(f"invalid mount: {target} has neither a type nor the option bind")
    if flags & (MOUNT_IDMAPPED | MOUNT_RECURSIVE):
        raise UsageError(f"invalid mount: only a bind mount can be id-mapped: {target}")
    if options.propagation & MS_SHARED:
        raise UsageError(f"invalid mount: only a bind mount can be shared: {target}")
    if mount.type in _OPTIONAL_TYPES:
        flags |= MOUNT_OPTIONAL
    return op(
        "mount",
        mount.type,
        mount.source or mount.type,
        target,
        options.attributes,
        options.data,
        # A new file system has nothing below it yet.
        flags & ~MOUNT_RECURSIVE_ATTRIBUTES,
    )


def cgroup_ops(mount: Mount, groups: Sequence[Group], *, namespaced: bool, full: bool) -> list[Op]:
    """The cgroup file systems, as the container shall see them.

    ``namespaced``: the container has a cgroup namespace of its own, so a new
    mount shows its group as the root; without one its own groups are bound.
    ``full`` False is an empty read-only folder instead.
    """
    target = normalize(mount.destination)
    attributes = parse_options(mount.options).attributes
    readonly = attributes & MOUNT_ATTR_RDONLY
    legacy = [group for group in groups if group.version == 1]
    unified = [group for group in groups if group.version == 2]
    if full and not legacy and unified:
        return [_cgroup2(target, attributes, unified[0], namespaced=namespaced)]
    if not full or not groups:
        attributes |= MOUNT_ATTR_RDONLY
        return [op("mount", "tmpfs", "cgroup", target, attributes, ("mode=755", "size=0"), 0)]
    made: list[Op] = []
    mounted: list[Op] = []
    for group in legacy:
        name = group.controllers.removeprefix("name=")
        where = f"{target}/{name}"
        made.append(op("mkdir", where, 0o755, 0, 0))
        if "," in name:
            # "cpu,cpuacct" is looked for under either name.
            made += [op("symlink", name, f"{target}/{alias}") for alias in name.split(",")]
        if namespaced:
            words = tuple(group.controllers.split(","))
            data = words if name == group.controllers else ("none", *words)
            mounted.append(
                op("mount", "cgroup", "cgroup", where, attributes, data, MOUNT_NO_CREATE)
            )
        else:
            mounted.append(op("bind", group.path, where, attributes, MS_PRIVATE, MOUNT_NO_CREATE))
    if unified:
        where = f"{target}/unified"
        made.append(op("mkdir", where, 0o755, 0, 0))
        mounted.append(_cgroup2(where, attributes, unified[0], namespaced=namespaced))
    if readonly:
        # Before the hierarchies are mounted in it: making it so covers all that is there by then
        # with a second mount each.
        made.append(op("readonly", target))
    folder = attributes & ~MOUNT_ATTR_RDONLY
    options = ("mode=755", "size=65536")
    return [op("mount", "tmpfs", "cgroup", target, folder, options, 0), *made, *mounted]


def _cgroup2(target: str, attributes: int, group: Group, *, namespaced: bool) -> Op:
    if namespaced:
        return op("mount", "cgroup2", "cgroup", target, attributes, (), 0)
    return op("bind", group.path, target, attributes, MS_PRIVATE, 0)


def _depth(path: str) -> int:
    return normalize(path).count("/") if path != "/" else 0
