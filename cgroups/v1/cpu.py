"""Shares, quota and period; how much time was used and how often it was throttled."""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import CpuLimits, Plan, Step

PERIOD_US = 100_000


def plan(path: str, limits: CpuLimits, *, fresh: bool) -> Plan:
    """Shares, then the bandwidth in the order that its parent's share allows."""
    steps: Plan = []
    shares = limits.shares if limits.weight is None else shares_of(limits.weight)
    if shares is not None:
        steps.append(("cpu.weight", "cpu.shares", (str(shares),)))
    if limits.idle is not None:
        steps.append(("cpu.idle", "cpu.idle", (str(int(limits.idle)),)))
    steps += _bandwidth(path, limits, fresh=fresh)
    if limits.burst_us is not None:
        steps.append(("cpu.burst", "cpu.cfs_burst_us", (str(limits.burst_us),)))
    return steps


def _bandwidth(path: str, limits: CpuLimits, *, fresh: bool) -> Plan:
    quota, period = limits.quota_us, limits.period_us
    steps: Plan = []
    if period is not None:
        steps.append(("cpu", "cpu.cfs_period_us", (str(period),)))
    if quota is not None:
        step: Step = ("cpu", "cpu.cfs_quota_us", (str(max(quota, -1)),))
        steps.append(step)
    if fresh or quota is None or period is None or quota < 0:
        return steps
    # Between the two writes one is old and one is new, and the parent may not
    # allow that ratio: when both shrink, the quota has to go first.
    old_quota = files.number(files.read(path + "/cpu.cfs_quota_us"))
    old_period = files.number(files.read(path + "/cpu.cfs_period_us"))
    if period < (old_period or PERIOD_US) and (old_quota is None or not 0 <= old_quota <= quota):
        steps.reverse()
    return steps


def shares_of(weight: int) -> int:
    """v2's 1 to 10000 as v1's 2 to 262144: the kernel's own 1024 at 100."""
    return min(max(weight * 1024 // 100, 2), 262144)
