"""Each side effect of a launch fails once, or its process dies there: nothing is left.

`strace` injects the fault into the nth call of its kind, of whoever makes it: the command,
the monitor, or the container's first process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import faults

import sandbox

pytestmark = [requires.root, requires.overlay, requires.program("strace"), pytest.mark.slow]

COMMAND = ("run", "--rm", "-m", "64m", "--cpus", "0.5", "busybox", "true")
SIDE_EFFECTS = {
    "files": "mkdir rename renameat symlink unlink rmdir link write fchmod chmod fchmodat flock",
    "talk": "sendto sendmsg socketpair socket bind listen pipe2 memfd_create sendfile dup2 umask",
    "root": "mkdirat symlinkat mknodat unlinkat openat2 fsopen open_tree fchdir chdir",
    "mounts": "fsconfig fsmount move_mount mount_setattr mount umount2 pivot_root",
    "process": (
        "clone3 unshare setsid sethostname prctl prlimit64 capset setgroups setresuid setresgid "
        "seccomp keyctl signalfd4 pidfd_send_signal"
    ),
}
# Also where a process may die; a failure of these is the interpreter's own, too.
OTHERS = {"reads": "openat read pread64 close_range execve fcntl ioctl wait4 poll ppoll getdents64"}
MOST_OF_A_KIND = 6


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", SIDE_EFFECTS)
@pytest.mark.parametrize("error", ["EIO", "ENOMEM"])
def test_a_side_effect_that_fails_is_one_sentence_and_leaves_nothing(
    busybox: Store, tmp_path: Path, group: str, error: str
) -> None:
    for call, number in points(busybox, tmp_path, SIDE_EFFECTS[group]):
        done = faults.broken(busybox, tmp_path, COMMAND, call, f"error={error}:when={number}")

        said = done.stderr.decode(errors="replace")
        assert "Traceback" not in said, (call, number, said)
        assert "internal error" not in said, (call, number, said)
        assert done.returncode in (0, 1, 125, 126, 127, 137), (call, number, said)
        nothing_is_left(busybox, call, number)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", SIDE_EFFECTS | OTHERS)
def test_who_dies_at_a_step_of_the_launch_leaves_nothing(
    busybox: Store, tmp_path: Path, group: str
) -> None:
    for call, number in points(busybox, tmp_path, (SIDE_EFFECTS | OTHERS)[group]):
        done = faults.broken(busybox, tmp_path, COMMAND, call, f"signal=KILL:when={number}")

        assert b"Traceback" not in done.stderr, (call, number, done.stderr)
        nothing_is_left(busybox, call, number)


def points(store: Store, folder: Path, calls: str) -> list[tuple[str, int]]:
    store.program(*COMMAND)  # what a first run makes is made
    return faults.points(store, folder, COMMAND, calls.split(), most=MOST_OF_A_KIND)


def nothing_is_left(store: Store, call: str, number: int) -> None:
    """After the next command, or a moment later where a monitor is still at work."""
    folders = [
        store.root / "containers",
        store.root / "names",
        store.root / "staging",
        store.run / "containers",
    ]
    deadline = time.monotonic() + 10
    while True:
        listed = store.program("ps", "-aq")
        assert listed.returncode == 0, (call, number, listed.stderr)
        left = [
            f"{folder}/{name}"
            for folder in folders
            if folder.is_dir()
            for name in os.listdir(folder)
        ]
        if not left and not listed.stdout:
            return
        assert time.monotonic() < deadline, (call, number, left, listed.stdout)
        time.sleep(0.02)
        sandbox.Engine().sweep()
