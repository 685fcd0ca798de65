"""The monitor's ways through its code once more, under AddressSanitizer and UBSan.

What they find ends the monitor, and so the test.  All the other tests run that way with
SANDBOX_TEST_SANITIZED=1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import requires
from kit.monitored import STDIN, TTY, Monitored, build

from sandbox.monitor import client, logs
from sandbox.monitor.exitrecord import verdict_of

pytestmark = requires.root


@pytest.fixture(scope="session", autouse=True)
def sanitized_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = build(tmp_path_factory.mktemp("sanitized"), sanitized=True)
    client._sealed_executable(program)
    return program


@pytest.fixture
def sanitized(monitored: Monitored, sanitized_program: str) -> Monitored:
    monitored.program = sanitized_program
    return monitored


def test_pipes_log_rotation_and_clients(sanitized: Monitored, tmp_path: Path) -> None:
    data = os.urandom(400_000)
    (tmp_path / "in").write_bytes(data)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)  # nobody reads it
    no_input, feed = os.pipe2(os.O_CLOEXEC)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as out:
        launch = sanitized.shell(
            "cat; seq 1 20000 >&2; sleep 0.1",
            stdio=(source.fileno(), out.fileno(), out.fileno()),
            terminal=(STDIN, 0, 0),
            log=(str(sanitized.log), 100_000, 30),
        )
        launch.wait_started(timeout_s=20)
        with client.connect(str(sanitized.run)) as control:
            control.attach((no_input, write_end, write_end), stdin=True, lossy=True)
            assert control.status()["phase"] == "running"
            control.signal(0)
            record = control.wait()
    sanitized.end()
    for fd in (read_end, write_end, no_input, feed):
        os.close(fd)

    assert verdict_of(record)[0] == "ok"
    assert (tmp_path / "out").stat().st_size == len(data) + (record.stderr_bytes or 0)
    kept = b"".join(entry.text for entry in logs.read(str(sanitized.log)))
    assert len(kept) == len(data) + (record.stderr_bytes or 0)


def test_terminal_limits_and_failures(sanitized: Monitored) -> None:
    launch = sanitized.shell("seq 1 5000; exec sleep 60", terminal=(TTY, 24, 80))
    launch.wait_started(timeout_s=20)
    with client.connect(str(sanitized.run)) as control:
        control.resize(10, 10)
        control.close_stdin()
        control.kill()
        control.wait()

    assert verdict_of(sanitized.end())[0] == "killed_by_user"
    for limits, verdict in (
        ((50, 0, 0), "wall_timeout"),
        ((0, 50_000, 0), "cpu_timeout"),
        ((0, 0, 9), "output_limit"),
    ):
        record = sanitized.outcome("echo 12345678; echo; while :; do :; done", limits=limits)
        assert verdict_of(record)[0] == verdict
    sanitized.start(["/no such\nprogram"])
    assert verdict_of(sanitized.end())[0] == "exec_failed"


def test_restarts_and_exit_command(sanitized: Monitored) -> None:
    record = sanitized.outcome(
        "echo again; exit 1", restart=(2, 1), exit_command=(["/bin/true", "x"], ["A=b"])
    )

    assert (record.exit_code, record.restarts, record.stdout_bytes) == (1, 1, 12)
