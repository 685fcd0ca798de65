from pathlib import Path

import pytest
from unit.cgroups.cgroupfs import FakeKernel

import cgroups


def proc(folder: Path, mountinfo: str, groups: str) -> str:
    (folder / "self").mkdir(parents=True)
    (folder / "self/mountinfo").write_text(mountinfo)
    (folder / "self/cgroup").write_text(groups)
    return str(folder)


def test_host_with_v1_controllers_and_a_v2_tree_is_hybrid(hybrid: FakeKernel) -> None:
    layout = hybrid.detect()

    assert layout.kind == "hybrid"
    assert [h.version for h in layout.hierarchies].count(2) == 1


def test_host_with_only_v1_is_legacy(legacy: FakeKernel) -> None:
    assert legacy.detect().kind == "legacy"


def test_host_with_only_v2_is_unified_and_knows_its_controllers(unified: FakeKernel) -> None:
    layout = unified.detect()

    assert layout.kind == "unified"
    memory = layout.find("memory")
    assert memory is not None
    assert memory.mount == str(unified.root)
    assert layout.find("blkio") is None


def test_host_without_cgroups_has_kind_none(tmp_path: Path) -> None:
    layout = cgroups.detect(proc=proc(tmp_path, "22 1 0:1 / /proc rw - proc proc rw\n", ""))

    assert layout.kind == "none"
    assert layout.hierarchies == ()


def test_controllers_mounted_together_are_one_hierarchy(kernel: FakeKernel) -> None:
    kernel.mount_v1("cpu", "cpuacct", name="cpu,cpuacct", own="/user.slice")

    (hierarchy,) = kernel.detect().hierarchies

    assert hierarchy.controllers == ("cpu", "cpuacct")
    assert hierarchy.own == "/user.slice"


def test_named_hierarchy_is_seen(legacy: FakeKernel) -> None:
    assert legacy.detect().find("name=systemd") is not None


@pytest.mark.parametrize(
    ("root", "group", "own"),
    [
        ("/", "/", ""),
        ("/", "/a/b", "/a/b"),
        ("/docker/x", "/docker/x", ""),
        ("/docker/x", "/docker/x/y", "/y"),
        ("/docker/x", "/docker/xy", ""),
        ("/", "/../b", ""),
        ("/", "/a/b (deleted)", ""),
    ],
)
def test_own_group_is_counted_from_the_root_of_the_mount(
    tmp_path: Path, root: str, group: str, own: str
) -> None:
    mountinfo = f"31 1 0:30 {root} /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"

    layout = cgroups.detect(proc=proc(tmp_path, mountinfo, f"3:pids:{group}\n"))

    assert layout.hierarchies[0].own == own


def test_of_two_mounts_of_one_hierarchy_that_below_the_root_counts(tmp_path: Path) -> None:
    mountinfo = "".join(
        f"3{i} 1 0:30 / {place} rw shared:5 - cgroup cgroup rw,pids\n"
        for i, place in enumerate(("/mnt/one", "/sys/fs/cgroup/pids", "/mnt/two"))
    )

    layout = cgroups.detect(proc=proc(tmp_path, mountinfo, "3:pids:/\n"))

    assert [h.mount for h in layout.hierarchies] == ["/sys/fs/cgroup/pids"]


def test_space_in_a_mount_point_is_decoded(tmp_path: Path) -> None:
    mountinfo = "31 1 0:30 / /mnt/a\\040b\\134 rw - cgroup cgroup rw,pids\n"

    layout = cgroups.detect(proc=proc(tmp_path, mountinfo, "3:pids:/\n"))

    assert layout.hierarchies[0].mount == "/mnt/a b\\"


def test_mount_of_cgroup2_with_unreadable_controllers_has_none(tmp_path: Path) -> None:
    mountinfo = f"31 1 0:30 / {tmp_path}/absent rw - cgroup2 cgroup2 rw\n"

    layout = cgroups.detect(proc=proc(tmp_path, mountinfo, "0::/\n"))

    assert layout.hierarchies[0].controllers == ()
