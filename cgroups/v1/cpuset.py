"""Processors and memory nodes.

A new v1 group has neither, and takes no process until it has both; so they are
copied from its parent, unless ``cgroup.clone_children`` had the kernel do it.
"""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import CpuLimits, Plan


def plan(limits: CpuLimits) -> Plan:
    """Lists as the kernel reads them: ``0-3,7``."""
    steps: Plan = []
    if limits.cpus is not None:
        steps.append(("cpuset", "cpuset.cpus", (limits.cpus,)))
    if limits.mems is not None:
        steps.append(("cpuset", "cpuset.mems", (limits.mems,)))
    return steps


def inherit(path: str, mount: str, *, for_children: bool = False) -> None:
    """Fill an empty new group from its parent; ``for_children``, those made in it as well."""
    # The kernel cloned both lists or neither.
    if not files.read_line(path + "/cpuset.cpus"):
        for name in ("/cpuset.cpus", "/cpuset.mems"):
            files.write(path + name, _from_parent(path, name, mount))
    if for_children:
        files.write(path + "/cgroup.clone_children", "1")


def _from_parent(path: str, name: str, mount: str) -> str:
    parent = path.rpartition("/")[0]
    value = files.read_line(parent + name)
    if not value and parent != mount:
        # Somebody made the parent a moment ago and has not filled it yet.
        value = _from_parent(parent, name, mount)
        files.write(parent + name, value)
    return value
