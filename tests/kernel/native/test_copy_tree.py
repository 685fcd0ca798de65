"""A tree is copied by handle, whatever is in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires
from kit import trees

from sandbox import native

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = requires.root


def on_folders(act: Callable[[int, int], None], source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY
    from_fd, to_fd = os.open(source, flags), os.open(target, flags)
    try:
        act(from_fd, to_fd)
    finally:
        os.close(from_fd)
        os.close(to_fd)


def copy(source: Path, target: Path) -> None:
    on_folders(lambda a, b: native.copy_tree(a, b, durable=False), source, target)


def test_a_copy_has_owners_modes_times_links_and_attributes(tmp_path: Path) -> None:
    source = tmp_path / "from"
    (source / "sub/deep").mkdir(parents=True)
    (source / "sub/file").write_bytes(b"x" * 3_000_000)
    os.link(source / "sub/file", source / "again")
    os.symlink("/etc", source / "sub/out")
    os.mkfifo(source / "pipe")
    os.chown(source / "sub", 5, 6)
    os.chmod(source / "sub", 0o1777)
    os.chown(source / "sub/out", 7, 8, follow_symlinks=False)
    os.chown(source / "sub/file", 9, 9)
    os.chmod(source / "sub/file", 0o4750)
    os.setxattr(source / "sub/file", "user.note", b"kept")
    for path in ("sub/out", "sub/file", "sub", "."):
        os.utime(source / path, ns=(10**9, 2 * 10**9), follow_symlinks=False)

    copy(source, tmp_path / "to")

    assert trees.differences(trees.picture(str(source)), trees.picture(str(tmp_path / "to"))) == []
    assert (tmp_path / "to/again").stat().st_nlink == 2
    for path in ("sub/out", "sub/file", "sub", "."):
        assert (tmp_path / "to" / path).lstat().st_mtime_ns == 2 * 10**9


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "from"
    source.mkdir()
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(b"in the middle")

    copy(source, tmp_path / "to")

    made = (tmp_path / "to/huge").stat()
    assert made.st_size == 1 << 40
    assert made.st_blocks * 512 < 1 << 20
    with (tmp_path / "to/huge").open("rb") as file:
        file.seek(1 << 30)
        assert file.read(13) == b"in the middle"


def test_devices_and_sockets_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "from"
    source.mkdir()
    os.mknod(source / "mem", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    os.mknod(source / "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    os.mknod(source / "socket", stat.S_IFSOCK | 0o666)
    (source / "file").touch()

    copy(source, tmp_path / "to")

    assert os.listdir(tmp_path / "to") == ["file"]


def test_a_tree_too_deep_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "from"
    (source / "/".join(["d"] * 250)).mkdir(parents=True)

    with pytest.raises(OSError, match=r"[Tt]oo many levels"):
        copy(source, tmp_path / "to")


def test_a_move_keeps_what_is_there_and_can_be_repeated(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    for number in range(3000):
        (source / f"file-{number}").touch()
    (source / "same").write_text("new")
    (target / "same").write_text("old")
    os.chmod(source, 0o711)

    for _time in range(2):
        on_folders(native.move_tree, source, target)

    assert os.listdir(source) == ["same"]
    assert len(os.listdir(target)) == 3001
    assert (target / "same").read_text() == "old"
    assert stat.S_IMODE(target.stat().st_mode) == 0o711


@requires.overlay
@pytest.mark.parametrize("count", [2, 60, 200])
def test_layers_are_seen_merged_and_nobody_else_sees_them(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / f"of-{number}").touch()
        (tmp_path / f"{number}" / "all").write_text(str(number))
    os.mknod(tmp_path / "0" / "of-1", stat.S_IFCHR, 0)
    mounts = Path("/proc/self/mountinfo").read_text()

    point = tmp_path / "point"
    point.mkdir()
    view = native.open_view(
        [str(tmp_path / f"{number}") for number in range(count)],
        mount_point=str(point),
        is_readonly=True,
    )
    try:
        top = os.open(".", os.O_RDONLY, dir_fd=view)
        names = os.listdir(top)
        os.close(top)
        fd = native.open_in_root(view, "/../all", os.O_RDONLY)
        assert os.read(fd, 9) == b"0"
        os.close(fd)
        assert Path("/proc/self/mountinfo").read_text() == mounts
        with pytest.raises(OSError, match=r"[Rr]ead-only"):
            os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=view)
    finally:
        os.close(view)

    assert sorted(names) == sorted(["all", *(f"of-{n}" for n in range(count) if n != 1)])
