"""From launch to exit record: endings, limits, kills, and deaths of the others."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import requires
from kit.monitored import SANITIZED, Monitored

from sandbox.errors import ExecFailed, LaunchFailed, MonitorLost, WrongStatus
from sandbox.monitor import client, exitrecord
from sandbox.monitor.exitrecord import verdict_of

pytestmark = requires.root

version_1 = pytest.mark.skipif(
    requires.layout() == "unified", reason="for cgroup version 1; the v2 tests are the engine's"
)


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 20
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, f"not in 20 s: {what}"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_exit_code_is_in_the_record(monitored: Monitored) -> None:
    record = monitored.outcome("exit 3")

    assert record.exit_code == 3
    assert record.signal is None
    assert verdict_of(record)[0] == "nonzero"
    assert monitored.exit_file() == record


def test_signal_is_in_the_record(monitored: Monitored) -> None:
    # Process 1 of a pid namespace cannot end itself by a signal: no namespace.
    record = monitored.outcome("kill -SEGV $$", namespaces=(0,))

    assert (record.exit_code, record.signal) == (None, signal.SIGSEGV)
    assert verdict_of(record)[0] == "signal"


def test_started_names_the_process_and_the_boot(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")

    started = launch.wait_started(timeout_s=20)

    assert is_running(started.pid)
    assert started.monitor == launch.monitor_pid
    assert started.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    facts = dict(
        line.split(" ", 1) for line in (monitored.run / "started").read_text().splitlines()
    )
    assert int(facts["pid"]) == started.pid
    launch.kill()
    monitored.end()


def test_times_fit_together(monitored: Monitored) -> None:
    before = time.time_ns()

    record = monitored.outcome("sleep 0.1")

    assert record.started_ns is not None
    assert record.finished_ns is not None
    assert record.wall_ns is not None
    assert before <= record.started_ns < record.finished_ns <= time.time_ns()
    assert record.wall_ns >= 90_000_000


def test_missing_program_is_exec_failed(monitored: Monitored) -> None:
    launch = monitored.start(["nosuchcmd"])

    with pytest.raises(
        ExecFailed, match=r'^exec: "nosuchcmd": executable file not found'
    ) as caught:
        launch.wait_started(timeout_s=20)

    assert caught.value.errno == errno.ENOENT
    assert verdict_of(monitored.end()) == ("exec_failed", "not_found")


def test_failing_step_is_launch_failed(monitored: Monitored) -> None:
    from sandbox.native.plan import encode, op

    monitored.plan = lambda argv, **settings: encode(  # type: ignore[method-assign]
        [
            op("id", "test"),
            op("folders", str(monitored.state), str(monitored.run), "/mnt"),
            op("workdir", "/no such\nfolder\\", 0),
            op("exec", ["true"], [], 0),
        ]
    )
    launch = monitored.start(["true"])

    with pytest.raises(LaunchFailed) as caught:
        launch.wait_started(timeout_s=20)

    assert caught.value.step == "workdir"
    assert caught.value.syscall in ("chdir", "openat2"), "the stub, or the real launch"
    assert caught.value.path == "/no such\nfolder\\"
    monitored.end()


def test_damaged_plan_is_launch_failed(monitored: Monitored) -> None:
    monitored.plan = lambda argv, **settings: b"no plan"  # type: ignore[method-assign]
    launch = monitored.start(["true"])

    with pytest.raises(LaunchFailed):
        launch.wait_started(timeout_s=20)

    launch.close()
    launch.wait_gone()
    assert not client.is_alive(str(monitored.run))


def test_lock_is_held_until_the_end_and_free_after_it(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)
    held = client.is_alive(str(monitored.run))

    launch.kill()
    monitored.end()

    assert held
    assert not client.is_alive(str(monitored.run))


def test_wall_limit_kills(monitored: Monitored) -> None:
    record = monitored.outcome("sleep 60", limits=(100, 0, 0))

    assert record.kill_reason == "wall_timeout"
    assert verdict_of(record)[0] == "wall_timeout"


def test_program_quicker_than_the_wall_limit_keeps_its_ending(monitored: Monitored) -> None:
    record = monitored.outcome("exit 0", limits=(20000, 0, 0))

    assert verdict_of(record)[0] == "ok"


def test_cpu_limit_kills_without_a_cgroup(monitored: Monitored) -> None:
    record = monitored.outcome("while :; do :; done", limits=(0, 100_000, 0))

    assert verdict_of(record)[0] == "cpu_timeout"


def test_sleeping_does_not_use_up_the_cpu_limit(monitored: Monitored) -> None:
    record = monitored.outcome("sleep 0.3", limits=(0, 100_000, 0))

    assert verdict_of(record)[0] == "ok"


def test_kill_takes_the_whole_container(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 77 & sleep 78")
    started = launch.wait_started(timeout_s=20)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 2, "two children")
    pids = [int(word) for word in children.read_text().split()]

    with client.connect(str(monitored.run)) as control:
        control.kill()
    record = monitored.end()

    assert verdict_of(record)[0] == "killed_by_user"
    assert not any(is_running(pid) for pid in pids)


def test_stop_signal_that_ends_it_is_killed_by_user(monitored: Monitored) -> None:
    monitored.shell("exec sleep 60", namespaces=(0,)).wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        control.signal(signal.SIGTERM, stop=True)
        seen = control.wait()
    record = monitored.end()

    assert seen == record
    assert verdict_of(record) == ("killed_by_user", "SIGTERM")


def test_program_that_handles_the_stop_signal_keeps_its_exit_code(monitored: Monitored) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    launch = monitored.shell(
        "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done", stdio=(0, write_end, 2)
    )
    os.close(write_end)
    os.read(read_end, 10)

    launch.signal(signal.SIGTERM)
    record = monitored.end()

    os.close(read_end)
    assert (record.exit_code, record.user_signal) == (5, signal.SIGTERM)
    assert verdict_of(record)[0] == "nonzero"


def test_wait_for_exit_returns_none_when_it_takes_longer(monitored: Monitored) -> None:
    monitored.shell("sleep 60").wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        seen = control.wait_for_exit(timeout_s=0.05)
        control.kill()

    assert seen is None
    monitored.end()


def test_killed_monitor_frees_the_lock_and_takes_init_along(monitored: Monitored) -> None:
    launch = monitored.shell("exec sleep 60")
    started = launch.wait_started(timeout_s=20)

    os.kill(launch.monitor_pid, signal.SIGKILL)
    with pytest.raises(MonitorLost):
        launch.wait(timeout_s=20)

    launch.wait_gone()
    assert not client.is_alive(str(monitored.run))
    wait_until(lambda: not is_running(started.pid), "init is gone")
    with pytest.raises(MonitorLost):
        client.connect(str(monitored.run))


def test_terminated_monitor_ends_the_container_and_says_so(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)

    os.kill(launch.monitor_pid, signal.SIGTERM)

    assert monitored.end().kill_reason == "monitor_terminated"


def test_container_dies_with_its_launcher(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    started = launch.wait_started(timeout_s=20)

    launch.close()
    launch.wait_gone()

    assert not is_running(started.pid)
    assert monitored.exit_file().kill_reason == "launcher_gone"


def test_detached_container_outlives_its_launcher(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60", lifetime=(0,))
    started = launch.wait_started(timeout_s=20)

    launch.close()
    with client.connect(str(monitored.run)) as control:
        phase = control.status()["phase"]
        running = is_running(started.pid)
        control.kill()
        record = control.wait()

    launch.wait_gone()
    assert (phase, running) == ("running", True)
    assert record.kill_reason == "user"


def test_unknown_requests_are_refused_and_harmless(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)
    requests = (
        *(
            b"\0",
            b"dance\n",
            b"signal\n",
            b"signal x\n",
            b"signal 65\n",
            b"signal -9\n",
            b"signal 9 9",
        ),
        *(b"resize 1\n", b"resize 1 99999999999\n", b"attach 1\n", b"x" * 9000, b"kill stop\n"),
    )

    with client.connect(str(monitored.run)) as control:
        answers = []
        for request in requests:
            control._socket.send(request)  # type: ignore[union-attr]
            answers.append(control._socket.recv(1000))  # type: ignore[union-attr]
        assert control.status()["phase"] == "running"
        control.kill()

    assert all(answer.startswith(b"error ") for answer in answers), answers
    monitored.end()


def test_seventeenth_client_is_turned_away(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)
    clients = [client.connect(str(monitored.run)) for _ in range(16)]
    for each in clients:
        each.status()

    with client.connect(str(monitored.run)) as late, pytest.raises(MonitorLost):
        late.status()

    for each in clients:
        each.close()
    launch.kill()
    monitored.end()


def test_signal_after_the_end_is_wrong_status(monitored: Monitored) -> None:
    # A client that does not read its output holds the monitor in its last phase.
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    monitored.shell("head -c 200000 /dev/zero", stdio=(0, write_end, 2), log=("", 0, 0))
    os.close(write_end)
    with _connected(monitored) as control:
        _drain_until(read_end, lambda: control.status()["phase"] == "draining")

        with pytest.raises(WrongStatus):
            control.signal(signal.SIGUSR1)
        control.signal(signal.SIGTERM, stop=True)

    os.close(read_end)
    monitored.end()


def _connected(monitored: Monitored) -> client.Control:
    assert monitored.launch is not None
    monitored.launch.wait_started(timeout_s=20)
    return client.connect(str(monitored.run))


def _drain_until(fd: int, condition: object) -> None:
    assert callable(condition)
    rest = 100_000
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        if rest > 0:
            rest -= len(os.read(fd, min(rest, 4096)))
        else:
            time.sleep(0.01)


@pytest.mark.parametrize("launcher_stays", [False, True])
def test_exit_command_runs_at_the_very_end_for_a_launcher_that_left(
    monitored: Monitored, launcher_stays: bool
) -> None:
    launch = monitored.shell(
        "sleep 0.2",
        lifetime=(0,),
        exit_command=(
            ["/bin/sh", "-c", f"echo $A $(ls /proc/self/fd | wc -l) >{monitored.state}/x"],
            ["A=b"],
        ),
    )
    launch.wait_started(timeout_s=30)
    if launcher_stays:
        launch.wait(timeout_s=30)
    launch.close()
    launch.wait_gone()

    found = monitored.state / "x"
    # The shell's own: 0, 1, 2 and the folder that ls reads.
    assert (found.read_text().split() if found.exists() else None) == (
        None if launcher_stays else ["b", "4"]
    )


def test_restart_policy_starts_it_again_until_it_succeeds(monitored: Monitored) -> None:
    count = monitored.state / "count"

    record = monitored.outcome(
        f"echo x >>{count}; test $(wc -l <{count}) -eq 3", restart=(1, 0), lifetime=(0,)
    )

    assert count.read_text() == "x\n" * 3
    assert (record.exit_code, record.restarts) == (0, 2)


def test_restart_policy_keeps_to_its_bound(monitored: Monitored) -> None:
    record = monitored.outcome("exit 1", restart=(2, 2))

    assert (record.exit_code, record.restarts) == (1, 2)


def test_stop_ends_the_restarts(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60", restart=(2, 0), lifetime=(0,))
    launch.wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        control.kill()
        record = control.wait()

    monitored.end()
    assert record.kill_reason == "user"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's shadow is large")
def test_monitor_is_small(monitored: Monitored) -> None:
    launch = monitored.shell(
        "i=0; while [ $i -lt 3000 ]; do echo $i; echo $i >&2; i=$((i+1)); done; sleep 60"
    )
    launch.wait_started(timeout_s=20)
    wait_until(lambda: monitored.log.stat().st_size > 6000 * 40, "all output is logged")

    status = Path(f"/proc/{launch.monitor_pid}/status").read_text()
    resident = int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))

    launch.kill()
    monitored.end()
    assert resident < 1024, f"{resident} KiB"


def test_monitor_keeps_few_descriptors(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)

    folder = f"/proc/{launch.monitor_pid}/fd"
    targets = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]

    launch.kill()
    monitored.end()
    # 0-2, plan's place, launch socket, lock; signals, two folders, log, control, init, two pipes.
    assert len(targets) <= 14, targets
    assert sum("pipe" in target for target in targets) == 2


@version_1
@requires.cgroup("memory")
def test_oom_of_init_is_told_by_the_kernels_counter(monitored: Monitored) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"monitor-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text("16777216")
        program = "import os\nx = bytearray(1 << 28)\n"

        monitored.start(["python3", "-c", program], cgroups=((1, "memory", str(group)),))
        record = monitored.end()
    finally:
        if group.exists():
            group.rmdir()

    assert verdict_of(record)[0] == "oom", record
    assert record.memory_peak is not None
    assert 15 << 20 < record.memory_peak <= 16 << 20
    assert not group.exists(), "the monitor removes its groups"


def test_killed_by_hand_is_no_oom(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    started = launch.wait_started(timeout_s=20)

    os.kill(started.pid, signal.SIGKILL)

    assert verdict_of(monitored.end()) == ("signal", "SIGKILL")


@version_1
@requires.cgroup("cpuacct", "pids")
def test_cpu_time_and_pids_come_from_their_groups(monitored: Monitored) -> None:
    name = f"monitor-test-{os.getpid()}"
    groups = [Path("/sys/fs/cgroup", controller, name) for controller in ("cpuacct", "pids")]
    for group in groups:
        group.mkdir()
    (groups[1] / "pids.max").write_text("3")

    monitored.shell(
        "for i in 1 2 3 4 5 6; do sleep 0.2 & done; wait",
        cgroups=tuple((1, group.parent.name, str(group)) for group in groups),
    )
    record = monitored.end()

    assert record.pids_max_hits
    assert verdict_of(record)[0] == "pids_limit"
    receipt = exitrecord.receipt_of(record)
    assert receipt.user_cpu_s is not None
    assert receipt.system_cpu_s is not None
    assert ("user_cpu_s", "cpuacct.usage") in receipt.sources
    assert not any(group.exists() for group in groups)


@version_1
@requires.cgroup("cpuacct", "pids")
def test_counters_of_an_earlier_run_are_not_this_ones(monitored: Monitored) -> None:
    name = f"monitor-test-{os.getpid()}"
    groups = [Path("/sys/fs/cgroup", controller, name) for controller in ("cpuacct", "pids")]
    for group in groups:
        group.mkdir()
    (groups[1] / "pids.max").write_text("3")
    busy = (
        "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; for i in 1 2 3 4 5; do sleep 0.01 & done"
    )
    script = (
        f"test -e {monitored.state}/again && exit 0; touch {monitored.state}/again; {busy}; exit 1"
    )

    monitored.shell(
        script,
        restart=(1, 1),
        cgroups=tuple((1, group.parent.name, str(group)) for group in groups),
    )
    record = monitored.end()

    assert (record.exit_code, record.restarts, record.pids_max_hits) == (0, 1, 0)
    assert record.cpu_ns is not None
    assert record.cpu_ns < 20_000_000, "the loop was in the first run"
