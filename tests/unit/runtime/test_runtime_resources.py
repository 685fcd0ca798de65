from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroups.limits import (
    CpuLimits,
    DeviceRule,
    HugetlbLimit,
    IoDeviceLimit,
    IoLimits,
    Limits,
    MemoryLimits,
    PidsLimits,
)
from sandbox.errors import UsageError
from sandbox.oci.spec import (
    BlockIo,
    Cpu,
    DeviceCgroup,
    HugepageLimit,
    Memory,
    Pids,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from sandbox.runtime import identity
from sandbox.runtime.process import list_processes
from sandbox.runtime.resources import device_rules, to_limits


def test_nothing_asked_is_nothing_limited() -> None:
    assert to_limits(Resources()) == Limits()


def test_the_zeros_that_engines_send_leave_limits_alone() -> None:
    zeros = Resources(
        cpu=Cpu(shares=0, quota=0, period=0),
        memory=Memory(limit=0, reservation=0, swap=0),
        pids=Pids(limit=0),
        block_io=BlockIo(weight=0),
    )

    assert to_limits(zeros) == Limits()


def test_every_limit_crosses() -> None:
    asked = Resources(
        cpu=Cpu(shares=512, quota=50000, period=100000, burst=1000, cpus="0-1", mems="0", idle=1),
        memory=Memory(limit=64 << 20, swap=96 << 20, reservation=32 << 20, swappiness=0),
        pids=Pids(limit=64),
        block_io=BlockIo(
            weight=500,
            weight_device=(WeightDevice(major=8, minor=0, weight=100),),
            throttle_read_bps=(ThrottleDevice(major=8, minor=0, rate=1000),),
            throttle_write_iops=(ThrottleDevice(major=8, minor=16, rate=5),),
        ),
        hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),),
        unified=(("memory.high", "1"),),
        devices=(DeviceCgroup(allow=False),),
    )

    assert to_limits(asked) == Limits(
        cpu=CpuLimits(
            shares=512,
            quota_us=50000,
            period_us=100000,
            burst_us=1000,
            cpus="0-1",
            mems="0",
            idle=True,
        ),
        memory=MemoryLimits(
            max_bytes=64 << 20, swap_bytes=32 << 20, reservation_bytes=32 << 20, swappiness=0
        ),
        pids=PidsLimits(max=64),
        io=IoLimits(
            weight=500,
            devices=(
                IoDeviceLimit(major=8, minor=0, read_bps=1000, weight=100),
                IoDeviceLimit(major=8, minor=16, write_iops=5),
            ),
        ),
        hugetlb=(HugetlbLimit(page_size="2MB", max_bytes=4 << 20),),
        unified=(("memory.high", "1"),),
        devices=(DeviceRule(allow=False),),
    )


@pytest.mark.parametrize(
    ("limit", "swap", "alone"), [(100, 100, 0), (100, 150, 50), (100, -1, -1), (None, -1, -1)]
)
def test_swap_is_counted_without_memory(limit: int | None, swap: int, alone: int) -> None:
    memory = to_limits(Resources(memory=Memory(limit=limit, swap=swap))).memory

    assert memory is not None
    assert memory.swap_bytes == alone


@pytest.mark.parametrize(
    "memory", [Memory(swap=5), Memory(limit=10, swap=5), Memory(swappiness=101)]
)
def test_memory_that_cannot_be_meant_is_refused(memory: Memory) -> None:
    with pytest.raises(UsageError):
        to_limits(Resources(memory=memory))


def test_unlimited_tasks_are_said_so() -> None:
    assert to_limits(Resources(pids=Pids(limit=-1))).pids == PidsLimits(max=-1)


def test_an_update_leaves_devices_alone() -> None:
    assert to_limits(Resources(devices=(DeviceCgroup(allow=False),)), devices=False) == Limits()


def test_negative_device_numbers_stand_for_any() -> None:
    assert device_rules((DeviceCgroup(allow=True, type="c", major=5, minor=-1, access=""),)) == (
        DeviceRule(allow=True, kind="c", major=5, minor=None, access="rwm"),
    )


@pytest.mark.parametrize(
    "rule", [DeviceCgroup(allow=True, type="x"), DeviceCgroup(allow=True, access="rx")]
)
def test_device_rules_are_refused(rule: DeviceCgroup) -> None:
    with pytest.raises(UsageError, match="invalid device rule"):
        device_rules((rule,))


# --- who a process is ---


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    fields = "S 1 7 7 0 -1 4194560 1 0 0 0 11 12 0 0 20 0 3 0 4242 1 1"

    stat = identity.parse_stat(f"7 (a) b (c) {fields}\n".encode())

    assert (stat.pid, stat.name, stat.state, stat.parent) == (7, "a) b (c", "S", 1)
    assert (stat.user_ticks, stat.system_ticks, stat.threads, stat.start_time) == (11, 12, 3, 4242)


def test_this_process_is_the_same_and_one_of_another_boot_is_not() -> None:
    started, boot = identity.start_time(os.getpid()), identity.boot_id()

    assert started is not None
    assert identity.is_same(os.getpid(), started, boot)
    assert not identity.is_same(os.getpid(), started + 1, boot)
    assert not identity.is_same(os.getpid(), started, "another")


def test_a_zombie_and_nobody_have_no_start_time(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5/stat").write_text("5 (x) Z 1 " + "0 " * 40)

    assert identity.start_time(5, proc=str(tmp_path)) is None
    assert identity.start_time(6, proc=str(tmp_path)) is None


def test_processes_that_are_gone_are_left_out() -> None:
    found = list_processes((os.getpid(), 1 << 22))

    assert [each.pid for each in found] == [os.getpid()]
    assert found[0].threads >= 1
