"""A container between two runs of its restart policy, and another policy for one that lives."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Store

pytestmark = [requires.root, requires.overlay]

DEADLINE_S = 20.0


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def resting(busybox: Store) -> Store:
    """With a container `rr` that fails at once, and waits longer from time to time."""
    done = busybox.program(
        *("run", "-d", "--restart", "always", "--name", "rr", "busybox", "sh", "-c", "exit 3")
    )
    assert done.returncode == 0, done.stderr.decode()
    container = sandbox.Engine().container("rr")
    until(lambda: container.status().restarts >= 3 and container.status().word == "restarting")
    return busybox


def test_it_is_shown_as_restarting_with_the_last_exit_code(resting: Store) -> None:
    listed = resting.program("ps", "--format", "{{.State}} {{.Status}}").stdout.decode()
    state = json.loads(resting.program("inspect", "-f", "{{json .State}}", "rr").stdout)

    assert listed.startswith("restarting Restarting (3) ")
    assert (state["Status"], state["Restarting"], state["ExitCode"]) == ("restarting", True, 3)
    resting.program("rm", "-f", "rr")


@pytest.mark.parametrize(
    "verb", [("exec", "rr", "true"), ("pause", "rr"), ("top", "rr"), ("cp", "rr:/bin", "-")]
)
def test_what_needs_a_process_is_refused_meanwhile(resting: Store, verb: tuple[str, ...]) -> None:
    done = resting.program(*verb)

    assert done.returncode == 1
    assert b"is restarting, wait until the container is running" in done.stderr
    resting.program("rm", "-f", "rr")


def test_a_policy_without_restarts_ends_the_rest(resting: Store) -> None:
    done = resting.program("update", "--restart", "no", "rr")

    assert (done.returncode, done.stdout) == (0, b"rr\n")
    container = sandbox.Engine().container("rr")
    until(lambda: container.status().word == "exited")
    assert container.status().exit_code == 3
    resting.program("rm", "rr")


def test_a_policy_of_a_living_container_holds_at_its_end(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "aa", "busybox", "sh", "-c", "sleep 0.5; exit 1")

    done = busybox.program("update", "--restart", "on-failure:2", "aa")

    assert done.returncode == 0, done.stderr.decode()
    container = sandbox.Engine().container("aa")
    until(lambda: container.status().word == "exited")
    assert container.status().restarts == 2
    policy = busybox.program("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "aa").stdout
    assert json.loads(policy) == {"Name": "on-failure", "MaximumRetryCount": 2}
    busybox.program("rm", "aa")


def test_a_policy_that_there_is_not_is_refused(busybox: Store) -> None:
    busybox.program("create", "--name", "aa", "busybox", "true")

    done = busybox.program("update", "--restart", "sometimes", "aa")

    assert done.returncode == 1
    assert done.stderr == b"invalid restart policy 'sometimes'\n"
    busybox.program("rm", "aa")
