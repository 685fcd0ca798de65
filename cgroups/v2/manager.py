"""One group in the unified tree: controllers on the way down, limits, cgroup.kill.

Here too are the controllers of a few lines: pids, cpuset and hugetlb.
"""

from __future__ import annotations

from cgroups import files
from cgroups.errors import FileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import HugetlbLimit, Limits, Plan


def enable(path: str, top: str, wanted: frozenset[str]) -> None:
    """Ask for controllers on the way from ``top`` down to ``path``.

    One that cannot be had (processes in a group on the way, a real-time process
    with ``cpu``) is left out: only a limit that needs it is an error.
    """
    here = top
    for component in path[len(top) + 1 :].split("/"):
        _enable_below(here, wanted)
        here = f"{here}/{component}"


def _enable_below(path: str, wanted: frozenset[str]) -> None:
    have = files.read_line(path + "/cgroup.subtree_control").split()
    offered = files.read_line(path + "/cgroup.controllers").split()
    missing = ["+" + name for name in offered if name in wanted and name not in have]
    if missing and _is_populated(path):
        return
    # Together they all fail with the first; one by one is dear (each is a
    # migration of the whole subtree), so that is the second try.
    for value in (" ".join(missing), *missing) if missing else ():
        try:
            files.write(path + "/cgroup.subtree_control", value)
        except FileError:
            continue
        if value.count("+") == len(missing):
            return


def _is_populated(path: str) -> bool:
    """Whether processes sit in a group, the host's own top excepted, which may have them.

    Such a group refuses most controllers; but it takes cpu, cpuset and pids, and
    becomes threaded by that, and no group below it can ever be joined.
    """
    return files.exists(path + "/cgroup.type") and bool(files.read_line(path + "/cgroup.procs"))


def plan(part: str, path: str, limits: Limits) -> Plan:
    """Say what would be written into ``path`` for one part of the limits."""
    if part == "pids" and limits.pids is not None:
        return [("pids", "pids.max", ("max" if limits.pids.max < 0 else str(limits.pids.max),))]
    if part == "memory" and limits.memory is not None:
        from cgroups.v2 import memory

        return memory.plan(limits.memory)
    if part == "cpu" and limits.cpu is not None:
        from cgroups.v2 import cpu

        return cpu.plan(path, limits.cpu)
    if part == "cpuset" and limits.cpu is not None:
        lists = (("cpuset.cpus", limits.cpu.cpus), ("cpuset.mems", limits.cpu.mems))
        return [("cpuset", name, (value,)) for name, value in lists if value is not None]
    if part == "io" and limits.io is not None:
        from cgroups.v2 import io

        return io.plan(path, limits.io)
    if part == "unified":
        return [("unified", file, (value,)) for file, value in limits.unified]
    return [step for limit in limits.hugetlb for step in _hugetlb(limit, path)]


def _hugetlb(limit: HugetlbLimit, path: str) -> Plan:
    value = ("max" if limit.max_bytes < 0 else str(limit.max_bytes),)
    steps: Plan = [("hugetlb", f"hugetlb.{limit.page_size}.max", value)]
    # Since 5.7 a reservation (mmap) is counted apart from its use (the first touch).
    rsvd = f"hugetlb.{limit.page_size}.rsvd.max"
    if files.exists(f"{path}/{rsvd}"):
        steps.append(("hugetlb", rsvd, value))
    return steps
