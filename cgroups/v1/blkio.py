"""Weights and throttles by device."""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import IoLimits, Plan

_THROTTLES = (
    ("read_bps", "blkio.throttle.read_bps_device"),
    ("write_bps", "blkio.throttle.write_bps_device"),
    ("read_iops", "blkio.throttle.read_iops_device"),
    ("write_iops", "blkio.throttle.write_iops_device"),
)


def plan(path: str, limits: IoLimits) -> Plan:
    """One value for each device; 0 takes a throttle away."""
    steps: Plan = []
    # CFQ's blkio.weight went with 5.0; since then BFQ has one of its own.
    prefix = "blkio" if files.exists(path + "/blkio.weight") else "blkio.bfq"
    if limits.weight is not None:
        steps.append(("io.weight", prefix + ".weight", (str(limits.weight),)))
    for device in limits.devices:
        number = f"{device.major}:{device.minor}"
        if device.weight is not None:
            value = f"{number} {device.weight}"
            steps.append(("io.weight", prefix + ".weight_device", (value,)))
        for field, name in _THROTTLES:
            rate: int | None = getattr(device, field)
            if rate is not None:
                steps.append(("io", name, (f"{number} {max(rate, 0)}",)))
    return steps
