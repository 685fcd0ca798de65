"""What the kernel does with the groups made here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requires
from kernel.cgroups.conftest import VERSIONS, Child, eventually, only, python

import cgroups
from cgroups import (
    Cgroup,
    CpuLimits,
    DeviceRule,
    HugetlbLimit,
    IoLimits,
    Layout,
    Limits,
    MemoryLimits,
    PidsLimits,
)

Create = Callable[..., Cgroup]
Start = Callable[..., Child]
MIB = 1 << 20
SPIN = ["sh", "-c", "echo started; while :; do :; done"]

pytestmark = requires.root


def mentions(name: str) -> list[str]:
    """Every directory of that name in any hierarchy."""
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{name}*")]


# Limits


@requires.cgroup("pids")
def test_pids_limit_stops_the_fork(create: Create, child: Start) -> None:
    cgroup = create(Limits(pids=PidsLimits(max=1)))
    code = "import os\ntry: print(os.fork())\nexcept OSError as e: print(e.errno)"

    _, output = child(cgroup, *python(code)).finish()

    assert output == "11"  # EAGAIN
    stats = cgroup.stats().pids
    assert stats.limit == 1
    assert stats.limit_hits == 1


@requires.cgroup("memory")
def test_memory_limit_kills_and_the_kill_is_counted(create: Create, child: Start) -> None:
    cgroup = create(
        Limits(memory=MemoryLimits(max_bytes=24 * MIB, swap_bytes=0)),
        allow_missing=("memory.swap",),
    )

    status, _ = child(cgroup, *python(f"print(len(bytearray({64 * MIB})))")).finish()

    assert status == -9
    stats = cgroup.stats().memory
    assert stats.oom_kills == 1
    assert stats.limit_bytes == 24 * MIB
    if stats.peak_bytes is not None:
        assert 16 * MIB < stats.peak_bytes <= 24 * MIB


@requires.cgroup("memory")
def test_memory_within_the_limit_is_counted_and_not_killed(create: Create, child: Start) -> None:
    cgroup = create(Limits(memory=MemoryLimits(max_bytes=128 * MIB)))

    status, _ = child(cgroup, *python(f"bytearray({32 * MIB})")).finish()

    assert status == 0
    stats = cgroup.stats().memory
    assert stats.oom_kills == 0
    if stats.peak_bytes is not None:
        assert 32 * MIB < stats.peak_bytes < 128 * MIB


@requires.cgroup("memory")
def test_memory_limits_of_a_living_group_go_up_and_down(create: Create) -> None:
    cgroup = create()

    for size in (64, 256, 16, 1024, 32):
        limits = MemoryLimits(max_bytes=size * MIB, swap_bytes=8 * MIB)
        cgroup.apply(Limits(memory=limits), allow_missing=("memory.swap",))

        assert cgroup.stats().memory.limit_bytes == size * MIB
    cgroup.apply(
        Limits(memory=MemoryLimits(max_bytes=-1, swap_bytes=-1)), allow_missing=("memory.swap",)
    )
    assert cgroup.stats().memory.limit_bytes is None


@requires.cgroup("cpu")
def test_cpu_quota_throttles(create: Create, child: Start) -> None:
    cgroup = create(Limits(cpu=CpuLimits(quota_us=2000, period_us=20_000, shares=512)))

    child(cgroup, *SPIN)

    eventually(lambda: cgroup.stats().cpu.throttled_ns)
    stats = cgroup.stats().cpu
    assert stats.throttled_periods
    assert stats.usage_ns
    assert {e.limit for e in cgroup.enforcement} == {"cpu", "cpu.weight"}


@requires.cgroup("cpu")
def test_cpu_limits_of_a_living_group_go_up_and_down(create: Create) -> None:
    cgroup = create(Limits(cpu=CpuLimits(quota_us=50_000, period_us=100_000)))

    for quota, period in ((5000, 10_000), (400_000, 500_000), (2000, 10_000), (-1, 100_000)):
        cgroup.apply(Limits(cpu=CpuLimits(quota_us=quota, period_us=period)))


@requires.cgroup("cpuset")
def test_cpuset_confines_the_process(create: Create, child: Start) -> None:
    cgroup = create(Limits(cpu=CpuLimits(cpus="0", mems="0")))

    _, output = child(cgroup, *python("import os; print(os.sched_getaffinity(0))")).finish()

    assert output == "{0}"


@requires.cgroup("cpu")
def test_value_that_the_kernel_refuses_names_the_file_and_leaves_nothing(
    create: Create, name: str
) -> None:
    with pytest.raises(cgroups.LimitRefused, match=r"cannot write '5.*/cpu\..*invalid argument"):
        create(Limits(cpu=CpuLimits(quota_us=5, period_us=100_000)))

    assert mentions(name) == []


@requires.cgroup("hugetlb")
def test_hugetlb_limit_is_written(create: Create) -> None:
    size = next(Path("/sys/kernel/mm/hugepages").iterdir()).name.removeprefix("hugepages-")
    kib = int(size.removesuffix("kB"))
    page_size = f"{kib >> 20}GB" if kib >> 20 else f"{kib >> 10}MB"

    cgroup = create(Limits(hugetlb=(HugetlbLimit(page_size=page_size, max_bytes=0),)))

    assert [e.limit for e in cgroup.enforcement] == ["hugetlb"]
    assert page_size in [h.page_size for h in cgroup.stats().hugetlb]


NULL = DeviceRule(allow=True, kind="c", major=1, minor=3)
ZERO_READ = DeviceRule(allow=True, kind="c", major=1, minor=5, access="r")
OPEN = """
import os
for path, flags in (("null", os.O_RDWR), ("zero", os.O_RDONLY), ("zero", os.O_RDWR), ("full", 0)):
    try:
        os.close(os.open("/dev/" + path, flags))
        print("yes", end=" ")
    except PermissionError:
        print("no", end=" ")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_device_rules_deny_what_they_do_not_allow(
    create: Create, child: Start, layout: Layout, version: int
) -> None:
    """On a hybrid host once by v1's lists and once by a program in the unified tree."""
    host = only(layout, version)
    cgroup = create(Limits(devices=(NULL, ZERO_READ)), layout=host)

    assert child(cgroup, *python(OPEN)).finish() == (0, "yes yes no no")

    cgroup.apply(Limits(devices=(DeviceRule(allow=True), DeviceRule(allow=False, kind="c", major=1,
                                                                   minor=3))))  # fmt: skip
    assert child(cgroup, *python(OPEN)).finish() == (0, "no yes yes yes")

    cgroup.apply(Limits(devices=(DeviceRule(allow=True),)))
    assert child(cgroup, *python(OPEN)).finish() == (0, "yes yes yes yes")


