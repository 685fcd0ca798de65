"""`Container.exec_run` and `Container.exec_start`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


@pytest.fixture
def container(busybox: Store) -> Iterator[sandbox.Container]:
    made = sandbox.Engine().create("busybox", ["sleep", "1000"], memory="64m")
    with made.start() as attachment:
        yield made
        attachment.signal("KILL")
        attachment.wait()
    made.remove()


def test_both_outputs_and_the_ending_come_back(container: sandbox.Container) -> None:
    result = container.exec_run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")

    assert (result.stdout, result.stderr) == (b"in", b"err\n")
    assert (result.exit_code, result.signal, result.verdict) == (3, None, "nonzero")
    assert not result.ok
    assert result.container_id == container.id


def test_a_large_input_comes_back_whole(container: sandbox.Container) -> None:
    data = os.urandom(3_000_000)

    assert container.exec_run(["cat"], stdin=data).stdout == data


def test_what_is_asked_for(container: sandbox.Container) -> None:
    result = container.exec_run(
        ["sh", "-c", "echo $A $(id -u) $(pwd)"], env={"A": "1"}, user=5, workdir="/tmp"
    )

    assert result.text == "1 5 /tmp\n"


def test_a_timeout_is_a_verdict(container: sandbox.Container) -> None:
    result = container.exec_run(["sleep", "1000"], timeout=0.1)

    assert (result.verdict, result.signal) == ("wall_timeout", 9)


def test_an_oom_kill_is_a_verdict(container: sandbox.Container) -> None:
    result = container.exec_run(["sh", "-c", "exec tail -c 200m /dev/zero"], timeout=20)

    assert result.verdict == "oom"
    assert container.exec_run(["true"]).ok


def test_errors_of_the_library(container: sandbox.Container) -> None:
    with pytest.raises(sandbox.ExecFailed):
        container.exec_run(["nosuchcmd"])
    with pytest.raises(sandbox.LaunchFailed):
        container.exec_run(["true"], workdir="/nosuch")
    with pytest.raises(sandbox.UsageError):
        container.exec_run(["true"], memory="64m")  # type: ignore[call-arg]  # the point
    with pytest.raises(sandbox.UsageError):
        container.exec_run([])
    container.stop(0)
    with pytest.raises(sandbox.WrongStatus):
        container.exec_run(["true"])


def test_an_exec_that_is_let_go_dies_with_its_launcher_only_if_told_so(
    container: sandbox.Container,
) -> None:
    stay = container.exec_start(["sleep", "888"])
    go = container.exec_start(["sleep", "889"], with_launcher=True)

    stay.close()
    go.abandon()
    left = container.exec_run(["ps"]).text
    container.exec_run(["sh", "-c", "kill $(pidof sleep)"])
    os.waitpid(stay.monitor_pid, 0)

    assert "sleep 888" in left
    assert "sleep 889" not in left


def test_fifty_execs_leave_nothing_in_the_container(container: sandbox.Container) -> None:
    for _ in range(50):
        assert container.exec_run(["true"]).ok

    lines = container.exec_run(["ps"]).text.splitlines()

    assert len(lines) == 3  # the head, the first process, ps itself


def test_a_container_that_hands_controllers_down_is_entered_beside_its_first_process(
    busybox: Store,
) -> None:
    """As an init system does: the container's own group takes no process any more (EBUSY)."""
    if requires.layout() == "legacy":
        requires.another_host("a v2 tree")
    script = """
        top=/sys/fs/cgroup/unified; [ -d $top ] || top=/sys/fs/cgroup
        mkdir $top/first; echo $$ > $top/first/cgroup.procs
        for each in $(cat $top/cgroup.controllers); do
            echo +$each > $top/cgroup.subtree_control
        done
        echo ready; exec sleep 1000
    """
    busybox.program("run", "-d", "--name", "box", "--privileged", "busybox", "sh", "-c", script)
    while b"ready" not in busybox.program("logs", "box").stdout:
        time.sleep(0.01)

    done = busybox.program("exec", "box", "cat", "/proc/1/cgroup", "/proc/self/cgroup")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"0::/first\n") == 2
