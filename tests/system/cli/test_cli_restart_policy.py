"""``start --restart-policy``: what comes back after a reboot, and what stays down."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from conftest import Store

pytestmark = requires.root

OTHER_BOOT = "00000000-0000-0000-0000-000000000000"
DEADLINE_S = 20.0


def monitors(store: Store) -> list[int]:
    found = []
    for file in (store.run / "containers").glob("*/started"):
        found.append(int(file.read_text().partition("\nmonitor ")[2].split()[0]))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reboot(store: Store) -> None:
    """The power goes: no process, no cgroup, no run folder; what is on disk is of another boot."""
    kill(monitors(store))
    for group in groups(store):
        deadline = time.monotonic() + DEADLINE_S
        while group.exists():
            try:
                group.rmdir()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    for name in ("launch", "exit"):
        for file in (store.root / "containers").glob(f"*/{name}"):
            lines = file.read_text().splitlines()
            file.write_text(
                "".join(
                    f"boot_id {OTHER_BOOT}\n" if line.startswith("boot_id ") else f"{line}\n"
                    for line in lines
                )
            )
    shutil.rmtree(store.run)


def groups(store: Store) -> list[Path]:
    found = []
    for file in (store.root / "containers").glob("*/launch"):
        for line in file.read_text().splitlines():
            if line.startswith("group "):
                found.append(Path(line.split(" ", 3)[3]))
    return found


def start(store: Store, name: str, policy: str, *command: str) -> None:
    words = command or ("sleep", "1000")
    done = store.program("run", "-d", "--name", name, "--restart", policy, "busybox", *words)
    assert done.returncode == 0, done.stderr.decode()


def running(store: Store) -> list[str]:
    return sorted(store.program("ps", "--format", "{{.Names}}").stdout.decode().split())


def restore(store: Store) -> list[str]:
    done = store.program("start", "--restart-policy")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_policies_decide_what_runs_after_a_reboot(busybox: Store) -> None:
    for policy in ("no", "always", "unless-stopped", "on-failure"):
        start(busybox, f"{policy}-ran", policy)
        start(busybox, f"{policy}-stopped", policy)
        busybox.program("stop", "-t", "0", f"{policy}-stopped")
    start(busybox, "on-failure-done", "on-failure", "true")
    busybox.program("wait", "on-failure-done")
    busybox.program("create", "--name", "never-ran", "--restart", "always", "busybox", "true")
    assert restore(busybox) == []  # it is the same boot: nothing is missing
    reboot(busybox)

    brought_back = restore(busybox)

    expected = ["always-ran", "always-stopped", "unless-stopped-ran", "on-failure-ran"]
    assert brought_back == expected
    assert running(busybox) == sorted(expected)
    assert restore(busybox) == []


def test_a_stop_by_a_user_is_remembered_however_it_came_about(busybox: Store) -> None:
    start(busybox, "killed", "unless-stopped")
    busybox.program("kill", "killed")
    start(busybox, "resting", "unless-stopped", "false")
    container = sandbox.Engine().container("resting")
    deadline = time.monotonic() + DEADLINE_S
    while container.status().restarts < 2:  # by now it rests most of the time
        assert time.monotonic() < deadline
        time.sleep(0.01)
    busybox.program("stop", "resting")
    start(busybox, "handled", "unless-stopped", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
    time.sleep(0.2)
    busybox.program("stop", "handled")
    reboot(busybox)

    assert restore(busybox) == []


def test_a_monitor_told_to_end_by_the_host_is_no_stop_by_a_user(busybox: Store) -> None:
    start(busybox, "aa", "unless-stopped")
    for pid in monitors(busybox):
        os.kill(pid, signal.SIGTERM)  # as at a shutdown
    busybox.program("wait", "aa")
    reboot(busybox)

    assert restore(busybox) == ["aa"]


def test_a_lost_monitor_is_made_up_for_in_the_same_boot(busybox: Store) -> None:
    start(busybox, "aa", "unless-stopped")
    start(busybox, "bb", "no")
    kill(monitors(busybox))

    assert restore(busybox) == ["aa"]
    assert running(busybox) == ["aa"]


def test_one_that_cannot_start_stops_nobody_else(busybox: Store, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    busybox.program(
        "run", "-d", "--name", "bad", "--restart", "always", "--mount",
        f"type=bind,src={folder},dst=/m", "busybox", "sleep", "1000",
    )  # fmt: skip
    start(busybox, "good", "always")
    reboot(busybox)
    folder.rmdir()

    done = busybox.program("start", "--restart-policy")

    assert (done.returncode, done.stdout) == (1, b"good\n")
    assert done.stderr.endswith(b"Error: failed to start containers: bad\n")
    assert running(busybox) == ["good"]


@pytest.mark.parametrize("more", [["aa"], ["-a"], ["-i"]])
def test_the_policies_choose_alone(busybox: Store, more: list[str]) -> None:
    done = busybox.program("start", "--restart-policy", *more)

    assert done.returncode == 1
    assert done.stderr == (
        b"--restart-policy chooses the containers itself, and attaches to none\n"
    )
