"""Which namespaces are made, which are joined, and in which order."""

from __future__ import annotations

from ..errors import UsageError
from ..native.plan import op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..native.plan import Op
    from ..oci.spec import IdMapping, Linux

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# In the order of joining: the user namespace first, because it gives the right to join those
# that it owns; the mount namespace last, because with it the paths of the others are out of sight.
KINDS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
}


def new_flags(linux: Linux) -> int:
    """``CLONE_NEW*`` of every namespace that is made, the cgroup namespace's too."""
    flags = 0
    seen = set()
    for namespace in linux.namespaces:
        if namespace.type not in KINDS:
            raise UsageError(f"unknown namespace type {namespace.type!r}")
        if namespace.type in seen:
            raise UsageError(f"duplicated namespace {namespace.type!r}")
        seen.add(namespace.type)
        if not namespace.path:
            flags |= KINDS[namespace.type]
    return flags


def id_map(mappings: Iterable[IdMapping]) -> str:
    """The text of ``uid_map`` or ``gid_map``, as user_namespaces(7) has it."""
    return "".join([f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings])


def setting_ops(linux: Linux) -> list[Op]:
    """The monitor's part: what to clone, what to join, and the id maps."""
    flags = new_flags(linux)
    if not flags & CLONE_NEWNS:
        # Everything below /dev and /proc is mounted: never in the caller's own namespace.
        raise UsageError("a container has a mount namespace of its own")
    ops = [op("namespaces", flags & ~CLONE_NEWCGROUP)]
    paths = {each.type: each.path for each in linux.namespaces if each.path}
    for kind, flag in KINDS.items():
        if kind in paths:
            ops.append(op("join", flag, paths[kind]))
    if flags & CLONE_NEWUSER:
        if not linux.uid_mappings or not linux.gid_mappings:
            raise UsageError("a user namespace needs uidMappings and gidMappings")
        ops.append(op("id_map", id_map(linux.uid_mappings), id_map(linux.gid_mappings)))
    elif (linux.uid_mappings or linux.gid_mappings) and "user" not in paths:
        raise UsageError("id mappings need a user namespace")
    return ops
