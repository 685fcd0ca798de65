"""What is written for each limit, where, and in which order."""

import errno

import pytest
from unit.cgroups.cgroupfs import FakeKernel

import cgroups
from cgroups import (
    UNLIMITED,
    CpuLimits,
    HugetlbLimit,
    IoDeviceLimit,
    IoLimits,
    Limits,
    MemoryLimits,
    PidsLimits,
)
from cgroups.v1.cpu import shares_of
from cgroups.v2.cpu import weight_of
from cgroups.v2.io import weight_of as io_weight_of

MIB = 1 << 20


def written(
    kernel: FakeKernel, limits: Limits, first: Limits | None = None
) -> list[tuple[str, str]]:
    """What applying ``limits`` writes into a group: a new one, or one that has ``first``."""
    layout = kernel.detect()
    clones = kernel.root / "cpuset/cgroup.clone_children"
    if clones.exists():
        clones.write_text("1\n")  # so that nothing but limits is written
    if first is None:
        kernel.writes.clear()
        cgroups.create(layout, "one", limits)
    else:
        cgroup = cgroups.create(layout, "one", first)
        kernel.writes.clear()
        cgroup.apply(limits)
    return kernel.written("one")


def memory(maximum: int | None, swap: int | None = None) -> Limits:
    return Limits(memory=MemoryLimits(max_bytes=maximum, swap_bytes=swap))


# v1 memory


def test_v1_swap_is_written_as_the_sum_after_the_memory_limit(legacy: FakeKernel) -> None:
    assert written(legacy, memory(64 * MIB, 16 * MIB)) == [
        ("memory.limit_in_bytes", str(64 * MIB)),
        ("memory.memsw.limit_in_bytes", str(80 * MIB)),
    ]


def test_v1_growing_past_the_old_sum_writes_the_sum_first(legacy: FakeKernel) -> None:
    assert written(legacy, memory(256 * MIB, 0), memory(64 * MIB, 16 * MIB)) == [
        ("memory.memsw.limit_in_bytes", str(256 * MIB)),
        ("memory.limit_in_bytes", str(256 * MIB)),
    ]


def test_v1_shrinking_writes_the_memory_limit_first(legacy: FakeKernel) -> None:
    assert written(legacy, memory(16 * MIB, 0), memory(64 * MIB, 16 * MIB)) == [
        ("memory.limit_in_bytes", str(16 * MIB)),
        ("memory.memsw.limit_in_bytes", str(16 * MIB)),
    ]


def test_v1_taking_the_limits_away_frees_the_sum_first(legacy: FakeKernel) -> None:
    assert written(legacy, memory(UNLIMITED, UNLIMITED), memory(64 * MIB, 0)) == [
        ("memory.memsw.limit_in_bytes", "-1"),
        ("memory.limit_in_bytes", "-1"),
    ]


def test_v1_swap_alone_is_added_to_the_limit_that_is_there(legacy: FakeKernel) -> None:
    assert written(legacy, memory(None, 8 * MIB), memory(64 * MIB, 0)) == [
        ("memory.memsw.limit_in_bytes", str(72 * MIB))
    ]


def test_v1_swap_without_a_memory_limit_cannot_be_enforced(legacy: FakeKernel) -> None:
    with pytest.raises(cgroups.LimitUnavailable, match="there is no memory limit") as caught:
        written(legacy, memory(None, 8 * MIB))

    assert caught.value.limit == "memory.swap"


def test_v1_growing_memory_alone_past_the_sum_is_refused_by_the_kernel(legacy: FakeKernel) -> None:
    with pytest.raises(cgroups.LimitRefused) as caught:
        written(legacy, memory(128 * MIB), memory(64 * MIB, 0))

    assert caught.value.limit == "memory"
    assert "swap" in caught.value.hint


def test_v1_reservation_swappiness_and_oom_control(legacy: FakeKernel) -> None:
    limits = MemoryLimits(reservation_bytes=MIB, swappiness=0, oom_kill_disable=True)

    assert written(legacy, Limits(memory=limits)) == [
        ("memory.soft_limit_in_bytes", str(MIB)),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
    ]


@pytest.mark.parametrize("field", ["high_bytes", "low_bytes", "min_bytes", "oom_group"])
def test_v1_has_no_v2_memory_limits(legacy: FakeKernel, field: str) -> None:
    with pytest.raises(cgroups.LimitUnavailable, match="cgroup v1 has no such limit"):
        written(legacy, Limits(memory=MemoryLimits(**{field: 1})))


# v2 memory


