"""Health checks by the monitor alone: what checks do to it, which is nothing, and what it writes.

The stub joins nothing, so that a check runs beside the container: what holds a
check is tested with the engine.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requires
from kit.monitored import ENVIRONMENT, SANITIZED, Monitored, build

from sandbox.errors import LaunchFailed
from sandbox.monitor import client, health
from sandbox.monitor.health import Health, HealthResult
from sandbox.native.plan import LIFETIME_WITH_LAUNCHER, Op, encode, op

pytestmark = requires.root

ENTER = op("enter", 0, 0)


def plan_of(
    script: str, *, argv: tuple[str, ...] = (), settings: tuple[Op, ...] = (ENTER,)
) -> bytes:
    return encode(
        [
            op("id", "test"),
            op("stdio", 0, 0, 0),
            *settings,
            op("lifetime", LIFETIME_WITH_LAUNCHER),
            op("exec", argv or ("sh", "-c", script), ENVIRONMENT, 0),
        ]
    )


def checked(
    script: str,
    *,
    interval_ms: int = 20,
    timeout_ms: int = 20_000,
    retries: int = 1,
    start_period_ms: int = 0,
    start_interval_ms: int = 20,
    argv: tuple[str, ...] = (),
) -> tuple[object, ...]:
    """The fields of the operation "health"."""
    plan = plan_of(script, argv=argv)
    return (plan, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms)


def state(monitored: Monitored) -> Health:
    return health.parse((monitored.state / "health").read_bytes())


def wait_for(monitored: Monitored, condition: Callable[[Health], object]) -> Health:
    deadline = time.monotonic() + 30
    while not condition(found := state(monitored)):
        assert time.monotonic() < deadline, f"not in 30 s: {found}"
        time.sleep(0.005)
    return found


def end(monitored: Monitored) -> None:
    assert monitored.launch is not None
    monitored.launch.kill()
    monitored.end()


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture(params=["plain", "sanitized"])
def either(
    request: pytest.FixtureRequest, monitored: Monitored, tmp_path_factory: pytest.TempPathFactory
) -> Monitored:
    """The monitor as it is, and with what sees its mistakes."""
    if request.param == "sanitized" and not SANITIZED:
        monitored.program = request.getfixturevalue("sanitized_program")
    return monitored


@pytest.fixture(scope="session")
def sanitized_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = build(tmp_path_factory.mktemp("sanitized_health"), sanitized=True)
    client._sealed_executable(program)
    return program


@pytest.fixture(scope="session", autouse=True)
def both_programs(sanitized_program: str) -> None:
    """Compiled before the first picture of what a test leaves behind."""


def test_it_starts_and_is_healthy_after_the_first_success(
    either: Monitored, tmp_path: Path
) -> None:
    launch = either.shell(
        "sleep 60", health=checked(f"echo one; echo 'two\\x' >&2; test -e {tmp_path}/x")
    )
    launch.wait_started(timeout_s=20)
    assert state(either).status in ("starting", "unhealthy")

    (tmp_path / "x").touch()
    found = wait_for(either, lambda each: each.status == "healthy")

    assert found.failing_streak == 0
    last = found.log[-1]
    assert sorted(last.output.split("\n")) == ["", "one", "two\\x"]
    assert last.exit_code == 0
    assert last.started_ns <= last.finished_ns
    end(either)


def test_it_is_unhealthy_after_so_many_failures_and_not_before(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("exit 3", retries=3, interval_ms=50))
    launch.wait_started(timeout_s=20)

    seen: dict[int, str] = {}
    found = wait_for(
        either,
        lambda each: seen.setdefault(each.failing_streak, each.status) and len(each.log) == 5,
    )

    words = {streak: "unhealthy" if streak >= 3 else "starting" for streak in seen}
    assert seen == words
    assert (found.status, found.log[0].exit_code) == ("unhealthy", 3)
    end(either)


def test_five_results_are_kept(either: Monitored, tmp_path: Path) -> None:
    launch = either.shell("sleep 60", health=checked(f"echo >>{tmp_path}/n; wc -l <{tmp_path}/n"))
    launch.wait_started(timeout_s=20)

    found = wait_for(either, lambda each: len(each.log) == 5 and each.log[-1].output.strip() > "6")

    numbers = [int(each.output) for each in found.log]
    assert numbers == [*range(numbers[0], numbers[0] + 5)]
    end(either)


def test_failures_in_the_start_period_do_not_count_and_come_at_its_own_pace(
    either: Monitored, tmp_path: Path
) -> None:
    launch = either.shell(
        "sleep 60",
        health=checked(
            f"test -e {tmp_path}/x",
            interval_ms=30,
            start_period_ms=1_000_000,
            start_interval_ms=10,
        ),
    )
    launch.wait_started(timeout_s=20)
    found = wait_for(either, lambda each: len(each.log) == 5)
    assert (found.status, found.failing_streak) == ("starting", 0)

    # The first success ends it: from then on a failure counts.
    (tmp_path / "x").touch()
    wait_for(either, lambda each: each.status == "healthy")
    (tmp_path / "x").unlink()
    found = wait_for(either, lambda each: each.status == "unhealthy")

    assert found.failing_streak >= 1
    end(either)


def test_a_check_that_hangs_is_ended_with_its_session(either: Monitored, tmp_path: Path) -> None:
    script = f"trap '' TERM INT HUP; echo slow; sleep 1000 & echo $! >{tmp_path}/pid; wait"
    launch = either.shell("sleep 60", health=checked(script, timeout_ms=300, interval_ms=10))
    launch.wait_started(timeout_s=20)

    found = wait_for(either, lambda each: each.status == "unhealthy")

    assert found.log[0].exit_code == -1
    assert found.log[0].output == "Health check exceeded timeout (300ms): slow\n"
    end(either)


def test_output_without_end_is_cut_and_no_reason_to_wait(either: Monitored) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' '\\n'; echo end >&2; exit 5"
    launch = either.shell("sleep 60", health=checked(script))
    launch.wait_started(timeout_s=20)

    found = wait_for(either, lambda each: each.status == "unhealthy")

    assert found.log[0] == HealthResult(
        started_ns=found.log[0].started_ns,
        finished_ns=found.log[0].finished_ns,
        exit_code=5,
        output="\n" * 4096 + "...",
    )
    end(either)


def test_output_of_exactly_the_bound_is_whole(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("head -c 4096 /dev/zero | tr '\\0' '\\\\'"))
    launch.wait_started(timeout_s=20)

    found = wait_for(either, lambda each: each.status == "healthy")

    assert found.log[0].output == "\\" * 4096
    end(either)


def test_a_child_that_keeps_the_output_open_holds_nothing_up(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("sleep 1000 & echo $!"))
    launch.wait_started(timeout_s=20)
    found = wait_for(either, lambda each: each.status == "healthy")

    end(either)
    for each in found.log:  # The stub has no namespace that would end them.
        os.kill(int(each.output), signal.SIGKILL)


def test_a_command_that_is_not_there_is_told_in_one_sentence(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("", argv=("no\nsuch",)))
    launch.wait_started(timeout_s=20)

    found = wait_for(either, lambda each: each.status == "unhealthy")

    assert found.log[0].exit_code == -1
    assert 'exec: "no\nsuch": executable file not found' in found.log[0].output
    end(either)


def test_a_check_ended_by_a_signal_has_the_code_that_a_shell_gives_it(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("kill -SEGV $$"))
    launch.wait_started(timeout_s=20)

    assert wait_for(either, lambda each: bool(each.log)).log[0].exit_code == 128 + 11
    end(either)


def test_a_check_whose_monitor_is_killed_has_failed(either: Monitored) -> None:
    launch = either.shell("sleep 60", health=checked("sleep 1000"))
    started = launch.wait_started(timeout_s=20)
    deadline = time.monotonic() + 20
    while not (others := set(children_of(started.monitor)) - {started.pid}):
        assert time.monotonic() < deadline
    os.kill(others.pop(), signal.SIGKILL)

    found = wait_for(either, lambda each: each.status == "unhealthy")

    assert found.log[0].exit_code == -1
    assert "without a word" in found.log[0].output
    end(either)


def test_the_end_of_the_container_waits_for_no_check(either: Monitored) -> None:
    launch = either.shell("sleep 0.3; exit 7", health=checked("exec sleep 1000", interval_ms=1))
    started = launch.wait_started(timeout_s=20)

    record = either.end()

    assert record.exit_code == 7
    assert not Path(f"/proc/{started.monitor}").exists()
    assert state(either).log == ()


def test_a_hundred_checks_leave_no_descriptor_and_no_process(
    either: Monitored, tmp_path: Path
) -> None:
    launch = either.shell("sleep 60", health=checked(f"echo x >>{tmp_path}/n", interval_ms=1))
    started = launch.wait_started(timeout_s=20)
    wait_for(either, lambda each: each.status == "healthy")

    def settled() -> int:
        # Between two checks: a process that is there is the container's alone.
        deadline = time.monotonic() + 30
        while True:
            before = descriptors_of(started.monitor)
            if children_of(started.monitor) == [started.pid]:
                return before
            assert time.monotonic() < deadline

    least = min(settled() for _ in range(5))
    while len((tmp_path / "n").read_text()) < 200:
        time.sleep(0.01)

    assert min(settled() for _ in range(20)) <= least
    end(either)


def test_a_restart_begins_anew_with_starting(either: Monitored, tmp_path: Path) -> None:
    script = f"if test -e {tmp_path}/go; then sleep 60; fi; until test -e {tmp_path}/go; do :; done"
    check = checked(f"test ! -e {tmp_path}/go", retries=100_000)
    launch = either.shell(script, health=check, restart=(2, 0))
    launch.wait_started(timeout_s=20)
    wait_for(either, lambda each: each.status == "healthy")
    (tmp_path / "go").touch()

    found = wait_for(either, lambda each: each.status == "starting")

    assert found.log != ()  # what was, is kept
    (tmp_path / "go").unlink()
    assert wait_for(either, lambda each: each.status == "healthy").failing_streak == 0
    end(either)


def test_resident_memory_stays_small(monitored: Monitored) -> None:
    if SANITIZED:
        pytest.skip("a sanitizer's shadow is larger")
    launch = monitored.shell(
        "sleep 60", health=checked("head -c 9000 /dev/zero | tr '\\0' '\\n'", interval_ms=1)
    )
    started = launch.wait_started(timeout_s=20)
    wait_for(monitored, lambda each: len(each.log) == 5)

    status = Path(f"/proc/{started.monitor}/status").read_text()

    assert int(status.partition("VmHWM:")[2].split()[0]) < 1024
    end(monitored)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        (op("enter", 1, 0),),
        (op("enter", 0, 1),),
        (ENTER, op("folders", "/", "/", "/")),
        (ENTER, op("exit_command", ("true",), ())),
        (ENTER, op("health", b"", 1, 1, 1, 1, 1)),
    ],
)
def test_a_check_is_an_exec_that_joins_nobody_yet_and_nothing_else(
    monitored: Monitored, settings: tuple[Op, ...]
) -> None:
    launch = monitored.shell("exit 0", health=(plan_of("exit 0", settings=settings), 1, 1, 1, 1, 1))

    with pytest.raises(LaunchFailed):
        launch.wait_started(timeout_s=20)

    monitored.end()


@pytest.mark.parametrize("at", range(1, 6))
def test_times_without_meaning_are_refused(monitored: Monitored, at: int) -> None:
    for wrong in (-1, 1 << 60):
        fields = [plan_of("exit 0"), 1, 1, 1, 1, 1]
        fields[at] = wrong

        launch = monitored.shell("exit 0", health=tuple(fields))

        with pytest.raises(LaunchFailed):
            launch.wait_started(timeout_s=20)
        monitored.end()


def test_bytes_that_are_no_plan_are_refused(monitored: Monitored) -> None:
    for wrong in (b"", b"\0", b"SBXPLAN\0" + bytes(16), plan_of("x")[:-8]):
        launch = monitored.shell("exit 0", health=(wrong, 1, 1, 1, 1, 1))

        with pytest.raises(LaunchFailed):
            launch.wait_started(timeout_s=20)
        monitored.end()
