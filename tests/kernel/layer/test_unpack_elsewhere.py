"""Unpacking where not everything is allowed: another user, a full disk, a filter around us."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requires
from kit import tarbytes as tar
from kit import trees
from kit.unpacker import Unpacker

from sandbox.layer.unpack import UnpackResult, unpack_layer
from sandbox.native import seccomp_compile

pytestmark = [requires.root, requires.device_nodes, requires.xattrs]
SOURCE = Path(__file__).parents[3]

# Runs in a process of its own; it prints one JSON value.
PRELUDE = """
import errno, json, os, stat, sys
sys.path[:0] = json.loads(os.environ["TEST_PATH"])
from kit import tarbytes as tar, trees
from sandbox.errors import SandboxError
from sandbox.layer.unpack import remove_tree, unpack_layer
from sandbox.native import open_in_root, tree_size

def unpack(root, *entries, **options):
    fd = os.memfd_create("layer")
    os.write(fd, tar.archive(*entries)); os.lseek(fd, 0, 0)
    os.makedirs(root, exist_ok=True)
    target = os.open(root, os.O_RDONLY)
    try:
        return unpack_layer(fd, target, **options)
    finally:
        os.close(fd); os.close(target)
"""
WITH_FILTER = """
import ctypes
def filtered(program):
    class Fprog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
    libc = ctypes.CDLL(None)
    fprog = Fprog(len(program) // 8, program)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(fprog)) == 0
"""


def elsewhere(folder: Path, script: str, *before: str) -> Any:
    done = subprocess.run(
        [*before, sys.executable, "-c", PRELUDE + script],
        cwd=folder,
        env=os.environ | {"TEST_PATH": json.dumps([str(SOURCE), str(SOURCE / "tests")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_user_unpacks_what_he_may(tmp_path: Path) -> None:
    found = elsewhere(
        tmp_path,
        """
CAPABILITY = b"\\0\\0\\0\\2\\0\\x20" + bytes(14)
os.mkdir("his"); os.chown("his", 12345, 12345); os.chdir("his")
os.setgroups([]); os.setgid(12345); os.setuid(12345)
result = unpack(
    "t",
    tar.directory(b"./", mode=0o755, uid=0),
    tar.directory(b"shut/", mode=0o000),
    tar.directory(b"shut/below/", mode=0o500, mtime=7),
    tar.file(b"shut/below/f", b"x", uid=77, mode=0o4755),
    tar.header(b"null", b"3", major=1, minor=3),
    tar.header(b"fifo", b"6", mode=0o600),
    tar.symlink(b"l", b"shut", uid=5),
    tar.pax([(b"SCHILY.xattr.trusted.x", b"1"), (b"SCHILY.xattr.security.capability", CAPABILITY)])
    + tar.file(b"capable"),
    tar.file(b".wh.gone"),
    tar.file(b"d/.wh..wh..opq"),
    opaque_xattr="user.overlay.opaque",
    is_rootless=True,
)
modes = {name: oct(os.lstat("t/" + name).st_mode & 0o7777) for name in ("shut", "capable")}
gone = os.lstat("t/gone")
owners = {os.lstat("t/" + name).st_uid for name in os.listdir("t")}
os.chmod("t/shut", 0o700)
below = os.lstat("t/shut/below")
value = {
    "modes": modes, "owners": list(owners), "passed_over": result.passed_over,
    "gone": stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0,
    "below": [oct(below.st_mode & 0o7777), below.st_mtime],
    "opaque": os.listxattr("t/d"), "null": os.path.exists("t/null"),
}
os.chmod("t/shut", 0)
here = os.open(".", os.O_RDONLY)
remove_tree(here, "t")
print(json.dumps(value | {"left": os.listdir(".")}))
""",
    )

    assert found == {
        "modes": {"shut": "0o0", "capable": "0o644"},
        "owners": [12345],
        "passed_over": 3,
        "gone": True,
        "below": ["0o500", 7],
        "opaque": ["user.overlay.opaque"],
        "null": False,
        "left": [],
    }


def test_full_disk_is_said_and_its_space_comes_back(tmp_path: Path) -> None:
    found = elsewhere(
        tmp_path,
        """
os.mkdir("small")
assert os.system("mount --make-rprivate / && mount -t tmpfs -o size=1m none small") == 0
os.chdir("small")
try:
    unpack("t", tar.file(b"d/a", b"x" * 500000), tar.file(b"d/b", b"x" * 900000))
except SandboxError as error:
    said = [type(error).__name__, str(error)]
here = os.open(".", os.O_RDONLY)
remove_tree(here, "t")
left = os.statvfs(".")
print(json.dumps([said, left.f_blocks - left.f_bfree]))
""",
        *("unshare", "--mount"),
    )

    (kind, text), used = found
    assert kind == "StoreFull"
    assert text == f"no space left on device: {tmp_path}/small/t"
    assert used == 0


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM])
def test_filter_that_forbids_openat2_changes_nothing(
    unpack: Unpacker, tmp_path: Path, answer: int
) -> None:
    program = seccomp_compile(
        "SCMP_ACT_ALLOW", [("openat2", "SCMP_ACT_ERRNO", answer, ())], ["SCMP_ARCH_X86_64"]
    )
    script = """
entries = (
    tar.directory(b"./", mode=0o755, mtime=3),
    tar.directory(b"usr/lib/", mode=0o755, mtime=4),
    tar.symlink(b"lib", b"/usr/../../usr/lib"),
    tar.file(b"lib/a/b", b"x"),
    tar.symlink(b"far", b"nowhere/yet"),
    tar.file(b"far/f", b"x"),
    tar.hard_link(b"h", b"lib/a/b"),
    tar.directory(b"usr/", mode=0o700, mtime=5),
)
"""
    wide = """
unpack("t", *entries)
def attempt(path):
    root = os.open("t", os.O_RDONLY)
    try:
        with os.fdopen(open_in_root(root, path, os.O_RDONLY)) as file:
            return file.read()
    except OSError as error:
        return errno.errorcode[error.errno]
picture = {name: repr(entry) for name, entry in trees.picture("t").items()}
paths = ("lib/a/b", "../lib/a/../a/b", "lib/a/b/c", "none", "", "x" * 5000, "lib", "far/../../h")
root = os.open("t", os.O_RDONLY)
value = [picture, [attempt(path) for path in paths], tree_size(root)]
here = os.open(".", os.O_RDONLY)
remove_tree(here, "t")
print(json.dumps([*value, os.listdir(".")]))
"""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    free = elsewhere(tmp_path / "one", script + wide)
    program_line = f"filtered(bytes.fromhex({program.hex()!r}))\n"
    bound = elsewhere(tmp_path / "two", WITH_FILTER + program_line + script + wide)

    assert bound == free
    assert free[1][:3] == ["x", "x", "ENOTDIR"]
    assert free[3] == []


def test_layers_in_several_threads_do_not_meet(tmp_path: Path) -> None:
    results: dict[int, UnpackResult] = {}

    def one(number: int) -> None:
        root = tmp_path / str(number)
        root.mkdir()
        fd = os.memfd_create("layer")
        entries = [tar.file(b"d%d/f%d" % (n % 7, n), b"%d" % number * n) for n in range(300)]
        os.write(fd, tar.archive(*entries))
        os.lseek(fd, 0, os.SEEK_SET)
        target = os.open(root, os.O_RDONLY)
        results[number] = unpack_layer(fd, target)
        os.close(target)
        os.close(fd)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({result.diff_id for result in results.values()}) == 4
    for number in range(4):
        assert (tmp_path / f"{number}/d4/f4").read_bytes() == b"%d" % number * 4
        assert len(trees.picture(tmp_path / str(number))) == 308


@requires.overlay
def test_overlay_of_two_layers_shows_what_the_whiteouts_say(tmp_path: Path) -> None:
    found = elsewhere(
        tmp_path,
        """
unpack(
    "lower",
    tar.file(b"keep", b"lower"), tar.file(b"gone", b"lower"), tar.file(b"opaque/old", b"lower"),
    tar.file(b"both/old", b"lower"), tar.file(b"again/old", b"lower"), tar.file(b"tree/a/b/c"),
)
unpack(
    "upper",
    tar.file(b".wh.gone"), tar.file(b"opaque/.wh..wh..opq"), tar.file(b"opaque/new", b"upper"),
    tar.file(b"both/new", b"upper"), tar.file(b".wh.again"), tar.file(b"again/new", b"upper"),
    tar.file(b"tree/a/.wh.b"),
)
os.mkdir("all")
mount = "mount --make-rprivate / && mount -t overlay -o lowerdir=upper:lower none all"
assert os.system(mount) == 0
print(json.dumps(sorted(
    os.path.relpath(os.path.join(folder, name), "all")
    for folder, _, names in os.walk("all") for name in names
)))
""",
        *("unshare", "--mount"),
    )

    assert found == ["again/new", "both/new", "both/old", "keep", "opaque/new"]
