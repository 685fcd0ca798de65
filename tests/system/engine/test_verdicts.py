"""Fourteen programs, one for each verdict, with both processors busy: no wrong verdict.

How often each is run is SANDBOX_VERDICT_RUNS (5 unless set; 50 is the measure of a release).
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay, requires.cgroup("memory", "pids"), pytest.mark.slow]

RUNS = int(os.environ.get("SANDBOX_VERDICT_RUNS", "5"))
EAT = "x=a; while :; do x=$x$x; done"
FORK = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait"

# verdict: (command, options, what else must hold)
PROGRAMS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ok": (["true"], {}),
    "nonzero": (["sh", "-c", "exit 137"], {"memory": "64m"}),
    # As process 1 of its own namespace a program is not ended by a signal it sends itself.
    "signal": (["sh", "-c", "kill -SEGV $$; sleep 9"], {"pid": "host"}),
    "wall_timeout": (["sleep", "60"], {"timeout": 0.15, "memory": "64m"}),
    "cpu_timeout": (["sh", "-c", "while :; do :; done"], {"cpu_time": 0.1, "timeout": 60}),
    "oom": (["sh", "-c", EAT], {"memory": "16m", "timeout": 60}),
    "pids_limit": (["sh", "-c", FORK], {"pids": 16, "timeout": 60}),
    "output_limit": (["yes"], {"output_limit": "10k", "timeout": 60}),
    "disk_limit": (["dd", "if=/dev/zero", "of=/big", "bs=64k"], {"storage_opt": "size=4m"}),
}


@pytest.fixture(scope="module")
def busy_processors() -> Iterator[None]:
    burners = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"])
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


def repeated(run: Callable[[], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for _ in range(RUNS):
        verdict = run()
        found[verdict] = found.get(verdict, 0) + 1
    return found


@pytest.mark.parametrize("verdict", PROGRAMS)
@pytest.mark.timeout(600)
def test_verdict_of_a_program(busy_processors: None, busybox: Store, verdict: str) -> None:
    command, options = PROGRAMS[verdict]

    assert repeated(lambda: sandbox.run("busybox", command, **options).verdict) == {verdict: RUNS}


@pytest.mark.timeout(600)
def test_verdict_of_a_user_who_kills(busy_processors: None, busybox: Store) -> None:
    engine = sandbox.Engine()

    def run() -> str:
        name = f"k{time.monotonic_ns()}"
        killer = threading.Thread(target=kill_soon, args=(engine, name))
        killer.start()
        result = engine.run("busybox", ["sleep", "60"], name=name, rm=True, timeout=60)
        killer.join()
        assert result.signal == signal.SIGKILL
        return result.verdict

    assert repeated(run) == {"killed_by_user": RUNS}


def kill_soon(engine: sandbox.Engine, name: str) -> None:
    while True:
        try:
            engine.container(name).kill()
        except sandbox.SandboxError:
            time.sleep(0.005)
        else:
            return


def foreign_elf() -> bytes:
    """The head of an ELF file of a processor that does not exist."""
    return struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 0xFFF0, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )


@pytest.mark.parametrize("reason", ["not_found", "not_executable", "bad_interpreter", "wrong_arch"])
@pytest.mark.timeout(600)
def test_verdict_of_what_cannot_be_executed(
    busy_processors: None, busybox: Store, reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "bad_interpreter").write_text("#!/no/such/interpreter\n")
    (folder / "wrong_arch").write_bytes(foreign_elf())
    (folder / "not_executable").write_text("data")
    for name, mode in (
        ("bad_interpreter", 0o755),
        ("wrong_arch", 0o755),
        ("not_executable", 0o644),
    ):
        (folder / name).chmod(mode)

    def run() -> str:
        with pytest.raises(sandbox.ExecFailed) as raised:
            sandbox.run("busybox", [f"/p/{reason}"], volumes=[f"{folder}:/p:ro"])
        return raised.value.reason

    assert repeated(run) == {reason: RUNS}


@pytest.mark.timeout(600)
def test_verdict_of_a_launch_that_fails(busy_processors: None, busybox: Store) -> None:
    def run() -> str:
        with pytest.raises(sandbox.LaunchFailed) as raised:
            sandbox.run("busybox", ["true"], tmpfs="/x:nosuchoption=1")
        return raised.value.step

    assert repeated(run) == {"mount": RUNS}


@pytest.mark.timeout(600)
def test_verdict_when_nobody_saw_the_end(busy_processors: None, busybox: Store) -> None:
    engine = sandbox.Engine()

    def run() -> str:
        container = engine.create("busybox", ["sleep", "60"])
        attachment = container.start()
        os.kill(attachment.monitor_pid, signal.SIGKILL)
        record = attachment.wait()
        assert (record.exit_code, record.signal) == (None, None)
        status = container.status()
        container.remove()
        assert (status.word, status.exit_code) == ("exited", None)
        return status.verdict

    assert repeated(run) == {"unknown": RUNS}


def test_a_killed_grandchild_is_a_flag_and_not_the_verdict(busybox: Store) -> None:
    result = sandbox.run("busybox", ["sh", "-c", f"sh -c '{EAT}'; echo went on"], memory="16m")

    assert (result.verdict, result.stdout) == ("ok", b"went on\n")
    assert result.receipt.oom_kills


def test_a_program_that_ends_itself_when_asked_is_ok(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create(
        "busybox", ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]
    )
    attachment = container.start()
    while not list(container.logs()):
        time.sleep(0.005)

    container.stop(timeout_s=10)
    attachment.wait()

    verdict, _detail, _receipt, _enforced = container.report()
    container.remove()
    assert verdict == "ok"
