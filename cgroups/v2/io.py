"""Weights and throttles by device."""

from __future__ import annotations

from cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import IoLimits, Plan

_KEYS = (
    ("read_bps", "rbps"),
    ("write_bps", "wbps"),
    ("read_iops", "riops"),
    ("write_iops", "wiops"),
)


def plan(path: str, limits: IoLimits) -> Plan:
    """One line for each device; 0 or less takes a throttle away."""
    steps: Plan = []
    # BFQ's file speaks v1's scale and is there only with BFQ built in.
    has_bfq = files.exists(path + "/io.bfq.weight")
    name = "io.bfq.weight" if has_bfq else "io.weight"

    def scaled(weight: int) -> int:
        return weight if has_bfq else weight_of(weight)

    if limits.weight is not None:
        steps.append(("io.weight", name, (str(scaled(limits.weight)),)))
    for device in limits.devices:
        number = f"{device.major}:{device.minor}"
        if device.weight is not None:
            steps.append(("io.weight", name, (f"{number} {scaled(device.weight)}",)))
        pairs = ""
        for field, key in _KEYS:
            rate: int | None = getattr(device, field)
            if rate is not None:
                pairs += f" {key}={rate if rate > 0 else 'max'}"
        if pairs:
            steps.append(("io", "io.max", (number + pairs,)))
    return steps


def weight_of(blkio: int) -> int:
    """v1's 10 to 1000 as v2's 1 to 10000, in a straight line, as the OCI runtimes do."""
    return 1 + (blkio - 10) * 9999 // 990
