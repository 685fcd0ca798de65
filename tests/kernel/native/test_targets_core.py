"""Paths in a hostile image: links and files where folders are expected."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import launch
from kit.launch import Box, step

from sandbox.native import plan
from sandbox.native.plan import op


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that an image may want to reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret\n")
    before = sorted(os.listdir(folder))
    yield folder
    assert sorted(os.listdir(folder)) == before
    assert (folder / "secret").read_text() == "secret\n"


def _replace_by_link(path: Path, target: str) -> None:
    if path.is_dir():
        path.rmdir()
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_link_in_the_place_of_a_system_folder_is_refused(any_box: Box, name: str) -> None:
    _replace_by_link(any_box.image / name, "/tmp")
    mounts = (*launch.MOUNTS, op("mount", "sysfs", "sysfs", "/sys", launch.SAFE, (), 0))

    outcome = any_box.run("true", mounts=mounts)

    assert outcome.failure is not None
    assert outcome.failure.step == step("mount")
    assert outcome.failure.path == f"/{name}"


def test_file_in_the_place_of_proc_is_refused(any_box: Box) -> None:
    (any_box.image / "proc").write_text("")

    outcome = any_box.run("true")

    assert outcome.failure is not None
    assert (outcome.failure.path, outcome.failure.errno) == ("/proc", errno.ENOTDIR)


def test_nothing_is_made_in_dev_without_a_dev_of_our_own(box: Box) -> None:
    (box.image / "dev").mkdir()
    for each in (
        launch.NULL,
        op("symlink", "/proc/self/fd", "/dev/fd"),
        op("mkdir", "/dev/net", 0o755, 0, 0),
    ):
        outcome = box.run("true", mounts=(launch.PROC, each))
        assert outcome.failure is not None
        assert outcome.failure.errno == errno.EPERM


def test_bind_target_through_an_absolute_link_stays_in_the_root(
    any_box: Box, outside: Path
) -> None:
    (any_box.image / "etc/hosts").symlink_to(outside / "secret")
    source = any_box.folder / "hosts"
    source.write_text("ours\n")

    outcome = any_box.shell(
        f"cat /etc/hosts {outside}/secret", before=(op("bind", str(source), "/etc/hosts", 0, 0, 0),)
    )

    assert outcome.out == "ours\nours\n"


@pytest.mark.parametrize("climb", ["../../../../../../../..", "/../../.."])
def test_bind_target_through_a_climbing_link_stays_in_the_root(
    any_box: Box, outside: Path, climb: str
) -> None:
    (any_box.image / "climb").symlink_to(f"{climb}{outside}")

    outcome = any_box.shell(
        f"cat {outside}/new", before=(op("bind", "/etc/hostname", "/climb/new", 0, 0, 0),)
    )

    assert outcome.out == Path("/etc/hostname").read_text()


def test_dangling_link_as_target_is_made_where_it_points(any_box: Box) -> None:
    (any_box.image / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub.conf")

    outcome = any_box.shell(
        "cat /run/systemd/resolve/stub.conf",
        before=(op("bind", "/etc/hostname", "/etc/resolv.conf", 0, 0, 0),),
    )

    assert outcome.out == Path("/etc/hostname").read_text()


def test_missing_parents_of_a_target_are_made(any_box: Box) -> None:
    outcome = any_box.shell(
        "stat -c '%a %F' /a /a/b /a/b/c",
        before=(op("bind", "/etc", "/a/./b/../b//c", 0, 0, 0),),
    )

    assert outcome.out.splitlines()[:2] == ["755 directory", "755 directory"]
    assert outcome.status == 0


def test_loop_of_links_as_target_is_refused(any_box: Box) -> None:
    (any_box.image / "one").symlink_to("two")
    (any_box.image / "two").symlink_to("one")

    outcome = any_box.run("true", before=(op("bind", "/etc", "/one/x", 0, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ELOOP


def test_file_on_the_way_to_a_target_is_refused(any_box: Box) -> None:
    (any_box.image / "file").write_text("")

    outcome = any_box.run("true", before=(op("bind", "/etc", "/file/x", 0, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOTDIR


def test_target_that_must_exist_is_not_made(any_box: Box) -> None:
    flags = plan.MOUNT_NO_CREATE

    outcome = any_box.run("true", before=(op("bind", "/etc", "/absent", 0, 0, flags),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOENT
    assert not (any_box.upper / "absent").exists()


@pytest.mark.parametrize(
    "target", ["/proc/self/attr", "/proc/1/environ", "/proc/sys", "/link/attr", "/proc/self/root/x"]
)
def test_bind_over_the_files_of_processes_is_refused(any_box: Box, target: str) -> None:
    (any_box.image / "link").symlink_to("/proc/self")

    outcome = any_box.run("true", before=(op("bind", "/etc", target, 0, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("bind")


def test_bind_over_a_plain_file_of_proc_works(any_box: Box) -> None:
    outcome = any_box.shell(
        "cat /proc/uptime", before=(op("bind", "/etc/hostname", "/proc/uptime", 0, 0, 0),)
    )

    assert outcome.out == Path("/etc/hostname").read_text()


def test_mask_through_a_link_stays_in_the_root(any_box: Box, outside: Path) -> None:
    (any_box.image / "masked").symlink_to(outside / "secret")

    outcome = any_box.run("true", before=(op("mask", "/masked"),))

    assert outcome.status == 0


def test_working_directory_through_a_link_stays_in_the_root(box: Box, outside: Path) -> None:
    (box.image / "work").symlink_to(outside)

    outcome = box.run("pwd", after=(op("workdir", "/work/new", 1),))

    assert outcome.out == f"{outside}/new\n"
    assert (box.upper / str(outside).lstrip("/") / "new").is_dir()


def test_missing_working_directory_is_made_by_root_before_the_ids(box: Box) -> None:
    after = (op("workdir", "/srv/app", 1), op("ids", 1000, 1000, (1000,)))

    outcome = box.shell("pwd; stat -c '%a %u' .; id -u", after=after)

    assert outcome.out == "/srv/app\n755 0\n1000\n"


def test_missing_working_directory_is_an_error_unless_it_may_be_made(box: Box) -> None:
    outcome = box.run("true", after=(op("workdir", "/absent", 0),))

    assert outcome.failure is not None
    assert (outcome.failure.errno, outcome.failure.path) == (errno.ENOENT, "/absent")


@pytest.mark.parametrize("path", ["/file", "/file/below"])
def test_working_directory_that_is_a_file_says_mkdir(box: Box, path: str) -> None:
    (box.image / "file").write_text("")

    outcome = box.run("true", after=(op("workdir", path, 1),))

    assert outcome.failure is not None
    assert outcome.failure.syscall == "mkdir"
    assert (outcome.failure.errno, outcome.failure.path) == (errno.ENOTDIR, path)


@pytest.mark.parametrize("number", range(3, 12))
def test_working_directory_through_a_descriptor_is_refused(box: Box, number: int) -> None:
    for path in (f"/proc/self/fd/{number}", f"/proc/thread-self/fd/{number}/../../.."):
        outcome = box.run("pwd", after=(op("workdir", path, 1),))
        assert outcome.failure is not None, path
        assert outcome.failure.step == step("workdir")


def test_image_link_to_a_descriptor_is_no_working_directory(box: Box) -> None:
    for number in range(3, 9):
        (box.image / f"fd{number}").symlink_to(f"/proc/self/fd/{number}")
        outcome = box.run("pwd", after=(op("workdir", f"/fd{number}", 1),))
        assert outcome.failure is not None
        assert outcome.failure.step == step("workdir")


def test_device_node_outside_dev_is_made_in_the_root(box: Box, outside: Path) -> None:
    (box.image / "nodes").symlink_to(outside)
    node = op("mknod", "/nodes/zero", 0o20644, 1, 5, 7, 8)

    outcome = box.shell(f"stat -c '%F %a %u %g' {outside}/zero", before=(node,))

    assert outcome.out == "character special file 644 7 8\n"


def test_very_long_paths_are_refused(any_box: Box) -> None:
    for path in ("/" + "x" * 300, "/x" * 3000):
        outcome = any_box.run("true", before=(op("bind", "/etc", path, 0, 0, 0),))
        assert outcome.failure is not None
        assert outcome.failure.errno == errno.ENAMETOOLONG
