"""Memory limits of v1, in the order of writes that the kernel insists on."""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import MemoryLimits, Plan

_LIMIT = "memory.limit_in_bytes"
_MEMSW = "memory.memsw.limit_in_bytes"
_NO_FILE = "cgroup v1 has no such limit"
# What the kernel shows for "no limit": the largest number of pages, in bytes.
_NO_LIMIT = 1 << 62


def plan(path: str, limits: MemoryLimits, *, fresh: bool) -> Plan:
    """Put the hard limit and swap first, then the rest."""
    steps = _hard(path, limits, fresh=fresh)
    reservation = limits.reservation_bytes
    if reservation is not None:
        steps.append(("memory.reservation", "memory.soft_limit_in_bytes", (_text(reservation),)))
    for name in ("high", "low", "min"):
        if getattr(limits, name + "_bytes") is not None:
            steps.append(("memory." + name, "", (_NO_FILE,)))
    if limits.swappiness is not None:
        steps.append(("memory.swappiness", "memory.swappiness", (str(limits.swappiness),)))
    if limits.oom_group is not None:
        steps.append(("memory.oom_group", "", (_NO_FILE,)))
    if limits.oom_kill_disable is not None:
        value = str(int(limits.oom_kill_disable))
        steps.append(("memory.oom_kill_disable", "memory.oom_control", (value,)))
    return steps


def _hard(path: str, limits: MemoryLimits, *, fresh: bool) -> Plan:
    """Plan for memsw, which counts memory and swap together and is never below the memory limit."""
    maximum, swap = limits.max_bytes, limits.swap_bytes
    steps: Plan = []
    if maximum is not None:
        steps.append(("memory", _LIMIT, (_text(maximum),)))
    if swap is None:
        return steps
    if maximum is None:
        maximum = files.number(files.read(f"{path}/{_LIMIT}"))
    if swap < 0:
        both = -1
    elif maximum is None or not 0 <= maximum < _NO_LIMIT:
        reason = "cgroup v1 limits memory and swap together, and there is no memory limit"
        return [("memory.swap", "", (reason,))]
    else:
        both = maximum + swap
    steps.append(("memory.swap", _MEMSW, (_text(both),)))
    if not fresh and limits.max_bytes is not None:
        now = files.number(files.read_if_present(f"{path}/{_MEMSW}"))
        if now is not None and not 0 <= limits.max_bytes <= now:
            # Growing past the old sum: the sum has to make room first.
            steps.reverse()
    return steps


def _text(size: int) -> str:
    return str(max(size, -1))