def test_v2_memory_files(unified: FakeKernel) -> None:
    limits = MemoryLimits(
        max_bytes=64 * MIB,
        swap_bytes=0,
        reservation_bytes=MIB,
        high_bytes=UNLIMITED,
        min_bytes=4096,
        oom_group=True,
    )

    assert written(unified, Limits(memory=limits)) == [
        ("memory.max", str(64 * MIB)),
        ("memory.swap.max", "0"),
        ("memory.high", "max"),
        ("memory.low", str(MIB)),
        ("memory.min", "4096"),
        ("memory.oom.group", "1"),
    ]


def test_v2_low_wins_over_reservation(unified: FakeKernel) -> None:
    limits = MemoryLimits(low_bytes=1, reservation_bytes=2)

    assert written(unified, Limits(memory=limits)) == [("memory.low", "1")]


def test_v2_has_no_swappiness_of_a_group(unified: FakeKernel) -> None:
    with pytest.raises(cgroups.LimitUnavailable, match=r"memory\.swappiness.*cgroup v2 has no"):
        written(unified, Limits(memory=MemoryLimits(swappiness=10)))


# CPU


def test_v1_cpu_files(legacy: FakeKernel) -> None:
    limits = CpuLimits(quota_us=50_000, period_us=100_000, burst_us=1000, shares=512)

    assert written(legacy, Limits(cpu=limits)) == [
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_burst_us", "1000"),
    ]


def test_v1_quota_goes_first_when_quota_and_period_both_shrink(legacy: FakeKernel) -> None:
    before = Limits(cpu=CpuLimits(quota_us=50_000, period_us=100_000))

    assert written(legacy, Limits(cpu=CpuLimits(quota_us=5_000, period_us=10_000)), before) == [
        ("cpu.cfs_quota_us", "5000"),
        ("cpu.cfs_period_us", "10000"),
    ]


def test_v1_period_goes_first_when_only_the_period_shrinks(legacy: FakeKernel) -> None:
    before = Limits(cpu=CpuLimits(quota_us=5_000, period_us=100_000))

    assert written(legacy, Limits(cpu=CpuLimits(quota_us=8_000, period_us=50_000)), before) == [
        ("cpu.cfs_period_us", "50000"),
        ("cpu.cfs_quota_us", "8000"),
    ]


def test_v1_quota_goes_first_when_there_was_none(legacy: FakeKernel) -> None:
    before = Limits(pids=PidsLimits(max=1))

    assert written(legacy, Limits(cpu=CpuLimits(quota_us=8_000, period_us=50_000)), before)[0] == (
        "cpu.cfs_quota_us",
        "8000",
    )


def test_v2_quota_and_period_are_one_write(unified: FakeKernel) -> None:
    limits = CpuLimits(quota_us=50_000, period_us=100_000, burst_us=1000, shares=1024)

    assert written(unified, Limits(cpu=limits)) == [
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "1000"),
    ]


def test_v2_period_alone_keeps_the_quota(unified: FakeKernel) -> None:
    before = Limits(cpu=CpuLimits(quota_us=5_000))

    assert written(unified, Limits(cpu=CpuLimits(period_us=50_000)), before) == [
        ("cpu.max", "5000 50000")
    ]