def test_device_program_is_replaced_and_not_piled_up(create: Create, layout: Layout) -> None:
    from cgroups.v2 import bpf

    if layout.kind == "legacy":
        pytest.skip("no v2 tree")
    cgroup = create(layout=only(layout, 2))
    folder = os.open(cgroup.groups[0].path, os.O_RDONLY)
    try:
        counts = []
        for rules in ((NULL,), (NULL, ZERO_READ), (), (DeviceRule(allow=True),)):
            cgroup.apply(Limits(devices=rules))
            counts.append(len(bpf.attached(folder)))
    finally:
        os.close(folder)

    assert counts == [1, 1, 1, 0]


# Membership


def test_process_is_in_every_hierarchy_of_a_new_group(
    create: Create, child: Start, layout: Layout
) -> None:
    cgroup = create()

    started = child(cgroup, *SPIN)
    started.line()

    assert cgroup.pids() == (started.pid,)
    name = cgroup.groups[0].path.rpartition("/")[2]
    lines = Path(f"/proc/{started.pid}/cgroup").read_text().splitlines()
    assert len(cgroup.groups) == len(layout.hierarchies)
    assert len([line for line in lines if line.endswith("/" + name)]) == len(cgroup.groups)


def test_process_joins_by_itself_through_the_join_paths(create: Create, child: Start) -> None:
    cgroup = create()
    paths = [group.join_path for group in cgroup.groups]
    code = (
        f"for path in {paths!r}:\n with open(path, 'w') as file: file.write('0')\n"
        "print('in', flush=True)\nimport sys; sys.stdin.read()"
    )
    with_input = python(code)

    started = child(None, *with_input)
    started.go()

    assert started.line() == "in"
    assert cgroup.pids() == (started.pid,)
    started.finish()


# Freezing


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_group_uses_no_time_until_it_is_thawed(
    create: Create, child: Start, layout: Layout, version: int
) -> None:
    host = only(layout, version)
    cgroup = create(layout=host)
    child(cgroup, *SPIN).line()
    used = lambda: cgroup.stats().cpu.usage_ns or 0  # noqa: E731

    cgroup.freeze()
    cgroup.freeze()
    before = used()
    time.sleep(0.05)
    after = used()
    cgroup.thaw()

    assert before == after
    eventually(lambda: used() > after)


# Killing


