"""From clone to execve: namespaces, what the program inherits, what a failure leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from kit import launch
from kit.launch import Box, step

from sandbox.native.plan import op


def test_program_runs_in_new_namespaces_of_every_kind(box: Box) -> None:
    outcome = box.shell(
        "for n in mnt uts ipc pid net cgroup; do readlink /proc/self/ns/$n; done",
        before=(op("cgroup_namespace"),),
    )

    assert outcome.status == 0, outcome
    inside = outcome.out.split()
    kinds = ("mnt", "uts", "ipc", "pid", "net", "cgroup")
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert len(inside) == len(kinds)
    assert not set(inside) & set(outside)


def test_program_is_process_one_and_sees_only_itself(any_box: Box) -> None:
    outcome = any_box.shell("echo $$; exec ps -o pid")

    assert outcome.out.split() == ["1", "PID", "1"]


def test_mounts_of_the_host_are_gone_after_the_pivot(any_box: Box) -> None:
    outcome = any_box.shell("cat /proc/self/mountinfo")

    points = [line.split()[4] for line in outcome.out.splitlines()]
    assert sorted(points) == ["/", "/dev", "/dev/pts", "/proc"]


def test_nothing_of_the_launch_is_seen_on_the_host(any_box: Box) -> None:
    before = Path("/proc/self/mountinfo").read_text().count("\n")
    with subprocess.Popen(
        any_box.command(any_box.plan("sh", "-c", "echo; cat")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdin is not None
        driver.stdout.readline()
        during = Path("/proc/self/mountinfo").read_text()
        driver.stdin.close()
        driver.wait()

    assert str(any_box.folder) not in during
    assert during.count("\n") == before


def test_program_inherits_descriptors_zero_to_two_only(box: Box) -> None:
    # The folder that the shell listed is closed again.
    script = "for f in /proc/$$/fd/*; do [ -L $f ] && echo $f; done; true"
    extra = os.open("/", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        done = subprocess.run(
            box.command(box.plan("sh", "-c", script)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(extra,),
            text=True,
            check=True,
        )
    finally:
        os.close(extra)

    assert [name.rpartition("/")[2] for name in done.stdout.split()] == ["0", "1", "2"]


def test_signals_mask_and_umask_are_reset(box: Box) -> None:
    def spoil() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN + 3})
        os.umask(0o077)

    done = subprocess.run(
        box.command(box.plan("cat", "/proc/self/status")),
        capture_output=True,
        text=True,
        preexec_fn=spoil,
        check=True,
    )

    facts = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    assert [facts[key] for key in ("SigBlk", "SigIgn", "SigCgt")] == ["0" * 16] * 3
    assert facts["Umask"] == "0022"


def test_umask_of_the_plan_is_the_programs(box: Box) -> None:
    outcome = box.shell("umask", after=(op("umask", 0o027),))

    assert outcome.out == "0027\n"


def test_closed_standard_descriptors_of_the_caller_are_not_filled_by_others(box: Box) -> None:
    script = 'exec "$@" <&- >&- 2>&-'
    plan = box.plan("sh", "-c", "ls /proc/self/fd >/tmp/seen")

    subprocess.run(["sh", "-c", script, "sh", *box.command(plan)], check=False, timeout=30)

    seen = box.upper / "tmp/seen"
    assert not seen.exists() or "3" in seen.read_text()


def test_program_leads_a_session_of_its_own(box: Box) -> None:
    outcome = box.shell("cat /proc/$$/stat")

    fields = outcome.out.rpartition(")")[2].split()
    assert (fields[2], fields[3]) == ("1", "1")


def test_exit_status_and_signal_are_the_programs(box: Box) -> None:
    assert box.shell("exit 7").status == 7
    assert (
        box.shell("kill -9 $$; sleep 1; exit 3", namespaces=launch.ALL & ~launch.NEWPID).status
        == 137
    )


def test_container_dies_with_the_monitor(box: Box) -> None:
    mark = f"987{os.getpid()}"
    for extra in ((), (op("ids", 1234, 1234, (1234,)),)):
        subprocess.run(
            box.command(box.plan("sleep", mark, after=extra), "--die"),
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while _running("sleep", mark) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _running("sleep", mark)


def _running(*argv: str) -> bool:
    wanted = b"\0".join(word.encode() for word in argv) + b"\0"
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if Path("/proc", name, "cmdline").read_bytes() == wanted:
                    return True
            except OSError:
                continue
    return False


def test_failure_names_step_call_and_path(box: Box) -> None:
    bad = op("bind", "/nonexistent/here", "/mnt", 0, 0, 0)

    outcome = box.run("true", before=(bad,))

    assert outcome.status == 125
    assert outcome.failure is not None
    assert outcome.failure.step == step("bind")
    assert outcome.failure.errno == errno.ENOENT
    assert outcome.failure.syscall == "open_tree"
    assert outcome.failure.path == "/nonexistent/here"
    plan = box.plan("true", before=(bad,))
    assert plan[outcome.failure.index].name == "bind"


@pytest.mark.parametrize("missing", ["pivot", "root"])
def test_mount_operations_need_a_mount_namespace_of_their_own(box: Box, missing: str) -> None:
    names = {"pivot": op("pivot"), "root": box.root()}
    plan = (*box.settings(namespaces=launch.NEWPID), names[missing], op("exec", ("true",), (), 0))

    outcome = box.launch(plan)

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EPERM


def test_hostname_needs_a_uts_namespace_of_its_own(box: Box) -> None:
    outcome = box.run("true", namespaces=launch.ALL & ~launch.NEWUTS, before=(op("hostname", "x"),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("hostname")
    assert os.uname().nodename != "x"


def test_names_of_the_host_are_set_inside_only(box: Box) -> None:
    outcome = box.shell(
        "hostname; cat /proc/sys/kernel/domainname",
        before=(op("hostname", "inside"), op("domainname", "example.test")),
    )

    assert outcome.out.split() == ["inside", "example.test"]


def test_loopback_is_up(box: Box) -> None:
    assert "UP" in box.shell("ip link show lo", before=(op("loopback_up"),)).out


def test_session_keyring_is_new(box: Box) -> None:
    outcome = box.shell("cat /proc/keys", after=(op("keyring", "_ses.box"),))

    assert outcome.status == 0
    assert "_ses.box" in outcome.out


FULL = (
    op("mount", "sysfs", "sysfs", "/sys", launch.SAFE | 1, (), 0),
    op("mount", "tmpfs", "shm", "/dev/shm", launch.SAFE, ("mode=1777",), 0),
    op("symlink", "/proc/self/fd", "/dev/fd"),
    op("mkdir", "/dev/net", 0o755, 0, 0),
    op("bind", "/etc/hostname", "/etc/hostname", 0, 0, 0),
    op("readonly", "/proc/sys"),
    op("mask", "/proc/kcore"),
    op("mask", "/sys/firmware"),
    op("hostname", "box"),
    op("loopback_up"),
)
END = (
    op("workdir", "/tmp/new", 1),
    op("keyring", "_ses.box"),
    op("rlimit", 7, 512, 512),
    op("umask", 0o22),
    op("ids", 5, 6, (6, 7)),
    op("capabilities", 1, 0, 0, 0, 0),
    op("no_new_privileges"),
)


def test_failure_at_each_operation_leaves_nothing(drivers: object, tmp_path: Path) -> None:
    assert callable(drivers)
    box = Box(driver=drivers("faults"), folder=tmp_path / "box").make()
    plan = box.plan("true", before=FULL, after=END)
    first = next(i for i, each in enumerate(plan) if each.name == "propagation")
    assert box.launch(plan).status == 0

    for number in range(1, len(plan) - first + 1):
        box.environ["SANDBOX_FAIL_AT"] = str(number)
        outcome = box.launch(plan)
        assert outcome.failure is not None, number
        assert outcome.failure.syscall == "fault"
        assert outcome.failure.index == first + number - 1
        assert outcome.descriptors[0] == outcome.descriptors[1]

        box.environ["SANDBOX_FAIL_AT"] = str(-number)
        outcome = box.launch(plan)
        assert outcome.status == 137, number
        assert outcome.descriptors[0] == outcome.descriptors[1]
    # Afterwards the same root is launched without a clean-up.
    box.environ["SANDBOX_FAIL_AT"] = "0"
    assert box.launch(plan).status == 0


def test_failed_launches_in_the_monitor_leave_no_descriptor(box: Box) -> None:
    for extra in (
        op("cgroup", 1, "memory", "/nonexistent"),
        op("join", launch.NEWNET, "/nonexistent"),
        op("join", launch.NEWNET, "/etc/passwd"),
        op("join", launch.NEWNET, "/proc/self/ns/uts"),
        op("disk", "/nonexistent", "ext4", ""),
        op("disk", "/etc/passwd", "ext4", ""),
        op("enter", os.getpid(), 1),
    ):
        outcome = box.run("true", settings=(extra,), namespaces=launch.ALL & ~launch.NEWNET)
        assert outcome.failure is not None
        assert outcome.failure.step == 0
        assert outcome.descriptors[0] == outcome.descriptors[1], extra


def test_only_the_very_process_is_entered(box: Box) -> None:
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    process = (op("exec", ("/bin/true",), (), 0),)
    for pid, start_time, number in (
        (os.getpid(), started, 0),
        (os.getpid(), started + 1, errno.ESRCH),
        ((1 << 22) + 1, started, errno.ESRCH),
    ):
        outcome = box.launch((op("enter", pid, start_time), *process))

        assert (outcome.failure.errno if outcome.failure else 0) == number
        assert outcome.descriptors[0] == outcome.descriptors[1]
