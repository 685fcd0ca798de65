"""What may be asked of a group.

A field that is None is not written.  ``-1`` (`UNLIMITED`) takes a limit away.
Values are the kernel's units; what a limit is called in `Enforcement`, in
`LimitUnavailable` and in ``allow_missing`` is said beside each field.
"""

from __future__ import annotations

from cgroups.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

UNLIMITED = -1


class CpuLimits(Record):
    """Time on the processors, and which processors and memory nodes.

    ``shares`` is v1's scale (2 to 262144, 1024 unless told), ``weight`` v2's (1
    to 10000, 100 unless told); either is converted where the other is spoken,
    and ``weight`` wins when both are given.
    """

    quota_us: int | None = None  # cpu
    period_us: int | None = None  # cpu
    burst_us: int | None = None  # cpu.burst
    shares: int | None = None  # cpu.weight
    weight: int | None = None  # cpu.weight
    idle: bool | None = None  # cpu.idle
    cpus: str | None = None  # cpuset
    mems: str | None = None  # cpuset


class MemoryLimits(Record):
    """Memory and swap, in bytes.

    ``swap_bytes`` is swap alone (v2's meaning), on top of ``max_bytes``.
    ``reservation_bytes`` is v1's soft limit and v2's ``memory.low``.
    """

    max_bytes: int | None = None  # memory
    swap_bytes: int | None = None  # memory.swap
    reservation_bytes: int | None = None  # memory.reservation
    high_bytes: int | None = None  # memory.high, v2
    low_bytes: int | None = None  # memory.low, v2
    min_bytes: int | None = None  # memory.min, v2
    swappiness: int | None = None  # memory.swappiness, v1
    oom_group: bool | None = None  # memory.oom_group, v2
    oom_kill_disable: bool | None = None  # memory.oom_kill_disable, v1


class PidsLimits(Record):
    """The number of tasks: processes and threads."""

    max: int  # pids


class IoDeviceLimit(Record):
    """Limits for one block device."""

    major: int
    minor: int
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    weight: int | None = None


class IoLimits(Record):
    """Block I/O; ``weight`` is v1's scale, 10 to 1000."""

    weight: int | None = None  # io.weight
    devices: tuple[IoDeviceLimit, ...] = ()  # io


class HugetlbLimit(Record):
    """Huge pages of one size, which is spelled as the kernel does: ``2MB``, ``1GB``."""

    page_size: str
    max_bytes: int  # hugetlb


class DeviceRule(Record):
    """One rule of an ordered list; a later rule wins.  None is any number."""

    allow: bool
    kind: Literal["a", "b", "c"] = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Limits(Record):
    """Everything that is asked of one group.

    ``devices``: None leaves the devices alone; a list begins from "nothing is
    allowed".  ``unified`` are v2 files and their values, written as they are.
    """

    cpu: CpuLimits | None = None
    memory: MemoryLimits | None = None
    pids: PidsLimits | None = None
    io: IoLimits | None = None
    hugetlb: tuple[HugetlbLimit, ...] = ()
    devices: tuple[DeviceRule, ...] | None = None  # devices
    unified: tuple[tuple[str, str], ...] = ()  # unified


class Enforcement(Record):
    """Who enforces a limit; for "none", which the caller allowed, ``reason`` says why."""

    limit: str
    by: Literal["cgroup1", "cgroup2", "none"]
    reason: str = ""


# How a controller says what it would do.  (limit, file, values): each value is
# written to the file in turn.  An empty file name: this version of cgroups has
# none for that limit, and the one value is the reason.
if TYPE_CHECKING:
    Step = tuple[str, str, tuple[str, ...]]
    Plan = list[Step]
