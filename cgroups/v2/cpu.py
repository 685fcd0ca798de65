"""Weight, max and burst."""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import CpuLimits, Plan


def plan(path: str, limits: CpuLimits) -> Plan:
    """Quota and period are one write."""
    steps: Plan = []
    weight = limits.weight
    if weight is None and limits.shares is not None:
        weight = weight_of(limits.shares)
    if weight is not None:
        steps.append(("cpu.weight", "cpu.weight", (str(weight),)))
    if limits.idle is not None:
        steps.append(("cpu.idle", "cpu.idle", (str(int(limits.idle)),)))
    quota, period = limits.quota_us, limits.period_us
    if quota is not None or period is not None:
        if quota is None:
            value = files.read(path + "/cpu.max").split()[0]
        else:
            value = "max" if quota < 0 else str(quota)
        # Without a period the kernel keeps the one it has.
        steps.append(("cpu", "cpu.max", (value if period is None else f"{value} {period}",)))
    if limits.burst_us is not None:
        steps.append(("cpu.burst", "cpu.max.burst", (str(limits.burst_us),)))
    return steps


def weight_of(shares: int) -> int:
    """v1's 2 to 262144 as v2's 1 to 10000, with 1024 at 100.

    The quadratic in log2 that the OCI runtimes use since 2025; the straight
    line before it made 1024 shares into a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    from math import ceil, log2  # a shared object: only v2 hosts with shares pay for it

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612.0 - 7.0 / 34.0))
