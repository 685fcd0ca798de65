"""The file that says how well a container is, read back."""

from __future__ import annotations

import pytest

from sandbox.errors import DamagedDocument
from sandbox.monitor import health
from sandbox.monitor.health import Health, HealthResult

HEAD = b"version 1\nstatus healthy\nstreak 0\n"


def test_results_come_in_order_with_their_output() -> None:
    found = health.parse(
        b"version 1\nstatus unhealthy\nstreak 2\n"
        b"result 10 20 exit 3 a b\\nc\\\\n\n"
        b"result 30 40 exit 0 \n"
        b"result 50 60 timeout 1500 \n"
        b"result 70 80 timeout 30000 slow\\n\n"
    )

    assert found == Health(
        status="unhealthy",
        failing_streak=2,
        log=(
            HealthResult(started_ns=10, finished_ns=20, exit_code=3, output="a b\nc\\n"),
            HealthResult(started_ns=30, finished_ns=40, exit_code=0, output=""),
            HealthResult(
                started_ns=50,
                finished_ns=60,
                exit_code=-1,
                output="Health check exceeded timeout (1.5s)",
            ),
            HealthResult(
                started_ns=70,
                finished_ns=80,
                exit_code=-1,
                output="Health check exceeded timeout (30s): slow\n",
            ),
        ),
    )


def test_output_may_hold_any_bytes() -> None:
    found = health.parse(HEAD + b"result 1 2 exit 0 \xff\x00\r\x0b\xc3\xa9\n")

    assert found.log[0].output == "\ufffd\0\r\x0b\u00e9"


def test_a_failure_is_told_as_a_launch_tells_it() -> None:
    record = rb"version 1\nstatus failed\nstep 126\nerrno 2\nsyscall execve\npath nope\n"
    record += rb"reason not_found\nfinished_ns 5\n"

    found = health.parse(HEAD + b"result 1 2 failed -1 " + record + b"\n")

    assert found.log[0].exit_code == -1
    assert found.log[0].output.startswith('exec: "nope": executable file not found')


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version 1\n",
        b"status well\n",
        HEAD + b"result 1 2 exit\n",
        HEAD + b"result 1 x exit 0 \n",
        b"status healthy\nstreak many\n",
        b"status h\xff\n",
    ],
)
def test_what_no_monitor_writes_is_damaged(content: bytes) -> None:
    with pytest.raises(DamagedDocument):
        health.parse(content)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (30_000, "30s"),
        (90_000, "1m30s"),
        (60_000, "1m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_001, "1h1m1.001s"),
    ],
)
def test_times_are_printed_as_docker_does(milliseconds: int, text: str) -> None:
    assert health.duration(milliseconds) == text
