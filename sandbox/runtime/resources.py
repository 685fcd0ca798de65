"""``linux.resources`` of the specification become `cgroups.Limits`.

Engines send zeros for what they do not mean, so 0 leaves a limit alone, except
where it is a value of its own (no swap, idle off).
"""

from __future__ import annotations

from cgroups.limits import (
    UNLIMITED,
    CpuLimits,
    DeviceRule,
    HugetlbLimit,
    IoDeviceLimit,
    IoLimits,
    Limits,
    MemoryLimits,
    PidsLimits,
)

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from ..oci.spec import BlockIo, Cpu, DeviceCgroup, Memory, Resources

    Kind = Literal["a", "b", "c"]

_KINDS: dict[str, Kind] = {"": "a", "a": "a", "b": "b", "c": "c", "u": "c"}


def to_limits(resources: Resources, *, devices: bool = True) -> Limits:
    """The limits of a group; ``devices`` False leaves them alone, as an update does.

    Kubernetes sends "deny all" with every update, which must not cut a running
    container off from ``/dev/null``.
    """
    pids = resources.pids
    return Limits(
        cpu=None if resources.cpu is None else _cpu(resources.cpu),
        memory=None if resources.memory is None else _memory(resources.memory),
        pids=None if pids is None or pids.limit == 0 else PidsLimits(max=max(pids.limit, -1)),
        io=None if resources.block_io is None else _io(resources.block_io),
        hugetlb=tuple(
            [
                HugetlbLimit(page_size=each.page_size, max_bytes=each.limit)
                for each in resources.hugepage_limits
            ]
        ),
        devices=device_rules(resources.devices) if devices and resources.devices else None,
        unified=resources.unified,
    )


def device_rules(rules: Iterable[DeviceCgroup]) -> tuple[DeviceRule, ...]:
    """The ordered list; negative numbers stand for any, as some writers have it."""
    made = []
    for each in rules:
        kind = _KINDS.get(each.type)
        if kind is None:
            raise UsageError(f"invalid device rule: type {each.type!r} is not a, b or c")
        if not set(each.access) <= set("rwm"):
            raise UsageError(f"invalid device rule: access {each.access!r} is not of r, w and m")
        made.append(
            DeviceRule(
                allow=each.allow,
                kind=kind,
                major=_number(each.major),
                minor=_number(each.minor),
                access=each.access or "rwm",
            )
        )
    return tuple(made)


def _number(value: int | None) -> int | None:
    return None if value is None or value < 0 else value


def _cpu(cpu: Cpu) -> CpuLimits | None:
    made = CpuLimits(
        quota_us=cpu.quota or None,
        period_us=cpu.period or None,
        burst_us=cpu.burst,
        shares=cpu.shares or None,
        idle=None if cpu.idle is None else bool(cpu.idle),
        cpus=cpu.cpus or None,
        mems=cpu.mems or None,
    )
    return None if made == CpuLimits() else made


def _memory(memory: Memory) -> MemoryLimits | None:
    if memory.swappiness is not None and memory.swappiness > 100:
        raise UsageError(f"invalid memory swappiness {memory.swappiness}: must be 0 to 100")
    made = MemoryLimits(
        max_bytes=memory.limit or None,
        swap_bytes=_swap(memory),
        reservation_bytes=memory.reservation or None,
        swappiness=memory.swappiness,
        oom_kill_disable=memory.disable_oom_killer or None,
    )
    return None if made == MemoryLimits() else made


def _swap(memory: Memory) -> int | None:
    # The specification counts memory and swap together, the library swap alone.
    if not memory.swap:
        return None
    if memory.swap < 0:
        return UNLIMITED
    if not memory.limit or memory.limit < 0:
        raise UsageError("a limit of memory and swap needs a limit of memory")
    if memory.swap < memory.limit:
        raise UsageError("minimum memoryswap limit should be larger than memory limit, see usage")
    return memory.swap - memory.limit


def _io(block_io: BlockIo) -> IoLimits | None:
    devices: dict[tuple[int, int], dict[str, int]] = {}
    for field, entries in (
        ("read_bps", block_io.throttle_read_bps),
        ("write_bps", block_io.throttle_write_bps),
        ("read_iops", block_io.throttle_read_iops),
        ("write_iops", block_io.throttle_write_iops),
    ):
        for throttle in entries:
            found = devices.setdefault((throttle.major, throttle.minor), {})
            found[field] = throttle.rate or UNLIMITED
    for each in block_io.weight_device:
        if each.weight:
            devices.setdefault((each.major, each.minor), {})["weight"] = each.weight
    if not block_io.weight and not devices:
        return None
    return IoLimits(
        weight=block_io.weight or None,
        devices=tuple(
            [
                IoDeviceLimit(major=major, minor=minor, **values)
                for (major, minor), values in devices.items()
            ]
        ),
    )
