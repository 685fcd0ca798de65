"""What v2's controllers counted, each asked only where the group has it."""

from __future__ import annotations

from cgroups import files
from cgroups.stats import (
    HugetlbStats,
    IoDeviceStats,
    IoStats,
    MemoryStats,
    PidsStats,
    io_stats,
    page_sizes,
    read_flat,
    read_number,
)


def memory(path: str) -> MemoryStats:
    """``memory.peak`` came with 5.19, ``memory.swap.peak`` with 6.5."""
    details = read_flat(path, "memory.stat")
    events = read_flat(path, "memory.events")
    return MemoryStats(
        usage_bytes=read_number(path, "memory.current"),
        peak_bytes=read_number(path, "memory.peak"),
        limit_bytes=read_number(path, "memory.max"),
        swap_bytes=read_number(path, "memory.swap.current"),
        swap_peak_bytes=read_number(path, "memory.swap.peak"),
        cache_bytes=details.get("file"),
        inactive_file_bytes=details.get("inactive_file"),
        limit_hits=events.get("max"),
        oom_kills=events.get("oom_kill"),
    )


def pids(path: str) -> PidsStats:
    """``pids.peak`` came with 6.1."""
    return PidsStats(
        current=read_number(path, "pids.current"),
        peak=read_number(path, "pids.peak"),
        limit=read_number(path, "pids.max"),
        limit_hits=read_flat(path, "pids.events").get("max"),
    )


def io(path: str) -> IoStats:
    """A device appears with its first request."""
    text = files.read_if_present(path + "/io.stat")
    if text is None:
        return IoStats()
    return io_stats(
        [
            IoDeviceStats(
                major=int(number.partition(":")[0]),
                minor=int(number.partition(":")[2]),
                read_bytes=int(values.get("rbytes", 0)),
                write_bytes=int(values.get("wbytes", 0)),
                read_ops=int(values.get("rios", 0)),
                write_ops=int(values.get("wios", 0)),
            )
            for number, values in files.nested(text).items()
            if ":" in number
        ]
    )


def hugetlb(path: str) -> tuple[HugetlbStats, ...]:
    """v2 keeps no peak."""
    return tuple(
        HugetlbStats(
            page_size=size,
            usage_bytes=read_number(path, f"hugetlb.{size}.current") or 0,
            limit_hits=read_flat(path, f"hugetlb.{size}.events").get("max"),
        )
        for size in page_sizes(path, ".current")
    )
