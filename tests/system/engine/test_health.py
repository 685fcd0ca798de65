"""Health checks of real containers: the command, the plan of its check, the monitor, the kernel."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox
from sandbox.monitor import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay]

HOW = ("--health-interval", "30ms", "--health-timeout", "20s", "--health-retries", "1")


def run(store: Store, *options: str, command: tuple[str, ...] = ("sleep", "1000")) -> str:
    done = store.program("run", "-d", *HOW, *options, "busybox", *command)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def wait_for(name: str, condition: Callable[[sandbox.Health], object]) -> sandbox.Health:
    container = sandbox.Engine().container(name)
    deadline = time.monotonic() + 30
    while True:
        found = container.health()
        if found is not None and condition(found):
            return found
        assert time.monotonic() < deadline, f"not in 30 s: {found}"
        time.sleep(0.01)


def status_of(store: Store, name: str) -> str:
    shown = store.program("ps", "-a", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert shown.returncode == 0, shown.stderr.decode()
    return shown.stdout.decode().strip()


def state_of(store: Store, name: str) -> dict[str, object]:
    done = store.program("inspect", "--format", "{{json .State}}", name)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


def started(name: str) -> protocol.Started:
    container = sandbox.Engine().container(name)
    live = container._paths.live_container(container.id)
    found = protocol.parse_started(Path(f"{live}/started").read_bytes())
    assert found is not None
    return found


def test_starting_healthy_unhealthy_as_ps_and_inspect_show_it(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "cat /word && test -f /x", "--health-interval=1h")
    assert status_of(busybox, "aa").endswith(" (health: starting)")
    assert state_of(busybox, "aa")["Health"] == {
        "Status": "starting",
        "FailingStreak": 0,
        "Log": [],
    }
    busybox.program("rm", "-f", "aa")

    run(busybox, "--name", "bb", "--health-cmd", "test -f /x || { echo not yet; false; }")
    wait_for("bb", lambda each: each.status == "unhealthy")
    assert status_of(busybox, "bb").endswith(" (unhealthy)")
    health = state_of(busybox, "bb")["Health"]
    assert isinstance(health, dict)
    assert list(health) == ["Status", "FailingStreak", "Log"]
    assert list(health["Log"][-1]) == ["Start", "End", "ExitCode", "Output"]
    assert (health["Log"][-1]["ExitCode"], health["Log"][-1]["Output"]) == (1, "not yet\n")

    assert busybox.program("exec", "bb", "touch", "/x").returncode == 0
    wait_for("bb", lambda each: each.status == "healthy")
    assert status_of(busybox, "bb").endswith(" (healthy)")

    for word, names in (("healthy", "bb"), ("unhealthy", ""), ("starting", ""), ("none", "")):
        shown = busybox.program("ps", "-a", "--filter", f"health={word}", "--format", "{{.Names}}")
        assert shown.stdout.decode().strip() == names


def test_a_container_without_a_check_says_nothing_of_health(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "aa", "busybox", "sleep", "1000")

    assert not status_of(busybox, "aa").endswith(")")
    assert "Health" not in state_of(busybox, "aa")
    assert sandbox.Engine().container("aa").health() is None
    shown = busybox.program("ps", "--filter", "health=none", "--format", "{{.Names}}")
    assert shown.stdout == b"aa\n"


def test_health_of_a_stopped_container_is_kept_until_its_next_start(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "echo well")
    wait_for("aa", lambda each: each.status == "healthy")

    busybox.program("stop", "-t", "0", "aa")
    health = state_of(busybox, "aa")["Health"]
    assert isinstance(health, dict)
    assert health["Status"] == "unhealthy"
    assert health["Log"][-1]["Output"] == "well\n"
    assert status_of(busybox, "aa").startswith("Exited (137)")

    container = sandbox.Engine().container("aa")
    before = time.time_ns()
    busybox.program("start", "aa")
    found = wait_for("aa", lambda each: each.status == "healthy")
    assert before <= found.log[0].started_ns
    container.kill()


def test_health_begins_anew_after_a_restart_by_policy(busybox: Store) -> None:
    script = "rm -f /end; until test -e /end; do sleep 0.02; done"
    options = ("--health-cmd", "test -e /well", "--health-retries", "100000")
    run(busybox, "--name", "aa", "--restart=always", *options, command=("sh", "-c", script))
    assert busybox.program("exec", "aa", "touch", "/well").returncode == 0
    wait_for("aa", lambda each: each.status == "healthy")

    ending = busybox.program("exec", "aa", "sh", "-c", "rm /well; touch /end")
    assert ending.returncode in (0, 137)  # the end of the container is its own

    wait_for("aa", lambda each: each.status == "starting" and each.failing_streak > 1)
    assert status_of(busybox, "aa").endswith(" (health: starting)")
    assert busybox.program("exec", "aa", "touch", "/well").returncode == 0
    wait_for("aa", lambda each: each.status == "healthy")


def test_the_image_s_check_is_carried_out_completed_and_switched_off(busybox: Store) -> None:
    change = "HEALTHCHECK --interval=20ms --retries=1 CMD test -e /bin/busybox"
    made = busybox.program("import", "-c", change, "-", "well", stdin=tree_of_busybox())
    assert made.returncode == 0, made.stderr.decode()
    assert busybox.program("run", "-d", "--name", "aa", "well", "sleep", "1000").returncode == 0
    wait_for("aa", lambda each: each.status == "healthy")
    shown = busybox.program("inspect", "--format", "{{json .Config.Healthcheck}}", "aa")
    assert json.loads(shown.stdout) == {
        "Test": ["CMD-SHELL", "test -e /bin/busybox"],
        "Interval": 20_000_000,
        "Retries": 1,
    }

    options = ("--name", "bb", "--health-cmd", "false")
    assert busybox.program("run", "-d", *options, "well", "sleep", "1000").returncode == 0
    wait_for("bb", lambda each: each.status == "unhealthy")

    options = ("--name", "cc", "--no-healthcheck")
    assert busybox.program("run", "-d", *options, "well", "sleep", "1000").returncode == 0
    assert "Health" not in state_of(busybox, "cc")
    shown = busybox.program("inspect", "--format", "{{json .Config.Healthcheck}}", "cc")
    assert json.loads(shown.stdout) == {"Test": ["NONE"]}


def tree_of_busybox() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for layer in sandbox.Engine().image("busybox").layers:
            tar.add(layer, arcname=".")
    return buffer.getvalue()


def test_a_check_is_held_as_an_exec_is(busybox: Store) -> None:
    seen = (
        "grep -E 'Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:' /proc/self/status; pwd; echo $A; "
        "exec 2>&1; cat /proc/self/cgroup /proc/self/oom_score_adj; ulimit -n; "
        "for n in /proc/self/ns/*; do readlink $n; done; "
        "cat /proc/self/loginuid; ls /proc/self/fd | wc -l; env | grep -v SHLVL | sort; cat"
    )
    run(
        busybox,
        *("--name", "aa", "--health-cmd", seen, "-e", "A=b c", "-u", "12:34", "-w", "/tmp", "-t"),
        *("--cap-drop", "CHOWN", "--ulimit", "nofile=99", "--oom-score-adj", "500"),
        *("--security-opt", "no-new-privileges", "--memory", "64m", "--pids-limit", "50"),
    )

    found = wait_for("aa", lambda each: each.log).log[-1]

    expected = busybox.program("exec", "aa", "/bin/sh", "-c", seen).stdout.decode()
    assert found.exit_code == 0
    assert found.output.splitlines() == expected.splitlines()
    assert "Uid:\t12\t12\t12\t12" in expected


def test_a_check_counts_in_the_container_s_limits(busybox: Store) -> None:
    run(
        busybox,
        *("--name", "aa", "--memory", "32m"),
        *("--health-cmd", "tail -c 100m /dev/zero >/dev/null"),
    )

    found = wait_for("aa", lambda each: each.status == "unhealthy")

    assert found.log[0].exit_code == 137
    assert status_of(busybox, "aa").startswith("Up ")


@pytest.mark.parametrize("options", [("--userns", "auto"), ("--pid", "host"), ("--init",)])
def test_checks_in_other_namespaces(busybox: Store, options: tuple[str, ...]) -> None:
    run(busybox, "--name", "aa", *options, "--health-cmd", "sleep 0; echo well")

    assert wait_for("aa", lambda each: each.status == "healthy").log[-1].output == "well\n"
    busybox.program("rm", "-f", "aa")


def test_a_check_that_forks_and_hangs_goes_with_its_container(busybox: Store) -> None:
    script = "for i in 1 2 3; do sleep 1000 & done; setsid sleep 1000 & exec sleep 1000"
    run(busybox, "--name", "aa", "--health-cmd", script, "--health-timeout", "200ms")

    found = wait_for("aa", lambda each: len(each.log) >= 2)
    assert found.log[0].output == "Health check exceeded timeout (200ms)"

    assert busybox.program("kill", "aa").returncode == 0
    assert busybox.program("rm", "-f", "aa").returncode == 0


def test_the_end_of_a_container_is_no_failure_of_its_check(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "touch /on; exec sleep 1000")
    run(busybox, "--name", "bb", "--health-cmd", "true", "--health-interval", "1ms")
    container, other = (sandbox.Engine().container(name) for name in ("aa", "bb"))
    for _ in range(10):
        wait_for("bb", lambda each: each.status == "healthy")
        while busybox.program("exec", "aa", "test", "-e", "/on").returncode:
            assert container.status().is_live

        for each in (container, other):
            each.kill()
            each.wait()

        health, others = container.health(), other.health()
        assert health is not None
        assert health.log == ()
        assert others is not None
        assert {result.exit_code for result in others.log} == {0}
        os.unlink(f"{container.folder}/upper/on")
        for each in (container, other):
            busybox.program("start", each.name)


def test_nothing_is_checked_while_paused(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "true")
    wait_for("aa", lambda each: each.status == "healthy")
    assert busybox.program("pause", "aa").returncode == 0
    paused_ns = time.time_ns()

    time.sleep(1)  # time for thirty

    health = sandbox.Engine().container("aa").health()
    assert health is not None
    # One can have begun at that very moment, and is frozen.
    assert sum(each.started_ns > paused_ns for each in health.log) <= 1
    assert status_of(busybox, "aa").endswith(" (Paused)")
    resumed_ns = time.time_ns()
    assert busybox.program("unpause", "aa").returncode == 0
    found = wait_for("aa", lambda each: each.log[-1].started_ns > resumed_ns)
    assert (found.status, found.log[-1].exit_code) == ("healthy", 0)


def test_a_check_that_is_paused_in_the_middle_has_its_time_anew(
    busybox: Store, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    script = "touch /v/on; until test -e /v/go; do sleep 0.01; done"
    options = ("-v", f"{here}:/v", "--health-timeout", "3s")
    run(busybox, "--name", "aa", *options, "--health-cmd", script)
    deadline = time.monotonic() + 20
    while not (here / "on").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert busybox.program("pause", "aa").returncode == 0

    time.sleep(3.5)  # longer than a check may take
    (here / "go").touch()
    assert busybox.program("unpause", "aa").returncode == 0

    assert wait_for("aa", lambda each: each.log).log[0].exit_code == 0


def test_a_paused_container_with_a_check_in_it_can_be_removed(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "touch /on; sleep 1000")
    deadline = time.monotonic() + 20
    while busybox.program("exec", "aa", "test", "-e", "/on").returncode:
        assert time.monotonic() < deadline
    assert busybox.program("pause", "aa").returncode == 0

    done = busybox.program("rm", "-f", "aa")

    assert done.returncode == 0, done.stderr.decode()


def test_a_killed_monitor_leaves_no_check(busybox: Store) -> None:
    run(busybox, "--name", "aa", "--health-cmd", "touch /on; sleep 1000")
    deadline = time.monotonic() + 20
    while busybox.program("exec", "aa", "test", "-e", "/on").returncode:
        assert time.monotonic() < deadline

    os.kill(started("aa").monitor, 9)

    deadline = time.monotonic() + 20
    while not status_of(busybox, "aa").startswith("Exited"):
        assert time.monotonic() < deadline
    assert busybox.program("rm", "aa").returncode == 0


def test_a_kept_plan_checks_the_next_container_and_not_the_first(busybox: Store) -> None:
    options = ("--health-cmd", "touch /checked; hostname")
    ids = [run(busybox, *options) for _ in range(3)]

    for each in ids:
        found = wait_for(each, lambda health: health.status == "healthy")
        assert found.log[-1].output == f"{each[:12]}\n"


@pytest.fixture
def hundred(busybox: Store) -> Iterator[list[sandbox.Container]]:
    engine = sandbox.Engine()
    made = [
        engine.create(
            "busybox", ["sleep", "1000"], health_cmd=["echo", "well"], health_interval=1.0
        )
        for _ in range(100)
    ]
    attachments = [each.start() for each in made]
    yield made
    for each in attachments:
        each.signal("KILL")
    for each in attachments:
        each.wait()
    for container in made:
        container.remove()


def test_a_hundred_containers_checked_each_second(hundred: list[sandbox.Container]) -> None:
    deadline = time.monotonic() + 90
    pending = list(hundred)
    while pending:
        assert time.monotonic() < deadline
        pending = [
            each for each in pending if (found := each.health()) is None or len(found.log) < 4
        ]
        time.sleep(0.1)

    for each in hundred:
        found = each.health()
        assert found is not None
        assert {result.exit_code for result in found.log} == {0}
        monitor = started(each.id).monitor
        status = Path(f"/proc/{monitor}/status").read_text()
        assert int(status.partition("VmRSS:")[2].split()[0]) < 1024
        assert len(os.listdir(f"/proc/{monitor}/fd")) < 30
        children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
        assert len(children) <= 2  # the container's, and a check's
