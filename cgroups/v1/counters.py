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
    hits = read_number(path, "memory.failcnt")
    if hits is not None:
        # Without any swap allowed the sum is run into first, and memory.failcnt stays 0;
        # current kernels (seen on 6.18) count those nowhere: oom_kill is the evidence.
        hits += read_number(path, "memory.memsw.failcnt") or 0
    return MemoryStats(
        usage_bytes=read_number(path, "memory.usage_in_bytes"),
        peak_bytes=read_number(path, "memory.max_usage_in_bytes"),
        limit_bytes=limit if limit is not None and limit < _NO_LIMIT else None,
        swap_bytes=details.get("total_swap"),
        cache_bytes=details.get("total_cache"),
        inactive_file_bytes=details.get("total_inactive_file"),
        limit_hits=hits,
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
    """What the throttling layer counted, or else BFQ.

    Since 5.18 the former counts only what is throttled: a group with a rate for
    the device, be it one too high to matter.  So here nothing is not a zero.
    """
    for prefix in ("blkio.throttle", "blkio.bfq"):
        moved = _by_device(path, prefix + ".io_service_bytes_recursive")
        seen = [number for number, values in moved.items() if any(values.values())]
        if seen:
            count = _by_device(path, prefix + ".io_serviced_recursive")
            return io_stats([_device(number, moved, count) for number in seen])
    return IoStats()


def _device(
    number: str, moved: dict[str, dict[str, int]], count: dict[str, dict[str, int]]
) -> IoDeviceStats:
    major, _, minor = number.partition(":")
    requests = count.get(number, {})
    return IoDeviceStats(
        major=int(major),
        minor=int(minor),
        read_bytes=moved[number].get("Read", 0),
        write_bytes=moved[number].get("Write", 0),
        read_ops=requests.get("Read", 0),
        write_ops=requests.get("Write", 0),
    )


def _by_device(path: str, name: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    text = files.read_if_present(f"{path}/{name}") if path else None
    for line in text.splitlines() if text else ():
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
