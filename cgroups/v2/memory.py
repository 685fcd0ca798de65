"""max, high, low, min, swap, oom group; usage, peaks and events."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import MemoryLimits, Plan


def plan(limits: MemoryLimits) -> Plan:
    """Each limit has a file of its own, and the order does not matter."""
    low, low_name = limits.low_bytes, "memory.low"
    if low is None:
        low, low_name = limits.reservation_bytes, "memory.reservation"
    steps: Plan = []
    for name, file, size in (
        ("memory", "memory.max", limits.max_bytes),
        ("memory.swap", "memory.swap.max", limits.swap_bytes),
        ("memory.high", "memory.high", limits.high_bytes),
        (low_name, "memory.low", low),
        ("memory.min", "memory.min", limits.min_bytes),
    ):
        if size is not None:
            steps.append((name, file, ("max" if size < 0 else str(size),)))
    if limits.oom_group is not None:
        steps.append(("memory.oom_group", "memory.oom.group", (str(int(limits.oom_group)),)))
    for field in ("swappiness", "oom_kill_disable"):
        if getattr(limits, field) is not None:
            steps.append(("memory." + field, "", ("cgroup v2 has no such limit",)))
    return steps
