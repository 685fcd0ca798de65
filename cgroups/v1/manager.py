"""Who holds which limit on v1, with the controllers of a few lines: pids and hugetlb.

A controller is a module with ``plan``, which says what it would write.  Each is
loaded when it is first asked for.
"""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import HugetlbLimit, Limits, Plan


def plan(part: str, path: str, limits: Limits, *, fresh: bool) -> Plan:
    """Say what would be written into ``path`` for one part of the limits."""
    if part == "devices":
        from cgroups.v1 import devices

        return devices.plan(limits.devices or (), fresh=fresh)
    if part == "pids" and limits.pids is not None:
        return [("pids", "pids.max", ("max" if limits.pids.max < 0 else str(limits.pids.max),))]
    if part == "memory" and limits.memory is not None:
        from cgroups.v1 import memory

        return memory.plan(path, limits.memory, fresh=fresh)
    if part == "cpu" and limits.cpu is not None:
        from cgroups.v1 import cpu

        return cpu.plan(path, limits.cpu, fresh=fresh)
    if part == "cpuset" and limits.cpu is not None:
        from cgroups.v1 import cpuset

        return cpuset.plan(limits.cpu)
    if part == "io" and limits.io is not None:
        from cgroups.v1 import blkio

        return blkio.plan(path, limits.io)
    return [step for limit in limits.hugetlb for step in _hugetlb(limit, path)]


def _hugetlb(limit: HugetlbLimit, path: str) -> Plan:
    value = (str(limit.max_bytes),)
    steps: Plan = [("hugetlb", f"hugetlb.{limit.page_size}.limit_in_bytes", value)]
    # Since 5.7 a reservation (mmap) is counted apart from its use (the first touch).
    rsvd = f"hugetlb.{limit.page_size}.rsvd.limit_in_bytes"
    if files.exists(f"{path}/{rsvd}"):
        steps.append(("hugetlb", rsvd, value))
    return steps
