"""Membership, freezing, killing, removing and counting on a fake tree."""

import errno
import os
import subprocess
import sys

import pytest
from unit.cgroups.cgroupfs import FakeKernel

import cgroups
from cgroups import Group


def put(kernel: FakeKernel, path: str, text: str) -> None:
    (kernel.root / path).write_text(text)


def test_adding_a_process_writes_it_into_every_group(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one")
    hybrid.writes.clear()

    cgroup.add(4242)

    assert {value for _, value in hybrid.writes} == {"4242"}
    assert len(hybrid.writes) == len(cgroup.groups) == 11


def test_pids_are_those_of_the_group_and_of_groups_below(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    unified.make_directory(f"{unified.root}/one/nested")
    put(unified, "one/cgroup.procs", "10\n11\n")
    put(unified, "one/nested/cgroup.procs", "12\n")

    assert cgroup.pids() == (10, 11, 12)


def test_pids_of_a_group_that_is_gone_are_none(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    cgroup.remove()

    assert cgroup.pids() == ()


def test_group_says_which_file_a_process_joins_by() -> None:
    v1 = Group(version=1, controllers=("cpu",), path="/c/one")
    v2 = Group(version=2, controllers=(), path="/u/one")

    assert (v1.join_path, v2.join_path) == ("/c/one/tasks", "/u/one/cgroup.procs")


# Freezing


def test_hybrid_host_freezes_in_the_unified_tree(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "e/one")
    hybrid.writes.clear()

    cgroup.freeze()

    assert hybrid.writes == [("unified/e/one/cgroup.freeze", "1")]


def test_legacy_host_freezes_by_the_v1_freezer(legacy: FakeKernel) -> None:
    cgroup = cgroups.create(legacy.detect(), "e/one")
    legacy.writes.clear()

    cgroup.freeze()
    cgroup.thaw()

    assert legacy.writes == [
        ("freezer/e/one/freezer.state", "FROZEN"),
        ("freezer/e/one/freezer.state", "THAWED"),
    ]


def test_freeze_without_any_freezer_says_so(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids")
    cgroup = cgroups.create(kernel.detect(), "one")

    with pytest.raises(cgroups.LimitUnavailable, match="freezer"):
        cgroup.freeze()


def test_v2_freeze_that_the_kernel_does_not_confirm_times_out(
    unified: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    monkeypatch.setattr(unified, "_set_event", lambda *_: None)

    with pytest.raises(cgroups.FreezeTimeout, match="/one"):
        cgroup.freeze(timeout_s=0.01)
    assert unified.read("one/cgroup.freeze") == "1"


def test_v1_freeze_asks_again_while_the_kernel_is_freezing(
    legacy: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = cgroups.create(legacy.detect(), "one")
    answers = ["FREEZING", "FREEZING", "FROZEN"]
    monkeypatch.setattr("cgroups.v1.freezer.files.read", lambda _: answers.pop(0))
    legacy.writes.clear()

    cgroup.freeze()

    assert [value for _, value in legacy.writes] == ["FROZEN"] * 3


def test_v1_freeze_that_does_not_come_to_an_end_times_out(
    legacy: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = cgroups.create(legacy.detect(), "one")
    monkeypatch.setattr("cgroups.v1.freezer.files.read", lambda _: "FREEZING\n")

    with pytest.raises(cgroups.FreezeTimeout):
        cgroup.freeze(timeout_s=0)


def test_thaw_of_a_group_that_is_gone_is_harmless(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one")
    cgroup.remove()

    cgroup.thaw()


# Killing


def test_kill_uses_cgroup_kill_where_there_is_one(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "e/one")
    hybrid.write(f"{hybrid.root}/unified/e/one/cgroup.procs", "4242")
    hybrid.writes.clear()

    cgroup.kill()

    assert hybrid.writes[0] == ("unified/e/one/cgroup.kill", "1")


def test_kill_thaws_what_a_v1_freezer_holds(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "e/one")
    hybrid.write(f"{hybrid.root}/unified/e/one/cgroup.procs", "4242")
    hybrid.write(f"{hybrid.root}/freezer/e/one/freezer.state", "FROZEN")

    cgroup.kill()

    assert hybrid.read("freezer/e/one/freezer.state") == "THAWED"


def test_kill_of_an_empty_group_writes_nothing(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "e/one")
    hybrid.writes.clear()

    cgroup.kill()

    assert hybrid.writes == []


@pytest.mark.parametrize("host", ["legacy", "hybrid"])
def test_kill_signals_each_process_of_a_v1_group(host: str, request: pytest.FixtureRequest) -> None:
    """Also on a hybrid host, when the process is in v1 groups alone."""
    kernel = request.getfixturevalue(host)
    cgroup = cgroups.create(kernel.detect(), "e/one")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        kernel.make_directory(f"{kernel.root}/pids/e/one/nested")
        put(kernel, "pids/e/one/nested/cgroup.procs", f"{child.pid}\n0\n")

        with pytest.raises(cgroups.KillTimeout):
            cgroup.kill(timeout_s=0)  # nobody takes it out of the fake file

        assert child.wait() == -9
    assert kernel.written("one")[-2:] == [("freezer.state", "FROZEN"), ("freezer.state", "THAWED")]


def test_kill_does_not_signal_a_process_that_left_meanwhile(
    legacy: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = cgroups.create(legacy.detect(), "one")
    ours = os.getpid()  # would end the test
    answers = [[ours], [ours], [], []]
    monkeypatch.setattr("cgroups.files.pids_below", lambda _: answers.pop(0) if answers else [])

    cgroup.kill()

    assert answers == []


def test_kill_of_groups_that_are_gone_is_harmless() -> None:
    groups = [
        Group(version=1, controllers=("freezer",), path="/nowhere/freezer/one"),
        Group(version=2, controllers=(), path="/nowhere/unified/one"),
    ]

    cgroup = cgroups.open_existing(groups)
    cgroup.kill()
    cgroup.remove()

    assert cgroup.groups == tuple(groups)


# Removing


def test_remove_takes_the_group_from_every_hierarchy_and_may_be_repeated(
    hybrid: FakeKernel,
) -> None:
    layout = hybrid.detect()
    before = hybrid.groups()
    cgroup = cgroups.create(layout, "one")

    cgroup.remove()
    cgroup.remove()

    assert hybrid.groups() == before


def test_remove_takes_groups_made_inside_as_well(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    for path in ("one/a", "one/a/b", "one/c"):
        unified.make_directory(f"{unified.root}/{path}")

    cgroup.remove()

    assert unified.groups() == []


def test_remove_takes_groups_nested_beyond_any_recursion(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    path = f"{unified.root}/one"
    for _ in range(300):
        path += "/n"
        os.mkdir(path)
        open(path + "/cgroup.procs", "w").close()

    with RecursionLimit(150):
        assert cgroup.pids() == ()
        cgroup.remove()

    assert unified.groups() == []


class RecursionLimit:
    def __init__(self, depth: int) -> None:
        self.depth, self.before = depth, sys.getrecursionlimit()

    def __enter__(self) -> None:
        frame, here = sys._getframe(), 0
        while frame.f_back is not None:
            frame, here = frame.f_back, here + 1
        sys.setrecursionlimit(here + self.depth)

    def __exit__(self, *_: object) -> None:
        sys.setrecursionlimit(self.before)


def test_remove_of_a_group_in_use_names_the_processes_and_removes_the_others(
    hybrid: FakeKernel,
) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one")
    put(hybrid, "pids/one/cgroup.procs", "4242\n")

    with pytest.raises(cgroups.GroupBusy, match=r"\[4242\].*/pids/one"):
        cgroup.remove(timeout_s=0.01)

    assert hybrid.groups() == ["pids/one"]


def test_remove_that_is_forbidden_says_so(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    unified.refuse["one"] = errno.EROFS

    with pytest.raises(cgroups.GroupRefused, match=r"read-only file system.*/one"):
        cgroup.remove()


# Counting


def test_stats_of_a_hybrid_host_come_from_both_trees(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one", cgroups.Limits(
        memory=cgroups.MemoryLimits(max_bytes=1 << 20)
    ))  # fmt: skip
    put(hybrid, "unified/one/cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\n")
    put(hybrid, "unified/one/cpu.pressure", "some avg10=0.0 total=7\nfull avg10=0.0 total=5\n")
    put(hybrid, "cpu/one/cpu.stat", "nr_periods 4\nnr_throttled 3\nthrottled_time 2000\n")
    put(hybrid, "memory/one/memory.usage_in_bytes", "4096\n")
    put(hybrid, "memory/one/memory.max_usage_in_bytes", "8192\n")
    put(hybrid, "memory/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    put(hybrid, "memory/one/memory.stat", "cache 1\ntotal_cache 2\ntotal_swap 3\n")
    put(hybrid, "pids/one/pids.current", "5\n")
    put(hybrid, "pids/one/pids.events", "max 6\n")
    put(
        hybrid,
        "blkio/one/blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 100\n8:0 Write 50\n8:0 Total 150\n8:16 Read 1\nTotal 151\n",
    )
    put(hybrid, "blkio/one/blkio.throttle.io_serviced_recursive", "8:0 Read 3\n8:0 Write 2\n")

    stats = cgroup.stats()

    assert stats.cpu == cgroups.CpuStats(
        usage_ns=30_000,
        user_ns=20_000,
        system_ns=10_000,
        periods=4,
        throttled_periods=3,
        throttled_ns=2000,
    )
    assert stats.memory == cgroups.MemoryStats(
        usage_bytes=4096,
        peak_bytes=8192,
        limit_bytes=1 << 20,
        swap_bytes=3,
        cache_bytes=2,
        limit_hits=0,
        oom_kills=2,
    )
    assert stats.pids == cgroups.PidsStats(current=5, limit_hits=6)
    assert (stats.io.read_bytes, stats.io.write_bytes) == (101, 50)
    assert (stats.io.read_ops, stats.io.write_ops) == (3, 2)
    assert [(d.major, d.minor) for d in stats.io.devices] == [(8, 0), (8, 16)]
    assert stats.cpu_pressure == cgroups.Pressure(some_us=7, full_us=5)
    assert stats.memory_pressure is None


def test_stats_of_a_unified_host(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    put(unified, "one/cpu.stat", "usage_usec 3\nuser_usec 2\nsystem_usec 1\nthrottled_usec 9\n")
    put(unified, "one/memory.current", "4096\n")
    put(unified, "one/memory.peak", "8192\n")
    put(unified, "one/memory.max", "max\n")
    put(unified, "one/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\n")
    put(unified, "one/io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n")
    put(unified, "one/hugetlb.2MB.current", "2097152\n")

    stats = cgroup.stats()

    assert (stats.cpu.usage_ns, stats.cpu.throttled_ns) == (3000, 9000)
    assert stats.memory.limit_bytes is None
    assert (stats.memory.usage_bytes, stats.memory.peak_bytes) == (4096, 8192)
    assert (stats.memory.limit_hits, stats.memory.oom_kills) == (4, 1)
    assert (stats.io.read_bytes, stats.io.write_bytes) == (10, 20)
    assert [h.page_size for h in stats.hugetlb] == ["2MB"]
    assert stats.pids.current == 0


def test_stats_of_a_legacy_host_take_the_time_from_cpuacct_and_have_no_pressure(
    legacy: FakeKernel,
) -> None:
    cgroup = cgroups.create(legacy.detect(), "one")
    put(legacy, "cpuacct/one/cpuacct.usage", "123\n")

    stats = cgroup.stats()

    assert stats.cpu.usage_ns == 123
    assert stats.memory.limit_bytes is None
    assert stats.cpu_pressure is None


def test_what_a_host_cannot_count_is_none_and_not_zero(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids")

    stats = cgroups.create(kernel.detect(), "one").stats()

    assert stats.memory == cgroups.MemoryStats()
    assert stats.cpu == cgroups.CpuStats()
    assert stats.io == cgroups.IoStats()


def test_v1_bytes_come_from_bfq_where_the_throttle_counts_none(legacy: FakeKernel) -> None:
    cgroup = cgroups.create(legacy.detect(), "one")
    put(legacy, "blkio/one/blkio.bfq.io_service_bytes_recursive", "8:0 Read 5\nTotal 5\n")

    assert cgroup.stats().io.read_bytes == 5


def test_stats_of_groups_that_are_gone_are_none(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "one")
    cgroup.remove()

    assert cgroup.stats().pids == cgroups.PidsStats()


def test_file_that_cannot_be_read_names_its_path(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "one")
    (unified.root / "one/memory.current").unlink()
    (unified.root / "one/memory.current").mkdir()

    with pytest.raises(cgroups.FileError, match=r"cannot read /.*/one/memory\.current: is a dir"):
        cgroup.stats()


# Records, and what importing costs


def test_records_are_frozen_keyword_only_and_compare_by_value() -> None:
    limits = cgroups.PidsLimits(max=3)

    assert limits == cgroups.PidsLimits(max=3)
    assert hash(limits) == hash(cgroups.PidsLimits(max=3))
    assert repr(limits) == "PidsLimits(max=3)"
    with pytest.raises(AttributeError, match="frozen"):
        limits.max = 4
    with pytest.raises(TypeError, match="missing field 'max'"):
        cgroups.PidsLimits()
    with pytest.raises(TypeError, match="no field 'min'"):
        cgroups.PidsLimits(max=1, min=0)


def test_every_exported_name_is_there() -> None:
    assert all(getattr(cgroups, name) is not None for name in cgroups.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cgroups.nothing  # noqa: B018


def test_v1_host_loads_no_v2_and_the_import_no_heavy_module() -> None:
    code = (
        "import sys; before = set(sys.modules); import cgroups; "
        "print(*sorted(set(sys.modules) - before))"
    )

    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(done.stdout.split())
    assert not {m for m in loaded if m.startswith(("cgroups.v1", "cgroups.v2", "cgroups.stats"))}
    assert not loaded & {"re", "enum", "typing", "dataclasses", "pathlib", "ctypes", "functools"}
