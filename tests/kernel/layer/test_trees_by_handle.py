"""Deleting, measuring and opening below a folder, by handle."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires

from sandbox.native import open_in_root, remove_tree, tree_size


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def build(path: Path, depth: int, name: str = "d") -> None:
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for level in range(depth):
        os.mkdir(name, dir_fd=here)
        os.close(os.open(f"f{level}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


def test_tree_is_deleted_with_all_kinds_of_entries(folder: int, tmp_path: Path) -> None:
    root = tmp_path / "t"
    for name in ("a/b/c", "a/d", "e"):
        (root / name).mkdir(parents=True)
        (root / name / "f").write_text("x")
    (root / "l").symlink_to("/etc")
    os.mkfifo(root / "a/fifo")
    (root / "a/b").chmod(0o000)

    remove_tree(folder, "t")

    assert os.listdir(tmp_path) == []


def test_link_is_deleted_and_not_followed(folder: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_text("x")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/in").symlink_to("../outside")
    (tmp_path / "l").symlink_to("outside")

    remove_tree(folder, "t")
    remove_tree(folder, "l")

    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (tmp_path / "outside/f").exists()


def test_file_is_deleted_and_what_is_gone_is_no_error(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")

    remove_tree(folder, "f")
    remove_tree(folder, "f")

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc"])
def test_only_one_name_can_be_deleted(folder: int, name: str) -> None:
    with pytest.raises(OSError) as raised:
        remove_tree(folder, name)

    assert raised.value.errno == errno.EINVAL


def test_tree_of_3000_levels_is_measured_and_deleted(folder: int, tmp_path: Path) -> None:
    build(tmp_path / "t", 3000)
    root = os.open(tmp_path / "t", os.O_RDONLY)

    assert tree_size(root) == (0, 6001)
    os.close(root)

    remove_tree(folder, "t")

    assert os.listdir(tmp_path) == []


def test_wide_tree_is_deleted(folder: int, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for number in range(3000):
        (tmp_path / "t" / f"folder-{number:06}").mkdir()
        (tmp_path / "t" / f"folder-{number:06}" / "f").touch()

    remove_tree(folder, "t")

    assert os.listdir(tmp_path) == []


def test_no_descriptor_is_left_open(folder: int, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    build(tmp_path / "t", 200)
    root = os.open(tmp_path / "t", os.O_RDONLY)
    tree_size(root)
    os.close(root)

    remove_tree(folder, "t")

    assert len(os.listdir("/proc/self/fd")) == before


@requires.root
def test_other_mount_is_never_entered(tmp_path: Path) -> None:
    script = """
import os, sys
from sandbox.native import remove_tree
os.chdir(sys.argv[1])
os.makedirs("t/m"); os.makedirs("other/kept")
os.system("mount --make-rprivate / && mount --bind other t/m")
try:
    remove_tree(os.open(".", os.O_RDONLY), "t")
except OSError as error:
    print(error.errno)
print(os.path.isdir("other/kept"))
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [str(errno.EXDEV), "True"]


@requires.root
def test_owner_without_permission_can_be_helped(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = """
import os, sys
from sandbox.native import remove_tree
os.setgid(12345); os.setuid(12345)
os.chdir(sys.argv[1])
os.makedirs("t/a/b"); open("t/a/f", "w").close()
os.chmod("t/a/b", 0); os.chmod("t/a", 0); os.chmod("t", 0o500)
try:
    remove_tree(os.open(".", os.O_RDONLY), "t")
except OSError as error:
    print(error)
print(os.listdir("."))
"""
    (tmp_path / "his").mkdir()
    os.chown(tmp_path / "his", 12345, 12345)
    source = Path(__file__).parents[3]
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "his")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr or "Permission" in done.stderr:
        pytest.skip(f"another user cannot read the checkout: {done.stderr[-80:]}")

    assert done.stdout.strip() == "[]"


def test_size_counts_each_inode_once_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a/one", tmp_path / "two")
    (tmp_path / "three").write_bytes(b"x" * 24)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 20)
    (tmp_path / "link").symlink_to("12345")
    root = os.open(tmp_path, os.O_RDONLY)

    found = tree_size(root)

    os.close(root)
    assert found == (1000 + 24 + (1 << 20) + 5, 6)


# ---- open_in_root ----


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("host")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("jail")
    (root / "abs").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../../../etc")
    (root / "out").symlink_to("../secret")
    (root / "loop").symlink_to("loop")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(root: int, path: str) -> str:
    with os.fdopen(open_in_root(root, path, os.O_RDONLY)) as file:
        return file.read()


@pytest.mark.parametrize(
    "path", ["etc/passwd", "/etc/passwd", "abs", "up/passwd", "../../etc/passwd", "etc/../abs"]
)
def test_every_way_ends_below_the_root(jail: int, path: str) -> None:
    assert content(jail, path) == "jail"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("out", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("etc/passwd/x", errno.ENOTDIR),
        ("", errno.ENOENT),
        ("x" * 5000, errno.ENAMETOOLONG),
    ],
)
def test_what_is_not_there_is_said_with_its_errno_and_path(
    jail: int, path: str, error: int
) -> None:
    with pytest.raises(OSError) as raised:
        open_in_root(jail, path, os.O_RDONLY)

    assert (raised.value.errno, raised.value.filename) == (error, path)


def test_path_with_a_nul_is_refused(jail: int) -> None:
    with pytest.raises(ValueError, match="null byte"):
        open_in_root(jail, "etc\0/passwd", os.O_RDONLY)


def test_descriptor_is_close_on_exec_and_file_can_be_made(jail: int, tmp_path: Path) -> None:
    fd = open_in_root(jail, "up/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)

    inheritable = os.get_inheritable(fd)
    os.close(fd)
    assert not inheritable
    assert (tmp_path / "root/etc/new").exists()


def test_magic_links_are_refused() -> None:
    proc = os.open("/proc", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as raised:
            open_in_root(proc, "self/root/etc/passwd", os.O_RDONLY)
    finally:
        os.close(proc)

    assert raised.value.errno in (errno.ELOOP, errno.EXDEV)
