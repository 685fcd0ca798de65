"""Limits, accounting, freezing and killing of process groups on cgroup v1, v2 and hybrid."""

from __future__ import annotations

from cgroups.cgroup import Cgroup, Group, create, open_existing, places
from cgroups.detect import Hierarchy, Layout, detect
from cgroups.errors import (
    CgroupError,
    FileError,
    FreezeTimeout,
    GroupBusy,
    GroupError,
    GroupExists,
    GroupRefused,
    InvalidLimit,
    KillTimeout,
    LimitRefused,
    LimitUnavailable,
)
from cgroups.limits import (
    UNLIMITED,
    CpuLimits,
    DeviceRule,
    Enforcement,
    HugetlbLimit,
    IoDeviceLimit,
    IoLimits,
    Limits,
    MemoryLimits,
    PidsLimits,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.stats import (
        CpuStats,
        HugetlbStats,
        IoDeviceStats,
        IoStats,
        MemoryStats,
        PidsStats,
        Pressure,
        Stats,
    )

__all__ = [
    "UNLIMITED",
    "Cgroup",
    "CgroupError",
    "CpuLimits",
    "CpuStats",
    "DeviceRule",
    "Enforcement",
    "FileError",
    "FreezeTimeout",
    "Group",
    "GroupBusy",
    "GroupError",
    "GroupExists",
    "GroupRefused",
    "Hierarchy",
    "HugetlbLimit",
    "HugetlbStats",
    "InvalidLimit",
    "IoDeviceLimit",
    "IoDeviceStats",
    "IoLimits",
    "IoStats",
    "KillTimeout",
    "Layout",
    "LimitRefused",
    "LimitUnavailable",
    "Limits",
    "MemoryLimits",
    "MemoryStats",
    "PidsLimits",
    "PidsStats",
    "Pressure",
    "Stats",
    "create",
    "detect",
    "open_existing",
    "places",
]


def __getattr__(name: str) -> object:
    """Load the records of ``stats`` when one is first named; a start needs none."""
    if name in __all__:
        from cgroups import stats

        return getattr(stats, name)
    raise AttributeError(f"module 'cgroups' has no attribute {name!r}")
