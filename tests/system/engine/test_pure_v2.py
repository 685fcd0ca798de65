"""`sandbox.run` on a host with nothing but cgroup v2: limits, verdicts, numbers, and no remains.

Run in the virtual machine (scripts/vm-test); the peak of memory is in test_memory_peak.py.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Store

pytestmark = [
    requires.root,
    requires.overlay,
    requires.cgroup("memory", "cpu", "pids", "io"),
    pytest.mark.cgroup_v2,
]

EAT = "x=a; while :; do x=$x$x; done"
FORK = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait"
ENDINGS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ok": (["true"], {"memory": "64m"}),
    "oom": (["sh", "-c", EAT], {"memory": "16m", "timeout": 60}),
    "pids_limit": (["sh", "-c", FORK], {"pids": 16, "timeout": 60}),
    "wall_timeout": (["sleep", "60"], {"timeout": 0.5}),
    "cpu_timeout": (["sh", "-c", "while :; do :; done"], {"cpu_time": 0.5, "timeout": 60}),
}


def groups() -> set[str]:
    return {
        os.path.join(folder, name)
        for folder, names, _files in os.walk("/sys/fs/cgroup")
        for name in names
    }


@pytest.fixture(autouse=True)
def no_group_stays() -> Iterator[None]:
    before = groups()
    yield
    assert groups() - before == set()


def eventually(claim: Callable[[], object], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize("verdict", ENDINGS)
def test_verdict_on_v2(busybox: Store, verdict: str) -> None:
    command, options = ENDINGS[verdict]

    assert sandbox.run("busybox", command, **options).verdict == verdict


def test_every_limit_is_kept_by_v2_and_every_number_is_there(busybox: Store) -> None:
    script = "cat /proc/self/cgroup; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"

    result = sandbox.run(
        "busybox", ["sh", "-c", script], memory="64m", cpus=0.2, pids=64, timeout=60
    )

    assert result.text == "0::/\n"
    enforced = {each.limit: each.by for each in result.enforcement}
    assert enforced.pop("timeout") == "monitor"
    assert {"memory", "cpu", "pids", "devices"} <= enforced.keys()
    assert set(enforced.values()) == {"cgroup2"}
    receipt = result.receipt
    assert receipt.user_cpu_s
    assert receipt.throttled_s
    assert receipt.peak_memory_bytes
    assert receipt.peak_pids
    for pressure in ("cpu", "memory", "io"):
        assert getattr(receipt, f"psi_{pressure}_some_s") is not None
        assert getattr(receipt, f"psi_{pressure}_full_s") is not None
    assert None not in (receipt.read_bytes, receipt.write_bytes, receipt.oom_kills)
    sources = dict(receipt.sources)
    assert sources["peak_memory_bytes"] == "memory.peak"
    assert sources["psi_memory_some_s"] == "memory.pressure"


def test_devices_that_are_not_allowed_cannot_be_opened_on_v2(busybox: Store) -> None:
    # A null of one's own, the first RAM disk, and /dev/kmsg: to read, and to write.
    script = """
        mknod /n c 1 3 && echo x >/n && echo null
        mknod /r b 1 0 && cat /r
        mknod /k c 1 11 && { head -c 1 /k; echo x >/k; }
    """

    result = sandbox.run("busybox", ["sh", "-c", script])

    assert result.text == "null\n"
    refused = result.stderr.decode().splitlines()
    assert len(refused) == 3
    assert all("Operation not permitted" in line for line in refused), refused


@contextlib.contextmanager
def started(container: sandbox.Container) -> Iterator[tuple[Path, sandbox.Attachment]]:
    """Start a container; its group, and what waits for its end."""
    before = groups()
    with container.start() as attachment:
        eventually(lambda: groups() - before)
        (group,) = groups() - before
        yield Path(group), attachment
    container.remove()


def test_an_oom_kill_of_the_whole_group_is_an_oom(busybox: Store, tmp_path: Path) -> None:
    # Without the group's switch the shell would outlive its child and end with 0.
    script = f"until [ -e /d/go ]; do sleep 0.05; done; sh -c '{EAT}'; echo went on"
    container = sandbox.Engine().create(
        "busybox", ["sh", "-c", script], memory="16m", volumes=[f"{tmp_path}:/d:ro"]
    )
    with started(container) as (group, attachment):
        (group / "memory.oom.group").write_text("1")
        (tmp_path / "go").touch()
        record = attachment.wait()

        assert container.report()[0] == "oom"
        assert record.oom_group_kills == 1
        assert record.oom_kills
        assert record.oom_kills >= 2


def test_a_kill_takes_the_frozen_and_those_who_left_the_session(busybox: Store) -> None:
    script = "setsid sh -c 'sleep 1000; true' & sleep 1000; true"
    # No PID namespace that would go with its first process.
    container = sandbox.Engine().create("busybox", ["sh", "-c", script], pid="host")
    with started(container) as (group, attachment):
        eventually(lambda: len((group / "cgroup.procs").read_text().split()) == 4)
        pids = (group / "cgroup.procs").read_text().split()
        (group / "cgroup.freeze").write_text("1")
        eventually(lambda: "frozen 1" in (group / "cgroup.events").read_text())
        assert container.status().word == "paused"

        container.kill()
        attachment.wait()

        assert container.report()[0] == "killed_by_user"
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []
