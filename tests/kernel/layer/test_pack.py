"""A tree becomes a tar stream, and the stream the same tree."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requires
from kit import trees
from kit.unpacker import Unpacker

from sandbox import native

pytestmark = [requires.root, requires.device_nodes]

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
CHECKOUT = Path(__file__).parents[3]
TRUSTED = b"trusted.overlay."


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tree"
    folder.mkdir()
    yield folder
    # Some are deeper than pytest can delete.
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    native.remove_tree(fd, "tree")
    os.close(fd)


def pack(folder: Path, out: Path | None = None, **options: Any) -> bytes:
    target = out or folder.parent / "out.tar"
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with target.open("wb") as file:
            done = native.pack(fd, file.fileno(), **options)
    finally:
        os.close(fd)
    content = target.read_bytes()
    assert done.bytes == len(content)
    return content


def names(archive: bytes, folder: Path) -> list[str]:
    path = folder / "names.tar"
    path.write_bytes(archive)
    with tarfile.open(path) as tar:
        return [member.name for member in tar]


def jail(folder: Path) -> Path:
    (folder / "there").mkdir()
    return folder / "there"


def fill(folder: Path) -> None:
    """One of each kind that a layer can hold."""
    (folder / "plain").write_text("plain\n")
    (folder / "empty").touch()
    (folder / "big").write_bytes(os.urandom(1 << 20) + b"odd")
    os.chmod(folder / "plain", 0o4751)
    os.chown(folder / "plain", 1000, 3_000_000)
    os.chmod(folder / "plain", 0o4751)
    os.link(folder / "plain", folder / "zz-other-name")
    (folder / "sub" / "deep").mkdir(parents=True)
    os.link(folder / "big", folder / "sub" / "big")
    os.chmod(folder / "sub", 0o1777)
    os.chown(folder / "sub" / "deep", 65534, 65534)
    os.symlink("/etc/passwd", folder / "link")
    os.symlink("x" * 200, folder / "long-link")
    os.symlink("gone", folder / "sub" / "dangling")
    os.mkfifo(folder / "fifo", 0o640)
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(folder / "disk", 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
    (folder / "with\nnewline and \xe4").touch()
    (folder / os.fsdecode(b"no utf-8 \xff")).write_bytes(b"x")
    (folder / ("n" * 255)).write_text("long")
    long = folder
    for number in range(12):
        long = long / (f"{number}" * 120)
    long.mkdir(parents=True)
    (long / "file").write_text("far")
    os.setxattr(folder / "plain", "user.note", b"with\0nul\nand newline")
    os.setxattr(folder / "plain", "trusted.note", b"")
    os.setxattr(folder / "sub", "user.note", b"directory")
    os.setxattr(folder / "big", "security.capability", CAPABILITY)
    for path, when in (
        ("plain", 1_600_000_000_123_456_789),
        ("empty", -1_500_000_000),
        ("big", -86400 * 10**9),
        ("fifo", (1 << 33) * 10**9 + 5),
        ("link", 7 * 10**9),
        ("sub", 1_600_000_001_000_000_001),
    ):
        os.utime(folder / path, ns=(when, when), follow_symlinks=False)


def test_what_is_unpacked_is_the_tree_that_was_packed(tree: Path, tmp_path: Path) -> None:
    fill(tree)
    unpacker = Unpacker(jail(tmp_path))

    unpacker(pack(tree, name=b"."))

    assert trees.differences(trees.picture(tree), unpacker.picture()) == []
    unpacker.assert_nothing_outside_changed()


def test_gnu_tar_extracts_the_same_tree(tree: Path, tmp_path: Path) -> None:
    fill(tree)
    archive = tmp_path / "gnu.tar"
    pack(tree, archive, name=b".")
    there = tmp_path / "there"
    there.mkdir()

    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", str(archive)]
    # It has something to say on times before 1970 and after now.
    subprocess.run([*command, "-C", str(there)], stderr=subprocess.DEVNULL, check=True)

    assert trees.differences(trees.picture(tree), trees.picture(there)) == []


def test_the_same_tree_gives_the_same_bytes_wherever_it_lies(tree: Path, tmp_path: Path) -> None:
    fill(tree)
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", str(tree), str(other)], check=True)
    # Another order of the names in the directory.
    for name in sorted(os.listdir(other), reverse=True):
        os.rename(other / name, other / f"{name[:200]}.moved")
        os.rename(other / f"{name[:200]}.moved", other / name)
    shutil.copystat(tree, other)

    assert pack(tree) == pack(other)


def test_names_come_in_the_order_of_their_bytes(tree: Path, tmp_path: Path) -> None:
    for name in ("b", "B", "a-b", "ab", "a"):
        (tree / name).mkdir()
    (tree / "a" / "below").touch()

    assert names(pack(tree), tmp_path) == ["B", "a", "a/below", "a-b", "ab", "b"]


def test_a_name_stands_in_front_of_all(tree: Path, tmp_path: Path) -> None:
    (tree / "sub").mkdir()
    (tree / "sub" / "file").touch()

    assert names(pack(tree, name=b"given"), tmp_path) == ["given", "given/sub", "given/sub/file"]
    assert names(pack(tree, entry=b"sub", name=b"x/y"), tmp_path) == ["x/y", "x/y/file"]
    assert names(pack(tree, entry=b"sub"), tmp_path) == ["file"]


def test_one_file_or_link_is_an_archive_of_its_own(tree: Path, tmp_path: Path) -> None:
    (tree / "file").write_text("content")
    os.symlink("/etc/shadow", tree / "link")

    for entry, kind in ((b"file", tarfile.REGTYPE), (b"link", tarfile.SYMTYPE)):
        (tmp_path / "one.tar").write_bytes(pack(tree, entry=entry, name=b"new"))
        with tarfile.open(tmp_path / "one.tar") as tar:
            (member,) = tar
            assert (member.name, member.type) == ("new", kind)


def test_what_is_not_there_is_said(tree: Path) -> None:
    with pytest.raises(native.Fault) as failure:
        pack(tree, entry=b"nothing", name=b"x")
    assert (failure.value.kind, failure.value.errno) == (native.SYSTEM, 2)
    (tree / "file").touch()
    for entry, name in ((b"", b"x"), (b"..", b"x"), (b"a/b", b"x"), (b"file", b"")):
        with pytest.raises(native.Fault):
            pack(tree, entry=entry, name=name)


def test_sockets_are_left_out_and_counted(tree: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        fd = os.open(tree, os.O_RDONLY)
        with (tmp_path / "out").open("wb") as out:
            done = native.pack(fd, out.fileno())
        os.close(fd)

    assert (done.entries, done.passed_over) == (0, 1)


def test_marks_of_overlayfs_become_whiteouts(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / "gone", stat.S_IFCHR, 0)
    (tree / "new").mkdir()
    (tree / "new" / "!first").touch()
    os.setxattr(tree / "new", "trusted.overlay.opaque", b"y")
    (tree / "merged").mkdir()
    os.setxattr(tree / "merged", "trusted.overlay.opaque", b"x")
    (tree / "merged" / "gone-too").touch()
    os.setxattr(tree / "merged" / "gone-too", "trusted.overlay.whiteout", b"y")
    (tree / "other").touch()
    os.setxattr(tree / "other", "trusted.overlay.origin", b"handle")
    os.setxattr(tree / "other", "user.overlay.opaque", b"y")

    archive = pack(tree, overlay=TRUSTED)

    assert names(archive, tmp_path) == [
        ".wh.gone",
        "merged",
        "merged/.wh.gone-too",
        "new",
        "new/.wh..wh..opq",
        "new/!first",
        "other",
    ]
    assert b"overlay" not in archive


def test_a_layer_of_another_namespace_has_marks_of_another_name(tree: Path, tmp_path: Path) -> None:
    (tree / "new").mkdir()
    os.setxattr(tree / "new", "trusted.overlay.opaque", b"y")
    assert names(pack(tree, overlay=b"user.overlay."), tmp_path) == ["new"]
    os.setxattr(tree / "new", "user.overlay.opaque", b"y")
    assert names(pack(tree, overlay=b"user.overlay."), tmp_path) == ["new", "new/.wh..wh..opq"]


def test_a_plain_tree_keeps_a_device_without_a_number(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / "zero", stat.S_IFCHR, 0)

    assert names(pack(tree), tmp_path) == ["zero"]


@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_content_that_is_elsewhere_is_an_error(tree: Path, mark: str) -> None:
    (tree / "here").mkdir()
    os.setxattr(tree / "here", f"trusted.overlay.{mark}", b"/there")

    with pytest.raises(native.Fault, match="another layer") as failure:
        pack(tree, overlay=TRUSTED)
    assert failure.value.entry == "here"


def test_a_name_that_would_be_a_whiteout_is_an_error_in_a_layer_only(tree: Path) -> None:
    (tree / ".wh.passwd").touch()

    pack(tree)
    with pytest.raises(native.Fault, match=r"begins with \.wh\."):
        pack(tree, overlay=TRUSTED)


def test_a_layer_goes_round_with_its_marks(tree: Path, tmp_path: Path) -> None:
    fill(tree)
    os.mknod(tree / "gone", stat.S_IFCHR, 0)
    os.mknod(tree / ("w" * 255), stat.S_IFCHR, 0)
    os.setxattr(tree / "sub" / "deep", "trusted.overlay.opaque", b"y")
    unpacker = Unpacker(jail(tmp_path))
    first = pack(tree, overlay=TRUSTED)

    unpacker(first)

    assert pack(unpacker.root, overlay=TRUSTED) == first


def test_mounts_are_entered_or_shown_empty(tree: Path, tmp_path: Path) -> None:
    (tree / "mounted").mkdir()
    (tree / "file").write_text("below")
    (tmp_path / "source").write_text("above")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tree / "mounted")], check=True)
    subprocess.run(["mount", "--bind", str(tmp_path / "source"), str(tree / "file")], check=True)
    try:
        (tree / "mounted" / "inside").touch()
        assert names(pack(tree), tmp_path) == ["file", "mounted", "mounted/inside"]
        archive = pack(tree, is_one_mount=True)
        assert names(archive, tmp_path) == ["file", "mounted"]
        assert b"above" not in archive
    finally:
        subprocess.run(["umount", str(tree / "mounted"), str(tree / "file")], check=True)


def test_a_tree_far_deeper_than_descriptors_go(tree: Path, tmp_path: Path) -> None:
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("e", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))

    assert len(names(pack(tree), tmp_path)) == 3000
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_longer_than_any_path_is_an_error(tree: Path) -> None:
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    with pytest.raises(native.Fault, match="4095 bytes") as failure:
        pack(tree)
    assert failure.value.kind == native.UNSAFE


def test_an_archive_of_more_bytes_than_allowed_is_an_error(tree: Path) -> None:
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(native.Fault, match="more than 1048576 bytes"):
        pack(tree, max_bytes=1 << 20)


def test_a_reader_that_stands_still_holds_no_caller(tree: Path) -> None:
    (tree / "big").write_bytes(bytes(4 << 20))
    progress = native.Progress()
    reader, writer = os.pipe()
    fd = os.open(tree, os.O_RDONLY)
    faults: list[native.Fault] = []

    def work() -> None:
        with pytest.raises(native.Fault) as failure:
            native.pack(fd, writer, progress=progress)
        faults.append(failure.value)

    thread = threading.Thread(target=work)
    thread.start()
    while progress.entries == 0:
        time.sleep(0.001)
    progress.cancel()
    thread.join()
    for each in (reader, writer, fd):
        os.close(each)

    assert faults[0].kind == native.CANCELLED


def test_a_reader_that_has_gone_is_an_error(tree: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    fd = os.open(tree, os.O_RDONLY)
    with pytest.raises(native.Fault) as failure:
        native.pack(fd, writer)
    os.close(writer)
    os.close(fd)

    assert failure.value.errno == 32


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "pack_driver"
    sources = [CHECKOUT / "tests/kit/pack_driver.c"]
    sources += [CHECKOUT / "sandbox/native" / name for name in ("pack.c", "tarwriter.c")]
    options = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = ["gcc", *options, *sanitizers, f"-I{CHECKOUT}", *sources, "-o", program]
    subprocess.run(command, check=True)
    return program


@requires.program("gcc")
def test_no_tree_trips_a_sanitizer(tree: Path, tmp_path: Path, driver: Path) -> None:
    (tree / "plain").mkdir()
    fill(tree / "plain")
    layer = tree / "layer"
    layer.mkdir()
    os.mknod(layer / "gone", stat.S_IFCHR, 0)
    (layer / "new").mkdir()
    os.setxattr(layer / "new", "trusted.overlay.opaque", b"y")
    for number in range(3000):
        (layer / f"{number * 7919 % 3000}-{'x' * (number % 200)}").touch()
    for number in range(600):
        (layer / "new" / f"{number}").touch()
        os.link(layer / "new" / f"{number}", layer / f"link-{number}")
    wrong = tree / "wrong"
    (wrong / ".wh.x").mkdir(parents=True)
    folders = [tree / "plain", layer, wrong, tree / "nothing", layer]

    with (tmp_path / "driven").open("wb") as out:
        done = subprocess.run(
            [driver, TRUSTED, *folders], stdout=out, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == 0, done.stderr.decode()[-4000:]
    kinds = [line.split()[0] for line in done.stderr.splitlines()]
    assert kinds == [b"0", b"0", b"3", b"1", b"0"]
    good = pack(tree / "plain", tmp_path / "a", name=b".", overlay=TRUSTED)
    assert (tmp_path / "driven").read_bytes().startswith(good)


def test_a_tree_that_changes_all_the_time_is_still_an_archive(tree: Path, tmp_path: Path) -> None:
    for number in range(200):
        (tree / f"{number}").mkdir()
        (tree / f"{number}" / "file").write_bytes(bytes(number * 100))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    done = threading.Event()

    def disturb() -> None:
        number = 0
        while not done.is_set():
            number = (number + 7) % 200
            path = tree / f"{number}" / "file"
            path.unlink()
            os.symlink(tmp_path / "outside" / "secret", path)
            path.unlink()
            os.mkfifo(path)
            path.unlink()
            path.write_bytes(bytes(20000))
            os.truncate(path, 17)
            os.rename(tree / f"{number}", tree / "away")
            os.symlink(tmp_path / "outside", tree / f"{number}")
            os.unlink(tree / f"{number}")
            os.rename(tree / "away", tree / f"{number}")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(30):
            archive = pack(tree)
            assert b"secret" not in archive.replace(b"outside/secret", b"")
            with tarfile.open(tmp_path / "out.tar") as tar:
                assert len(tar.getmembers()) > 100
    finally:
        done.set()
        thread.join()
