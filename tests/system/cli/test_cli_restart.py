"""``--restart``: the monitor starts the container again, and a stop by somebody ends that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from conftest import Store

pytestmark = requires.root

DEADLINE_S = 20.0


def wait_for_restarts(name: str, count: int) -> None:
    container = sandbox.Engine().container(name)
    deadline = time.monotonic() + DEADLINE_S
    while container.status().restarts < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failing_container_is_started_again_as_often_as_was_said(busybox: Store) -> None:
    """The policy was accepted and nothing came of it."""
    busybox.program(
        "run", "-d", "--name", "aa", "--restart", "on-failure:2", "busybox",
        "sh", "-c", "echo run; exit 3",
    )  # fmt: skip

    waited = busybox.program("wait", "aa")
    told = busybox.program(
        "inspect", "-f", "{{.RestartCount}} {{json .HostConfig.RestartPolicy}}", "aa"
    )
    logs = busybox.program("logs", "aa")
    busybox.program("rm", "aa")

    assert waited.stdout == b"3\n"
    assert told.stdout == b'2 {"Name":"on-failure","MaximumRetryCount":2}\n'
    assert logs.stdout == b"run\n" * 3


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_what_always_runs_ends_when_it_is_stopped(busybox: Store, policy: str) -> None:
    busybox.program("run", "-d", "--name", "aa", "--restart", policy, "busybox", "true")
    wait_for_restarts("aa", 1)

    stopped = busybox.program("stop", "aa")
    state = busybox.program("ps", "-a", "--format", "{{.State}}")
    record = sandbox.Engine().container("aa").last_exit()
    busybox.program("rm", "aa")

    assert stopped.returncode == 0
    assert state.stdout == b"exited\n"
    assert record.stopping


def test_a_kept_plan_is_not_taken_for_another_policy(busybox: Store) -> None:
    plain = busybox.program("run", "--name", "aa", "busybox", "sh", "-c", "exit 3")
    again = busybox.program(
        "run", "--name", "bb", "--restart", "on-failure:1", "busybox", "sh", "-c", "exit 3"
    )
    counts = busybox.program("inspect", "-f", "{{.RestartCount}}", "aa", "bb")
    busybox.program("rm", "aa", "bb")

    assert plain.returncode == again.returncode == 3
    assert counts.stdout == b"0\n1\n"


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("sometimes", "invalid restart policy 'sometimes'"),
        (":3", "invalid restart policy format: no policy provided before colon"),
        (
            "on-failure:x",
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        (
            "on-failure:" + "9" * 5000,
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        ("always:3", "maximum retry count cannot be used with restart policy 'always'"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
    ],
)
def test_a_policy_that_is_none_is_refused(busybox: Store, policy: str, problem: str) -> None:
    done = busybox.program("create", "--restart", policy, "busybox", "true")

    assert done.returncode == 125
    assert done.stderr.decode().startswith(f"sandbox: {problem}\n")
