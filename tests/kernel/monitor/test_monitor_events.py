"""What a monitor writes into the event log, alone."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import requires

from sandbox.monitor import client
from sandbox.paths import Paths
from sandbox.state import eventlog, events

if TYPE_CHECKING:
    from kit.monitored import Monitored

pytestmark = requires.root


def paths_of(monitored: Monitored) -> Paths:
    return Paths(root=str(monitored.folder), run=str(monitored.run))


def said(monitored: Monitored) -> list[str]:
    return [
        " ".join([event.action, *(f"{key}={value}" for key, value in event.attributes)])
        for event in eventlog.read(paths_of(monitored))
    ]


def test_every_run_of_a_restarted_container_starts_and_dies(monitored: Monitored) -> None:
    log = paths_of(monitored).events

    monitored.outcome("exit 3", restart=(2, 2), events=(log, ""))

    assert said(monitored) == ["start", "die exitCode=3"] * 3


def test_a_program_that_was_never_executed_has_no_events(monitored: Monitored) -> None:
    launch = monitored.start(["/no/such/program"], events=(paths_of(monitored).events, ""))
    launch.wait(timeout_s=20)
    monitored.close()

    assert said(monitored) == []


def test_signals_and_stops_are_written_before_the_death(monitored: Monitored) -> None:
    log = paths_of(monitored).events
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    monitored.shell(
        "trap 'exit 4' USR1; echo ready; while :; do sleep 0.01; done",
        events=(log, ""),
        stdio=(0, write_end, 2),
    )
    os.close(write_end)
    os.read(read_end, 10)  # process 1 of its namespace is deaf to what it does not handle

    with client.connect(str(monitored.run)) as control:
        control.signal(28)
        control.signal(10, stop=True)
    monitored.end()
    os.close(read_end)

    found = said(monitored)
    assert found[:3] == ["start", "kill signal=28", "kill signal=10"]
    assert found[3].startswith("die exitCode=")
    assert found[4:] == ["stop"]


def test_a_log_that_cannot_be_written_fails_no_run(monitored: Monitored) -> None:
    record = monitored.outcome("exit 0", events=("/proc/no/such/folder/events", ""))

    assert record.exit_code == 0


def test_the_monitor_makes_a_full_log_the_old_one(monitored: Monitored) -> None:
    log = monitored.folder / "events"
    line = b"\x1e1\timage\tpull\t" + b"x" * 1000 + b"\n"
    log.write_bytes(line * (events.MAX_BYTES // len(line) + 1))

    monitored.outcome("exit 0", events=(str(log), ""))

    assert (monitored.folder / "events.1").read_bytes().count(b"\tstart\t") == 1
    assert log.read_bytes().count(b"\n") == 1
    assert said(monitored)[-2:] == ["start", "die exitCode=0"]


def test_a_stop_between_two_runs_is_written(monitored: Monitored) -> None:
    events_of = paths_of(monitored).events
    launch = monitored.shell("exit 1", restart=(2, 0), lifetime=(0,), events=(events_of, ""))
    launch.wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        deadline = time.monotonic() + 20
        while control.status()["phase"] != "resting":
            assert time.monotonic() < deadline
        control.signal(15, stop=True)
    monitored.end()

    found = said(monitored)
    assert found[-2:] == ["die exitCode=1", "stop"]
    assert found.count("stop") == 1


def test_a_kill_is_no_stop(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60", events=(paths_of(monitored).events, ""))
    launch.wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        control.kill()
    monitored.end()

    assert said(monitored) == ["start", "kill signal=9", "die exitCode=137"]
