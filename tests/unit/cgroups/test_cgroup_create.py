import errno

import pytest
from unit.cgroups.cgroupfs import FakeKernel

import cgroups
from cgroups import Limits, MemoryLimits, PidsLimits

V1 = {
    *("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"),
    "systemd",
}


def test_group_is_made_in_every_hierarchy_of_a_hybrid_host(hybrid: FakeKernel) -> None:
    cgroup = cgroups.create(hybrid.detect(), "engine/one")

    assert {g.path for g in cgroup.groups} == {
        f"{hybrid.root}/{mount}/engine/one" for mount in V1 | {"unified"}
    }
    assert [g.version for g in cgroup.groups].count(2) == 1


def test_group_without_limits_writes_nothing_in_the_steady_state(hybrid: FakeKernel) -> None:
    cgroups.create(hybrid.detect(), "engine/one")
    hybrid.writes.clear()

    cgroups.create(hybrid.detect(), "engine/two")

    assert hybrid.writes == []
    assert hybrid.read("cpuset/engine/two/cpuset.cpus") == "0-3"
    assert hybrid.read("cpuset/engine/two/cpuset.mems") == "0"


def test_first_parent_is_filled_and_told_to_clone(legacy: FakeKernel) -> None:
    cgroups.create(legacy.detect(), "engine/one")

    assert legacy.writes == [
        ("cpuset/engine/cpuset.cpus", "0-3"),
        ("cpuset/engine/cpuset.mems", "0"),
        ("cpuset/engine/cgroup.clone_children", "1"),
        ("cpuset/engine/one/cpuset.cpus", "0-3"),
        ("cpuset/engine/one/cpuset.mems", "0"),
    ]


def test_cpuset_of_a_parent_that_somebody_left_empty_is_filled(legacy: FakeKernel) -> None:
    layout = legacy.detect()
    legacy.make_directory(f"{legacy.root}/cpuset/engine")

    cgroups.create(layout, "engine/one")

    assert legacy.read("cpuset/engine/cpuset.cpus") == "0-3"
    assert legacy.read("cpuset/engine/one/cpuset.mems") == "0"


def test_parent_comes_before_the_name(legacy: FakeKernel) -> None:
    cgroup = cgroups.create(legacy.detect(), "one", parent="/batch/jobs/")

    assert cgroup.groups[0].path == f"{legacy.root}/cpu/batch/jobs/one"


@pytest.mark.parametrize("name", ["", "/", "a//b", "..", "a/../b", "./a", "a\0b", "a\nb"])
def test_name_that_could_leave_the_tree_is_refused(legacy: FakeKernel, name: str) -> None:
    with pytest.raises(cgroups.InvalidLimit, match="not a path of a group"):
        cgroups.create(legacy.detect(), name)


def test_parent_with_dots_is_refused(legacy: FakeKernel) -> None:
    with pytest.raises(cgroups.InvalidLimit):
        cgroups.create(legacy.detect(), "one", parent="../..")