def test_v2_unlimited_quota_is_max(unified: FakeKernel) -> None:
    assert written(unified, Limits(cpu=CpuLimits(quota_us=UNLIMITED))) == [("cpu.max", "max")]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        (0, 1),
        (2, 1),
        (3, 2),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262144, 10000),
        (1 << 20, 10000),
    ],
)
def test_shares_become_a_weight_as_in_the_oci_runtimes(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


def test_weight_grows_with_shares() -> None:
    weights = [weight_of(1 << power) for power in range(19)]

    assert weights == sorted(weights)


@pytest.mark.parametrize(("weight", "shares"), [(1, 10), (100, 1024), (10000, 102400)])
def test_weight_becomes_shares(weight: int, shares: int) -> None:
    assert shares_of(weight) == shares


@pytest.mark.parametrize("host", ["legacy", "unified"])
def test_cpuset_is_written_before_the_cpu(host: str, request: pytest.FixtureRequest) -> None:
    kernel = request.getfixturevalue(host)
    limits = CpuLimits(cpus="0-1", mems="0", idle=None, quota_us=1000)

    names = [name for name, _ in written(kernel, Limits(cpu=limits))]

    assert names[:2] == ["cpuset.cpus", "cpuset.mems"]


def test_cpuset_needs_no_cpu_controller(kernel: FakeKernel) -> None:
    kernel.mount_v1("cpuset")

    assert written(kernel, Limits(cpu=CpuLimits(cpus="0"))) == [("cpuset.cpus", "0")]


# pids, io, hugetlb


@pytest.mark.parametrize("host", ["legacy", "unified"])
@pytest.mark.parametrize(("asked", "value"), [(5, "5"), (UNLIMITED, "max")])
def test_pids(host: str, asked: int, value: str, request: pytest.FixtureRequest) -> None:
    kernel = request.getfixturevalue(host)

    assert written(kernel, Limits(pids=PidsLimits(max=asked))) == [("pids.max", value)]


IO = IoLimits(
    weight=500,
    devices=(
        IoDeviceLimit(major=8, minor=0, read_bps=1000, write_iops=7),
        IoDeviceLimit(major=8, minor=16, write_bps=0, read_iops=UNLIMITED, weight=200),
    ),
)


def test_v1_io_files(legacy: FakeKernel) -> None:
    assert written(legacy, Limits(io=IO)) == [
        ("blkio.bfq.weight", "500"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio.throttle.write_iops_device", "8:0 7"),
        ("blkio.bfq.weight_device", "8:16 200"),
        ("blkio.throttle.write_bps_device", "8:16 0"),
        ("blkio.throttle.read_iops_device", "8:16 0"),
    ]


def test_v2_io_files(unified: FakeKernel) -> None:
    assert written(unified, Limits(io=IO)) == [
        ("io.weight", "4950"),
        ("io.max", "8:0 rbps=1000 wiops=7"),
        ("io.weight", "8:16 1920"),
        ("io.max", "8:16 wbps=max riops=max"),
    ]


@pytest.mark.parametrize(("blkio", "weight"), [(10, 1), (500, 4950), (1000, 10000)])
def test_io_weight_is_a_straight_line(blkio: int, weight: int) -> None:
    assert io_weight_of(blkio) == weight


def test_weight_without_any_scheduler_that_knows_it_cannot_be_enforced(legacy: FakeKernel) -> None:
    legacy.refuse["blkio.bfq.weight"] = errno.ENOENT

    with pytest.raises(cgroups.LimitUnavailable, match=r"io\.weight.*blkio\.bfq\.weight is not"):
        written(legacy, Limits(io=IoLimits(weight=100)))


def test_v1_hugetlb(legacy: FakeKernel) -> None:
    limits = Limits(hugetlb=(HugetlbLimit(page_size="2MB", max_bytes=4 * MIB),))

    assert written(legacy, limits) == [("hugetlb.2MB.limit_in_bytes", str(4 * MIB))]


def test_v2_hugetlb_limits_reservations_as_well(unified: FakeKernel) -> None:
    limits = Limits(hugetlb=(HugetlbLimit(page_size="2MB", max_bytes=UNLIMITED),))

    assert written(unified, limits) == [("hugetlb.2MB.max", "max"), ("hugetlb.2MB.rsvd.max", "max")]


def test_hugetlb_of_a_page_size_that_is_not_here_cannot_be_enforced(unified: FakeKernel) -> None:
    limits = Limits(hugetlb=(HugetlbLimit(page_size="3MB", max_bytes=0),))

    with pytest.raises(cgroups.LimitUnavailable, match=r"hugetlb\.3MB\.max is not there"):
        written(unified, limits)


# Raw files, and what cannot be enforced


def test_unified_files_are_written_as_they_are(unified: FakeKernel) -> None:
    limits = Limits(unified=(("memory.high", "1000"), ("pids.max", "3")))

    assert written(unified, limits) == [("memory.high", "1000"), ("pids.max", "3")]


def test_unified_file_name_with_a_slash_is_refused(unified: FakeKernel) -> None:
    with pytest.raises(cgroups.InvalidLimit, match=r"\.\./memory\.max"):
        written(unified, Limits(unified=(("../memory.max", "1"),)))


def test_unified_files_need_a_v2_tree(legacy: FakeKernel) -> None:
    with pytest.raises(cgroups.LimitUnavailable, match="unified"):
        written(legacy, Limits(unified=(("memory.high", "1000"),)))


def test_limits_of_none_write_nothing(hybrid: FakeKernel) -> None:
    empty = Limits(cpu=CpuLimits(), memory=MemoryLimits(), io=IoLimits())

    assert written(hybrid, empty) == []


def test_empty_limits_need_no_controllers(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids")
    empty = Limits(cpu=CpuLimits(), memory=MemoryLimits(), io=IoLimits())

    assert cgroups.create(kernel.detect(), "one", empty).enforcement == ()


def test_file_that_may_not_be_written_is_a_limit_that_cannot_be_enforced(
    unified: FakeKernel,
) -> None:
    unified.refuse["memory.max"] = errno.EACCES

    with pytest.raises(cgroups.LimitUnavailable, match="permission denied"):
        written(unified, memory(MIB))


def test_live_update_keeps_what_was_enforced_and_adds_to_it(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one", memory(MIB))

    cgroup.apply(Limits(pids=PidsLimits(max=3), memory=MemoryLimits(max_bytes=2 * MIB)))

    assert [e.limit for e in cgroup.enforcement] == ["memory", "pids"]
