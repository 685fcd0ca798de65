"""What the kernel counted for a group.

None is what this host does not count; it is never 0.  Out of scope: rates.
"""

from __future__ import annotations

from cgroups import files
from cgroups.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.cgroup import Group


class CpuStats(Record):
    """Processor time, in nanoseconds."""

    usage_ns: int | None = None
    user_ns: int | None = None
    system_ns: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None


class MemoryStats(Record):
    """Memory of the whole group; ``oom_kills`` are processes the kernel killed for it.

    ``limit_hits`` is v1's failcnt and v2's ``max`` event.  A limit of None is none.
    """

    usage_bytes: int | None = None
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    swap_bytes: int | None = None
    swap_peak_bytes: int | None = None
    cache_bytes: int | None = None
    inactive_file_bytes: int | None = None
    limit_hits: int | None = None
    oom_kills: int | None = None


class PidsStats(Record):
    """Tasks; ``limit_hits`` counts forks refused."""

    current: int | None = None
    peak: int | None = None
    limit: int | None = None
    limit_hits: int | None = None


class IoDeviceStats(Record):
    """What went to and from one block device."""

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    read_ops: int = 0
    write_ops: int = 0


class IoStats(Record):
    """What went to and from block devices: the sum, and each."""

    read_bytes: int | None = None
    write_bytes: int | None = None
    read_ops: int | None = None
    write_ops: int | None = None
    devices: tuple[IoDeviceStats, ...] = ()


class Pressure(Record):
    """Time in which some, or all, tasks waited for a resource, in microseconds (PSI)."""

    some_us: int
    full_us: int | None = None


class HugetlbStats(Record):
    """Huge pages of one size."""

    page_size: str
    usage_bytes: int
    peak_bytes: int | None = None
    limit_hits: int | None = None


class Stats(Record):
    """Everything counted for one group."""

    cpu: CpuStats
    memory: MemoryStats
    pids: PidsStats
    io: IoStats
    hugetlb: tuple[HugetlbStats, ...] = ()
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


def collect(groups: tuple[Group, ...]) -> Stats:
    """Ask each hierarchy for what it holds; groups that are gone give None."""
    paths = {name: g.path for g in groups if g.version == 1 for name in g.controllers}
    unified = next((group for group in groups if group.version == 2), None)
    controllers = unified.controllers if unified is not None else ()
    path = unified.path if unified is not None else ""
    memory, pids, io = MemoryStats(), PidsStats(), IoStats()
    hugetlb: tuple[HugetlbStats, ...] = ()
    if paths:
        from cgroups.v1 import counters as v1

        memory = v1.memory(paths.get("memory", ""))
        pids = v1.pids(paths.get("pids", ""))
        io = v1.io(paths.get("blkio", ""))
        hugetlb = v1.hugetlb(paths.get("hugetlb", ""))
    if unified is not None:
        from cgroups.v2 import counters as v2

        if "memory" in controllers:
            memory = v2.memory(path)
        if "pids" in controllers:
            pids = v2.pids(path)
        if "io" in controllers:
            io = v2.io(path)
        if "hugetlb" in controllers:
            hugetlb = v2.hugetlb(path)
    return Stats(
        cpu=_cpu(paths, path),
        memory=memory,
        pids=pids,
        io=io,
        hugetlb=hugetlb,
        cpu_pressure=_pressure(path, "cpu"),
        memory_pressure=_pressure(path, "memory"),
        io_pressure=_pressure(path, "io"),
    )


def _cpu(paths: dict[str, str], unified: str) -> CpuStats:
    """The unified tree counts usage even without its cpu controller; v1 throttles apart."""
    base = read_flat(unified, "cpu.stat")
    throttle = base
    if "cpu" in paths:
        throttle = read_flat(paths["cpu"], "cpu.stat")
    usage = times(base.get("usage_usec"), 1000)
    user = times(base.get("user_usec"), 1000)
    system = times(base.get("system_usec"), 1000)
    if usage is None and "cpuacct" in paths:
        usage = read_number(paths["cpuacct"], "cpuacct.usage")
        user = read_number(paths["cpuacct"], "cpuacct.usage_user")
        system = read_number(paths["cpuacct"], "cpuacct.usage_sys")
    throttled = throttle.get("throttled_time")
    if throttled is None:
        throttled = times(throttle.get("throttled_usec"), 1000)
    return CpuStats(
        usage_ns=usage,
        user_ns=user,
        system_ns=system,
        periods=throttle.get("nr_periods"),
        throttled_periods=throttle.get("nr_throttled"),
        throttled_ns=throttled,
    )


def _pressure(path: str, resource: str) -> Pressure | None:
    if not path:
        return None
    lines = files.nested(files.read_if_present(f"{path}/{resource}.pressure"))
    if "some" not in lines:
        return None
    full = lines.get("full", {}).get("total")
    return Pressure(
        some_us=int(lines["some"]["total"]), full_us=None if full is None else int(full)
    )


def read_number(path: str, name: str) -> int | None:
    """One number of a group; None without the group or the file, and for ``max``."""
    return files.number(files.read_if_present(f"{path}/{name}")) if path else None


def read_flat(path: str, name: str) -> dict[str, int]:
    """``key value`` lines of a group; empty without the group or the file."""
    return files.flat(files.read_if_present(f"{path}/{name}")) if path else {}


def times(value: int | None, factor: int) -> int | None:
    """None stays None."""
    return None if value is None else value * factor


def page_sizes(path: str, suffix: str) -> list[str]:
    """The huge page sizes a group has files for, which end in ``suffix``."""
    names = files.names(path) if path else []
    return sorted(
        name[len("hugetlb.") : -len(suffix)]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(suffix) and ".rsvd" not in name
    )


def io_stats(devices: list[IoDeviceStats]) -> IoStats:
    """The devices and their sum."""
    return IoStats(
        read_bytes=sum(device.read_bytes for device in devices),
        write_bytes=sum(device.write_bytes for device in devices),
        read_ops=sum(device.read_ops for device in devices),
        write_ops=sum(device.write_ops for device in devices),
        devices=tuple(devices),
    )