def test_forbidden_top_leads_below_the_own_group(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids", own="/user/me")
    kernel.make_directory(f"{kernel.root}/pids/user")
    kernel.make_directory(f"{kernel.root}/pids/user/me")
    kernel.refuse["pids/engine"] = errno.EACCES

    cgroup = cgroups.create(kernel.detect(), "engine/one")

    assert [g.path for g in cgroup.groups] == [f"{kernel.root}/pids/user/me/engine/one"]


def test_hierarchy_in_which_nothing_may_be_made_is_left_out(legacy: FakeKernel) -> None:
    legacy.refuse["pids/one"] = errno.EROFS

    cgroup = cgroups.create(legacy.detect(), "one")

    assert {g.path.split("/")[-2] for g in cgroup.groups} == V1 - {"pids"}


def test_limit_of_a_hierarchy_left_out_is_an_error_and_leaves_nothing(legacy: FakeKernel) -> None:
    legacy.refuse["pids/one"] = errno.EROFS

    with pytest.raises(cgroups.LimitUnavailable) as caught:
        cgroups.create(legacy.detect(), "one", Limits(pids=PidsLimits(max=5)))

    assert caught.value.limit == "pids"
    assert legacy.groups() == []


def test_limit_allowed_to_miss_is_reported_as_enforced_by_none(legacy: FakeKernel) -> None:
    legacy.refuse["pids/one"] = errno.EROFS
    limits = Limits(pids=PidsLimits(max=5), memory=MemoryLimits(max_bytes=4096))

    cgroup = cgroups.create(legacy.detect(), "one", limits, allow_missing=("pids",))

    assert {e.limit: e.by for e in cgroup.enforcement} == {"memory": "cgroup1", "pids": "none"}
    assert all(e.reason for e in cgroup.enforcement if e.by == "none")


def test_name_before_the_dot_allows_the_parts_to_miss(legacy: FakeKernel) -> None:
    legacy.refuse["memory.memsw.limit_in_bytes"] = errno.ENOENT
    limits = Limits(memory=MemoryLimits(max_bytes=4096, swap_bytes=0))

    with pytest.raises(cgroups.LimitUnavailable, match=r"memory.swap"):
        cgroups.create(legacy.detect(), "one", limits)
    cgroup = cgroups.create(legacy.detect(), "one", limits, allow_missing=("memory.swap",))

    assert [(e.limit, e.by) for e in cgroup.enforcement] == [
        ("memory", "cgroup1"),
        ("memory.swap", "none"),
    ]


def test_existing_group_is_an_error_and_stays(legacy: FakeKernel) -> None:
    layout = legacy.detect()
    cgroups.create(layout, "engine/one")
    before = legacy.groups()

    with pytest.raises(cgroups.GroupExists, match="/engine/one"):
        cgroups.create(layout, "engine/one")

    assert legacy.groups() == before


def test_failure_in_a_late_hierarchy_takes_back_the_earlier_ones(hybrid: FakeKernel) -> None:
    hybrid.refuse["unified/engine/one"] = errno.EAGAIN

    with pytest.raises(cgroups.GroupRefused) as caught:
        cgroups.create(hybrid.detect(), "engine/one")

    assert caught.value.path == f"{hybrid.root}/unified/engine/one"
    assert hybrid.groups() == []


def test_refused_value_names_the_file_and_the_value_and_leaves_nothing(hybrid: FakeKernel) -> None:
    hybrid.refuse["pids.max"] = errno.EINVAL

    with pytest.raises(cgroups.LimitRefused) as caught:
        cgroups.create(hybrid.detect(), "engine/one", Limits(pids=PidsLimits(max=7)))

    assert str(caught.value) == (
        f"cannot write '7' to {hybrid.root}/pids/engine/one/pids.max: invalid argument"
    )
    assert hybrid.groups() == []


def test_parent_in_which_nothing_may_be_made_is_an_error(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids")
    kernel.refuse["batch"] = errno.EACCES

    with pytest.raises(cgroups.GroupRefused, match="batch/one"):
        cgroups.create(kernel.detect(), "one", parent="batch")


def test_host_without_cgroups_gives_a_cgroup_without_groups(kernel: FakeKernel) -> None:
    (kernel.proc / "self/mountinfo").write_text("")
    (kernel.proc / "self/cgroup").write_text("")
    layout = kernel.detect()

    cgroup = cgroups.create(layout, "one")

    assert cgroup.groups == ()
    assert cgroup.pids() == ()
    cgroup.kill()
    cgroup.remove()
    with pytest.raises(cgroups.LimitUnavailable):
        cgroups.create(layout, "one", Limits(pids=PidsLimits(max=1)))


def test_controllers_are_enabled_on_the_way_down(unified: FakeKernel) -> None:
    cgroup = cgroups.create(unified.detect(), "engine/one")

    wanted = {"+cpuset", "+cpu", "+io", "+memory", "+hugetlb", "+pids"}
    assert [(path, set(value.split())) for path, value in unified.writes] == [
        ("cgroup.subtree_control", wanted),
        ("engine/cgroup.subtree_control", wanted),
    ]
    assert {"+" + name for name in cgroup.groups[0].controllers} == wanted


def test_second_group_enables_nothing(unified: FakeKernel) -> None:
    cgroups.create(unified.detect(), "engine/one")
    unified.writes.clear()

    cgroups.create(unified.detect(), "engine/two")

    assert unified.writes == []


def test_controllers_that_cannot_be_enabled_make_only_their_limits_errors(
    unified: FakeKernel,
) -> None:
    unified.refuse["cgroup.subtree_control"] = errno.EBUSY

    cgroup = cgroups.create(unified.detect(), "engine/one")

    assert cgroup.groups[0].controllers == ()
    with pytest.raises(cgroups.LimitUnavailable, match="may not hand down the pids controller"):
        cgroup.apply(Limits(pids=PidsLimits(max=1)))


def test_controllers_are_tried_one_by_one_when_all_together_fail(unified: FakeKernel) -> None:
    real = unified.write

    def write(path: str, *values: str) -> None:
        if path.endswith("subtree_control") and "+cpu " in values[0] + " ":
            raise cgroups.FileError(path, values[0], errno.EINVAL)
        real(path, *values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cgroups.files.write", write)
        cgroup = cgroups.create(unified.detect(), "one")

    assert set(cgroup.groups[0].controllers) == {"cpuset", "io", "memory", "hugetlb", "pids"}


def test_hybrid_tree_gives_the_controllers_that_v1_does_not_hold(kernel: FakeKernel) -> None:
    kernel.mount_v1("memory")
    kernel.mount_v2("hugetlb")
    limits = Limits(
        memory=MemoryLimits(max_bytes=4096),
        hugetlb=(cgroups.HugetlbLimit(page_size="2MB", max_bytes=0),),
    )

    cgroup = cgroups.create(kernel.detect(), "one", limits)

    assert [(e.limit, e.by) for e in cgroup.enforcement] == [
        ("memory", "cgroup1"),
        ("hugetlb", "cgroup2"),
    ]
    assert kernel.read("unified/one/hugetlb.2MB.max") == "0"


def test_delegated_subtree_is_entered_at_its_highest_group(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.mount_v2("memory", own="/user.slice/user@7/app/shell", name="")
    for path in ("user.slice", "user.slice/user@7", "user.slice/user@7/app"):
        kernel.make_directory(f"{kernel.root}/{path}")
    kernel.make_directory(f"{kernel.root}/user.slice/user@7/app/shell")
    ours = f"{kernel.root}/user.slice/user@7"
    monkeypatch.setattr("cgroups.delegation.os.access", lambda path, _: path.startswith(ours))
    refuse_top(kernel, monkeypatch)

    cgroup = cgroups.create(kernel.detect(), "engine/one")

    assert cgroup.groups[0].path == f"{ours}/engine/one"


def test_places_are_those_where_create_may_make_the_group(kernel: FakeKernel) -> None:
    kernel.mount_v1("pids", own="/user/me")
    kernel.mount_v1("cpu")
    layout = kernel.detect()

    paths = [group.path for group in cgroups.places(layout, "engine/one")]

    assert paths == [
        f"{kernel.root}/pids/engine/one",
        f"{kernel.root}/pids/user/me/engine/one",
        f"{kernel.root}/cpu/engine/one",
    ]
    assert [g.path for g in cgroups.places(layout, "one", parent="/batch")] == [
        f"{kernel.root}/pids/batch/one",
        f"{kernel.root}/cpu/batch/one",
    ]
    assert kernel.groups() == []


def refuse_top(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernel.make_directory

    def make(path: str) -> None:
        if path == f"{kernel.root}/engine":
            raise PermissionError(errno.EACCES, "permission denied", path)
        real(path)

    monkeypatch.setattr("cgroups.files.make_directory", make)
