"""A tree that was packed and unpacked is the same tree; GNU tar is the judge."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import struct
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
import requires
from kit import tarbytes as tar
from kit import trees
from kit.unpacker import Unpacker

from sandbox.errors import DamagedArchive
from sandbox.layer.unpack import unpack_layer

pytestmark = [requires.root, requires.program("tar"), requires.device_nodes, requires.xattrs]

# Version 2, CAP_NET_RAW permitted.
CAPABILITY = struct.pack("<IIIII", 0x02000000, 1 << 13, 0, 0, 0)
# POSIX ACL, version 2: user::rwx user:1000:r-- group::r-x mask::r-x other::r-x
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [
        (1, 7, 0xFFFFFFFF),
        (2, 4, 1000),
        (4, 5, 0xFFFFFFFF),
        (16, 5, 0xFFFFFFFF),
        (32, 5, 0xFFFFFFFF),
    ]
)
FORMATS = ("gnu", "pax", "ustar", "v7")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All kinds of entries, with owners, times and attributes."""
    root = tmp_path / "tree"
    numbers = random.Random(7)
    for name in ("usr/bin", "usr/lib/x86_64-linux-gnu", "etc", "var/empty", "sticky", "setgid"):
        (root / name).mkdir(parents=True)
    for number in range(300):
        path = root / ("usr/bin", "usr/lib/x86_64-linux-gnu", "etc")[number % 3] / f"file{number}"
        path.write_bytes(numbers.randbytes(numbers.choice((0, 1, 511, 512, 513, 5000, 70000))))
        os.chown(path, number, number * 7)
        os.chmod(path, numbers.choice((0o644, 0o755, 0o600, 0o000, 0o4755, 0o2755, 0o6711)))
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + number * 1_234_567_891))
    (root / "big").write_bytes(numbers.randbytes(3 << 20))
    (root / "bin").symlink_to("usr/bin")
    (root / "abs").symlink_to("/nowhere/at/all")
    os.chown(root / "abs", 5, 6, follow_symlinks=False)
    os.utime(root / "abs", ns=(1, 1_600_000_000_000_000_001), follow_symlinks=False)
    os.link(root / "usr/bin/file0", root / "usr/lib/hard")
    os.link(root / "usr/bin/file0", root / "another")
    os.link(root / "bin", root / "bin-again", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "loop", 0o60660, os.makedev(7, 200))
    (root / "ü → \n name").write_text("x")
    (root / "sticky").chmod(0o1777)
    (root / "setgid").chmod(0o2775)
    os.chown(root / "setgid", 0, 50)
    (root / "setgid/inside").write_text("x")
    os.chown(root / "setgid/inside", 9, 9)
    (root / "var/empty").chmod(0o000)
    return root


def add_attributes(root: Path) -> None:
    os.setxattr(root / "usr/bin/file3", "security.capability", CAPABILITY)
    os.setxattr(root / "usr/bin/file6", "user.note", b"a\0b\nc=d\xff")
    os.setxattr(root / "usr/bin/file6", "trusted.note", b"")
    os.setxattr(root / "etc", "user.folder", b"yes")
    os.setxattr(root / "abs", "trusted.link", b"yes", follow_symlinks=False)


def set_directory_times(root: Path) -> None:
    for number, (folder, _, _) in enumerate(os.walk(root, topdown=False)):
        os.utime(folder, ns=(0, 1_400_000_000_000_000_000 + number * 1_000_000_007))


