import errno
from pathlib import Path

import pytest
from unit.cgroups.cgroupfs import FakeKernel

import cgroups
from cgroups.delegation import make_room


def test_room_is_made_by_moving_the_processes_into_a_leaf(
    unified: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unified.root / "cgroup.procs").write_text("10\n11\n12\n")
    gone = unified.write

    def move(path: str, *values: str) -> None:
        group = Path(path).parent.parent / "cgroup.procs"
        group.write_text(group.read_text().replace(values[0] + "\n", ""))
        if values == ("11",):
            raise cgroups.FileError(path, values[0], errno.ESRCH)
        gone(path, *values)

    monkeypatch.setattr("cgroups.files.write", move)

    leaf = make_room(unified.detect())

    assert leaf == f"{unified.root}/init"
    assert unified.read("init/cgroup.procs").split() == ["10", "12"]


def test_room_that_fills_up_again_is_an_error(unified: FakeKernel) -> None:
    (unified.root / "cgroup.procs").write_text("10\n")

    with pytest.raises(cgroups.GroupRefused, match="faster than they can be moved"):
        make_room(unified.detect())


def test_room_needs_a_v2_tree(legacy: FakeKernel) -> None:
    with pytest.raises(cgroups.LimitUnavailable):
        make_room(legacy.detect())


def test_processes_that_keep_controllers_from_a_group_are_named_as_the_reason(
    unified: FakeKernel,
) -> None:
    layout = unified.detect()
    limits = cgroups.Limits(pids=cgroups.PidsLimits(max=1))
    cgroups.create(layout, "own/leaf")
    (unified.root / "own/cgroup.subtree_control").write_text("")
    (unified.root / "own/cgroup.procs").write_text("10\n")

    with pytest.raises(cgroups.LimitUnavailable, match=r"processes in .*/own keep it") as caught:
        cgroups.create(layout, "one", limits, parent="own")

    assert "make_room" in caught.value.hint


def test_group_with_processes_is_not_made_threaded(unified: FakeKernel) -> None:
    """It would take cpu, cpuset and pids, and no group below it could be joined."""
    layout = unified.detect()
    cgroups.create(layout, "own/leaf")
    (unified.root / "own/cgroup.subtree_control").write_text("")
    (unified.root / "own/cgroup.procs").write_text("10\n")
    unified.writes.clear()

    cgroups.create(layout, "one", parent="own")

    assert unified.writes == []