TREE = """
i=0
while [ $i -lt 5 ]; do
    setsid sh -c 'sleep 300 & trap "" TERM; sleep 300' &
    i=$((i + 1))
done
echo started
wait
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_kill_ends_the_whole_tree(
    create: Create, child: Start, layout: Layout, version: int, frozen: bool
) -> None:
    host = only(layout, version)
    cgroup = create(layout=host)
    started = child(cgroup, "sh", "-c", TREE)
    started.line()
    eventually(lambda: len(cgroup.pids()) >= 16)
    if frozen:
        cgroup.freeze()

    cgroup.kill()

    assert cgroup.pids() == ()
    assert started.finish()[0] == -9


def test_kill_reaches_what_a_v1_freezer_holds(create: Create, child: Start, layout: Layout) -> None:
    cgroup = create()
    started = child(cgroup, *SPIN)
    started.line()
    for group in cgroup.groups:  # none on a pure v2 host
        if "freezer" in group.controllers:
            Path(group.path, "freezer.state").write_text("FROZEN")

    cgroup.kill()

    assert started.finish()[0] == -9


@requires.cgroup("pids")
@pytest.mark.parametrize("version", VERSIONS[:2])
def test_kill_ends_a_fork_bomb(create: Create, child: Start, layout: Layout, version: int) -> None:
    host = only(layout, version)
    cgroup = create(Limits(pids=PidsLimits(max=60)), layout=host)
    child(cgroup, "sh", "-c", "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 300")
    eventually(lambda: cgroup.stats().pids.limit_hits)

    cgroup.kill()

    assert cgroup.pids() == ()


def test_kill_reaches_groups_made_inside(create: Create, child: Start, layout: Layout) -> None:
    cgroup = create()
    started = child(cgroup, *SPIN)
    started.line()
    for group in cgroup.groups:
        inner = Path(group.path, "inner")
        inner.mkdir()
        if group.version == 1 and "cpuset" in group.controllers:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (inner / file).write_text(Path(group.path, file).read_text())
        (inner / "cgroup.procs").write_text(str(started.pid))

    cgroup.kill()
    cgroup.remove()

    assert started.finish()[0] == -9


# Removing


def test_remove_leaves_nothing_and_may_be_repeated(create: Create, name: str) -> None:
    cgroup = create()
    assert mentions(name)

    cgroup.remove()
    cgroup.remove()

    assert mentions(name) == []


def test_remove_waits_for_what_was_just_killed(create: Create, child: Start, name: str) -> None:
    cgroup = create()
    started = child(cgroup, *SPIN)
    started.line()

    started.process.kill()
    cgroup.remove()

    assert mentions(name) == []


def test_remove_of_a_group_in_use_is_an_error_and_kills_nothing(
    create: Create, child: Start
) -> None:
    cgroup = create()
    started = child(cgroup, *SPIN)

    with pytest.raises(cgroups.GroupBusy, match=str(started.pid)):
        cgroup.remove(timeout_s=0)

    assert started.process.poll() is None


def test_recorded_groups_are_killed_and_removed_though_some_are_gone(
    create: Create, child: Start, name: str
) -> None:
    cgroup = create()
    recorded = [
        cgroups.Group(version=g.version, controllers=g.controllers, path=g.path)
        for g in cgroup.groups
    ]
    if len(recorded) > 1:
        os.rmdir(recorded[0].path)
        os.rmdir(recorded[-1].path)
    started = child(None, *SPIN)
    for group in recorded[1:-1] or recorded:
        Path(group.path, "cgroup.procs").write_text(str(started.pid))
    started.go()
    started.line()

    again = cgroups.open_existing(recorded)
    again.kill()
    again.remove()

    assert started.finish()[0] == -9
    assert mentions(name) == []


def test_existing_group_is_an_error(create: Create, layout: Layout) -> None:
    cgroup = create()
    name = cgroup.groups[0].path.rpartition("/")[2]

    with pytest.raises(cgroups.GroupExists):
        cgroups.create(layout, name)

    assert all(Path(group.path).is_dir() for group in cgroup.groups)


# Counting


def test_stats_of_a_new_group_are_numbers_or_none(create: Create, layout: Layout) -> None:
    stats = create().stats()

    if layout.find("memory"):
        assert stats.memory.usage_bytes is not None
        assert stats.memory.oom_kills == 0
    if layout.find("pids"):
        assert stats.pids.current == 0
    if layout.find("io"):
        assert stats.io.read_bytes == 0
    if Path("/proc/pressure/cpu").exists() and layout.kind != "legacy":
        assert stats.cpu_pressure is not None


def test_written_bytes_are_counted(
    create: Create, child: Start, layout: Layout, tmp_path: Path
) -> None:
    if not (layout.find("io") or layout.find("blkio")):
        pytest.skip("no io controller")
    cgroup = create()
    out = tmp_path / "out"

    status, _ = child(
        cgroup, "dd", "if=/dev/zero", f"of={out}", "bs=1M", "count=2", "oflag=direct"
    ).finish()

    if status:
        pytest.skip("no O_DIRECT where tests put their files")
    # v1 counts what is throttled; what is not counted is None.
    assert cgroup.stats().io.write_bytes in ({2 * MIB} if layout.find("io") else {None, 2 * MIB})


def test_io_weight_is_written_or_said_to_be_missing(create: Create) -> None:
    cgroup = create(Limits(io=IoLimits(weight=200)), allow_missing=("io",))

    assert [e.limit.partition(".")[0] for e in cgroup.enforcement] == ["io"]