def pack(root: Path, *options: str) -> bytes:
    command = ["tar", "-C", str(root), "--sort=name", *options, "-cf", "-", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def judged(archive: bytes, tmp_path: Path, *options: str) -> dict[str, trees.Entry]:
    """What GNU tar makes of it."""
    folder = tmp_path / "judged"
    folder.mkdir()
    command = ["tar", "-C", str(folder), "--same-owner", "--numeric-owner", *options, "-xpf", "-"]
    subprocess.run(command, input=archive, check=True)
    return trees.picture(folder)


@pytest.mark.parametrize("form", FORMATS)
def test_tree_equals_what_gnu_tar_unpacks(
    unpack: Unpacker, tree: Path, tmp_path: Path, form: str
) -> None:
    if form in ("ustar", "v7"):
        (tree / "loop").unlink()
    if form == "v7":
        for name in ("null", "fifo"):
            (tree / name).unlink()
    set_directory_times(tree)
    archive = pack(tree, f"--format={form}", "--numeric-owner")

    result = unpack(archive)

    assert trees.differences(unpack.picture(), judged(archive, tmp_path)) == []
    if form == "pax":
        assert trees.differences(unpack.picture(), trees.picture(tree)) == []
    assert result.diff_id == result.digest == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert result.implied_dirs == ()
    assert result.passed_over == 0


def test_attributes_and_capabilities_equal_what_gnu_tar_unpacks(
    unpack: Unpacker, tree: Path, tmp_path: Path
) -> None:
    add_attributes(tree)
    set_directory_times(tree)
    archive = pack(tree, "--format=pax", "--xattrs", "--xattrs-include=*")

    unpack(archive)

    judge = judged(archive, tmp_path, "--xattrs", "--xattrs-include=*")
    assert trees.differences(unpack.picture(), judge) == []
    assert trees.differences(unpack.picture(), trees.picture(tree)) == []


def test_acls_come_after_the_mode_and_do_not_spread(unpack: Unpacker) -> None:
    access, default = "system.posix_acl_access", "system.posix_acl_default"
    records = [(f"SCHILY.xattr.{name}".encode(), ACL) for name in (access, default)]

    unpack(
        tar.archive(
            tar.pax(records) + tar.directory(b"d/", mode=0o755),
            tar.file(b"d/f", b"x", mode=0o644),
            tar.directory(b"d/e/", mode=0o700),
        )
    )

    assert os.getxattr(unpack.root / "d", access) == ACL
    assert os.getxattr(unpack.root / "d", default) == ACL
    assert os.listxattr(unpack.root / "d/f") == []
    assert os.listxattr(unpack.root / "d/e") == []
    assert os.lstat(unpack.root / "d/f").st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "options",
    [
        ("--format=gnu",),
        ("--format=pax", "--sparse-version=0.0"),
        ("--format=pax", "--sparse-version=0.1"),
        ("--format=pax", "--sparse-version=1.0"),
    ],
    ids=["old-gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_keep_their_holes(
    unpack: Unpacker, tmp_path: Path, options: tuple[str, ...]
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "holes").open("wb") as file:
        for number in range(40):
            file.seek(number * 200_000 + 4096)
            file.write(b"data%d" % number)
        file.truncate(20 << 20)
    with (root / "only-a-hole").open("wb") as file:
        file.truncate(5 << 20)
    (root / "behind").write_text("x")

    archive = pack(root, "--sparse", *options)

    result = unpack(archive)

    assert trees.differences(unpack.picture(), judged(archive, tmp_path)) == []
    assert os.lstat(unpack.root / "holes").st_blocks * 512 < 2 << 20
    assert result.unpacked_bytes == (25 << 20) + 1


def test_long_names_and_links_are_kept(unpack: Unpacker, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    deep = root / "/".join([f"directory-with-a-long-name-{n:02}" for n in range(30)])
    deep.mkdir(parents=True)
    (deep / ("f" * 255)).write_text("x")
    (deep / "l").symlink_to("t" * 1000)
    os.link(deep / ("f" * 255), deep / "hard")
    set_directory_times(root)
    for form in ("gnu", "pax"):
        unpack(pack(root, f"--format={form}"))

        assert {name: entry[:3] + entry[4:] for name, entry in unpack.picture().items()} == {
            name: entry[:3] + entry[4:] for name, entry in trees.picture(root).items()
        }


def test_archive_of_the_standard_library_equals_the_judge(unpack: Unpacker, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(os.path.dirname(os.__file__) + "/json", "json")
        member = tarfile.TarInfo("ünïcode/" + "x" * 150)
        member.uid, member.gid, member.mtime = 3_000_000, 8**7, 1234567.25
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))

    unpack(content.getvalue())

    judge = judged(content.getvalue(), tmp_path)
    unpacked = unpack.picture()
    for picture in (judge, unpacked):
        # Not listed: GNU tar leaves today's times.
        del picture["."], picture["ünïcode"]
    assert trees.differences(unpacked, judge) == []


# ---- streams ----


def small_archive() -> bytes:
    return tar.archive(*[tar.file(b"f%d" % n, bytes([n]) * n * 100) for n in range(200)])


def zstd(data: bytes, *options: str) -> bytes:
    return subprocess.run(
        ["zstd", "-q", "-c", *options], input=data, capture_output=True, check=True
    ).stdout


def expect_whole(unpack: Unpacker, data: bytes, compression: str) -> None:
    result = unpack(data)
    assert result.compression == compression
    assert result.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert result.diff_id == "sha256:" + hashlib.sha256(small_archive()).hexdigest()
    assert result.size == len(data)
    assert result.tar_bytes == len(small_archive())
    assert result.entries == 200
    assert result.unpacked_bytes == sum(n * 100 for n in range(200))
    assert (unpack.root / "f199").read_bytes() == bytes([199]) * 19900


def test_plain_layer(unpack: Unpacker) -> None:
    expect_whole(unpack, small_archive(), "none")


def test_gzip_layer(unpack: Unpacker) -> None:
    expect_whole(unpack, gzip.compress(small_archive()), "gzip")


def test_gzip_layer_of_many_members(unpack: Unpacker) -> None:
    data = small_archive()
    parts = [gzip.compress(data[at : at + 7000], at % 10) for at in range(0, len(data), 7000)]
    expect_whole(unpack, b"".join(parts), "gzip")


def test_gzip_layer_with_name_comment_and_extra_field(unpack: Unpacker) -> None:
    raw = gzip.compress(small_archive())
    extra = struct.pack("<H", 5000) + bytes(5000)
    head = raw[:3] + bytes([0x1C]) + raw[4:10] + extra + b"name.tar\0" + b"comment\0"
    expect_whole(unpack, head + raw[10:], "gzip")


@pytest.mark.parametrize("waste", [b"\0" * 700_000, b"garbage" * 9999, b"\x1f", b"\0\x1f\x8b"])
def test_waste_behind_a_gzip_layer_is_hashed_and_passed_over(
    unpack: Unpacker, waste: bytes
) -> None:
    expect_whole(unpack, gzip.compress(small_archive()) + waste, "gzip")


@requires.program("zstd")
@pytest.mark.parametrize("options", [("-1",), ("-19",), ("--no-check",), ("--ultra", "-22")])
def test_zstd_layer(unpack: Unpacker, options: tuple[str, ...]) -> None:
    expect_whole(unpack, zstd(small_archive(), *options), "zstd")


@requires.program("zstd")
def test_zstd_layer_of_many_frames(unpack: Unpacker) -> None:
    data = small_archive()
    skippable = struct.pack("<II", 0x184D2A53, 10) + b"skip me!!!"
    frames = [zstd(data[at : at + 90_000]) for at in range(0, len(data), 90_000)]
    expect_whole(unpack, skippable + skippable.join(frames) + skippable, "zstd")


@requires.program("zstd")
def test_damaged_zstd_layer_is_refused(unpack: Unpacker) -> None:
    whole = zstd(small_archive())
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole + b"garbage!", whole[:6]):
        with pytest.raises(DamagedArchive):
            unpack(damaged)


