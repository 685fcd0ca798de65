"""What v1's controllers counted.  An empty path is a controller that is not here."""

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

# The kernel shows "no limit" as the largest number of pages, in bytes.
_NO_LIMIT = 1 << 62


def memory(path: str) -> MemoryStats:
    """Swap is in memory.stat even where memsw is switched off at boot."""
    details = read_flat(path, "memory.stat")
    limit = read_number(path, "memory.limit_in_bytes")
    return MemoryStats(
        usage_bytes=read_number(path, "memory.usage_in_bytes"),
        peak_bytes=read_number(path, "memory.max_usage_in_bytes"),
        limit_bytes=limit if limit is not None and limit < _NO_LIMIT else None,
        swap_bytes=details.get("total_swap"),
        cache_bytes=details.get("total_cache"),
        inactive_file_bytes=details.get("total_inactive_file"),
        limit_hits=read_number(path, "memory.failcnt"),
        oom_kills=read_flat(path, "memory.oom_control").get("oom_kill"),
    )


def pids(path: str) -> PidsStats:
    """``pids.peak`` came with 6.11, for v1 too."""
    return PidsStats(
        current=read_number(path, "pids.current"),
        peak=read_number(path, "pids.peak"),
        limit=read_number(path, "pids.max"),
        limit_hits=read_flat(path, "pids.events").get("max"),
    )


def io(path: str) -> IoStats:
    """The throttling layer counts every request, whichever scheduler there is."""
    moved = _by_device(path, "blkio.throttle.io_service_bytes_recursive")
    count = _by_device(path, "blkio.throttle.io_serviced_recursive")
    if moved is None or count is None:
        return IoStats()
    return io_stats(
        [
            IoDeviceStats(
                major=int(number.partition(":")[0]),
                minor=int(number.partition(":")[2]),
                read_bytes=values.get("Read", 0),
                write_bytes=values.get("Write", 0),
                read_ops=count.get(number, {}).get("Read", 0),
                write_ops=count.get(number, {}).get("Write", 0),
            )
            for number, values in moved.items()
        ]
    )


def _by_device(path: str, name: str) -> dict[str, dict[str, int]] | None:
    text = files.read_if_present(f"{path}/{name}") if path else None
    if text is None:
        return None
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            found.setdefault(words[0], {})[words[1]] = int(words[2])
    return found


def hugetlb(path: str) -> tuple[HugetlbStats, ...]:
    """One record for each page size."""
    return tuple(
        HugetlbStats(
            page_size=size,
            usage_bytes=read_number(path, f"hugetlb.{size}.usage_in_bytes") or 0,
            peak_bytes=read_number(path, f"hugetlb.{size}.max_usage_in_bytes"),
            limit_hits=read_number(path, f"hugetlb.{size}.failcnt"),
        )
        for size in page_sizes(path, ".usage_in_bytes")
    )