def test_archive_with_much_padding_is_hashed_to_its_end(unpack: Unpacker) -> None:
    data = small_archive() + bytes(3 << 20)

    result = unpack(gzip.compress(data))

    assert result.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()


def test_plain_layer_without_its_end_is_taken_when_its_size_is_known(unpack: Unpacker) -> None:
    data = small_archive()[: -len(tar.END)]
    with pytest.raises(DamagedArchive):
        unpack(data)

    assert unpack(data, expected_size=len(data)).entries == 200
    assert unpack(gzip.compress(data)).entries == 200


def test_layer_from_a_pipe_that_comes_in_pieces(unpack: Unpacker) -> None:
    data = gzip.compress(small_archive())
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for at in range(0, len(data), 1000):
                pipe.write(data[at : at + 1000])

    feeder = threading.Thread(target=feed)
    feeder.start()
    root = os.open(unpack.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        result = unpack_layer(reader, root, expected_size=len(data))
    finally:
        feeder.join()
        os.close(root)
        os.close(reader)

    assert result.entries == 200


def test_progress_is_told_and_may_stop_it(unpack: Unpacker) -> None:
    told: list[int] = []
    data = gzip.compress(small_archive())

    unpack(data, progress=told.append)

    assert told[-1] == len(data)


def test_error_in_progress_stops_the_unpacking(unpack: Unpacker) -> None:
    class Stop(Exception):
        pass

    def stop(_read: int) -> None:
        raise Stop

    reader, writer = os.pipe()
    root = os.open(unpack.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A stream that never ends by itself.
        os.write(writer, small_archive()[:5000])
        with pytest.raises(Stop):
            unpack_layer(reader, root, progress=stop)
    finally:
        for fd in (reader, writer, root):
            os.close(fd)


def test_implied_folders_are_told_and_listed_ones_are_not(unpack: Unpacker) -> None:
    result = unpack(
        tar.archive(
            tar.file(b"a/b/c/f", mtime=77),
            tar.directory(b"a/b/", mode=0o700),
            tar.symlink(b"way", b"x/y"),
            tar.file(b"way/f"),
        )
    )

    assert sorted(result.implied_dirs) == ["", "a", "a/b/c", "x", "x/y"]
    assert os.lstat(unpack.root / "a").st_mtime == 77
    assert os.lstat(unpack.root / "a").st_mode & 0o7777 == 0o755
    assert os.lstat(unpack.root / "a/b").st_mode & 0o7777 == 0o700


def test_rootless_ignores_owners(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"f", uid=77, gid=88)), is_rootless=True)

    assert os.lstat(unpack.root / "f").st_uid == os.geteuid()


def test_same_archive_gives_the_same_tree(unpack: Unpacker, tree: Path) -> None:
    archive = pack(tree, "--format=pax")
    unpack(archive)
    first = unpack.picture()

    unpack(archive)

    assert trees.differences(first, unpack.picture()) == []
