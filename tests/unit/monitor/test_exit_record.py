from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import DamagedDocument, ExecFailed, LaunchFailed
from sandbox.monitor import exitrecord
from sandbox.monitor.exitrecord import (
    VERDICTS,
    ExitRecord,
    describe_failure,
    parse,
    receipt_of,
    verdict_of,
)
from sandbox.native.plan import OPS

TEXT = b"""version 1
status exited
pid 4711
exit_code 3
started_ns 1795529916626282999
wall_ns 911927
finished_ns 1795529916627194966
stdout_bytes 3
stderr_bytes 0
memory_peak 4096
memory_peak_source memory.max_usage_in_bytes
"""


def exited(**facts: Any) -> ExitRecord:
    return ExitRecord(status="exited", **facts)


def killed(reason: str, **facts: Any) -> ExitRecord:
    return exited(**({"signal": 9, "kill_reason": reason, "kill_signal": 9} | facts))


def failed(step: str, number: int, **facts: Any) -> ExitRecord:
    return ExitRecord(status="failed", step=OPS[step][0] if step else 0, errno=number, **facts)


# --- parsing ---


def test_record_is_parsed() -> None:
    record = parse(TEXT)

    assert (record.status, record.pid, record.exit_code, record.signal) == ("exited", 4711, 3, None)
    assert record.memory_peak == 4096
    assert record.sources == (("memory_peak", "memory.max_usage_in_bytes"),)
    assert record.oom_kills is None


def test_zero_is_a_number_and_absence_is_none() -> None:
    record = parse(TEXT)

    assert record.stderr_bytes == 0
    assert record.read_bytes is None


def test_key_of_a_newer_monitor_is_left_out() -> None:
    assert parse(TEXT + b"weather sunny\n") == parse(TEXT)


def test_escapes_are_undone() -> None:
    record = parse(b"version 1\nstatus failed\npath /a\\nb\\\\n\n")

    assert record.path == "/a\nb\\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"version 2\nstatus exited\n",
        TEXT[:-1],
        TEXT[: len(TEXT) // 2],
        TEXT.replace(b"exit_code 3", b"exit_code -3"),
        TEXT.replace(b"exit_code 3", b"exit_code three"),
        TEXT.replace(b"exit_code 3", b"exit_code "),
        TEXT.replace(b"exit_code 3", "exit_code ٣".encode()),
        TEXT.replace(b"status exited", b"status dancing"),
        TEXT.replace(b"status exited\n", b""),
        b"version 1\n" + b"x" * 70000 + b"\n",
    ],
)
def test_damaged_record_is_refused(text: bytes) -> None:
    with pytest.raises(DamagedDocument):
        parse(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_damaged(rest: bytes) -> None:
    try:
        record = parse(b"version 1\nstatus exited\n" + rest + b"\n")
    except DamagedDocument:
        return
    assert verdict_of(record)[0] in VERDICTS


def test_lost_run_is_unknown_and_never_zero() -> None:
    record = parse(exitrecord.lost(started_ns=1, finished_ns=2))

    assert (record.exit_code, record.signal, record.finished_ns) == (None, None, 2)
    assert verdict_of(record)[0] == "unknown"


# --- verdicts: each, and what is nearly it ---

TABLE = [
    ("ok", exited(exit_code=0)),
    ("nonzero", exited(exit_code=1)),
    ("nonzero", exited(exit_code=137)),
    ("signal", exited(signal=11)),
    ("signal", exited(signal=9)),
    ("unknown", exited()),
    # our own kills, and programs that were quicker
    ("wall_timeout", killed("wall_timeout")),
    ("ok", killed("wall_timeout", signal=None, exit_code=0)),
    ("nonzero", killed("wall_timeout", signal=None, exit_code=1)),
    ("signal", killed("wall_timeout", signal=11)),
    ("cpu_timeout", killed("cpu_timeout")),
    ("ok", killed("cpu_timeout", signal=None, exit_code=0)),
    ("killed_by_user", killed("user", user_signal=9)),
    ("killed_by_user", killed("stop", user_signal=9, stopping=1)),
    ("killed_by_user", killed("launcher_gone")),
    ("killed_by_user", killed("monitor_terminated")),
    ("wall_timeout", killed("wall_timeout", oom_kills=1)),
    # the output limit is a fact, however it ended
    ("output_limit", killed("output_limit", stdout_bytes=10)),
    ("output_limit", killed("output_limit", signal=None, exit_code=0)),
    # signals that a client asked for
    ("killed_by_user", exited(signal=15, user_signal=15)),
    ("signal", exited(signal=11, user_signal=15)),
    ("ok", exited(exit_code=0, user_signal=15)),
    ("nonzero", exited(exit_code=143, user_signal=15)),
    # memory: SIGKILL that nobody of ours sent, and the kernel counted
    ("oom", exited(signal=9, oom_kills=1)),
    ("oom", exited(signal=9, oom_kills=0, oom_group_kills=1)),
    ("oom", exited(exit_code=137, reaper=1, oom_kills=1)),
    ("nonzero", exited(exit_code=137, oom_kills=1)),
    ("signal", exited(signal=11, oom_kills=1)),
    ("signal", exited(signal=9, oom_kills=0, memory_failures=7)),
    ("ok", exited(exit_code=0, oom_kills=1)),
    ("killed_by_user", exited(signal=9, user_signal=9, oom_kills=1)),
    # processes
    ("pids_limit", exited(exit_code=1, pids_max_hits=2)),
    ("pids_limit", exited(signal=6, pids_max_hits=2)),
    ("ok", exited(exit_code=0, pids_max_hits=2)),
    ("nonzero", exited(exit_code=1, pids_max_hits=0)),
    ("oom", exited(signal=9, oom_kills=1, pids_max_hits=2)),
    # disk
    ("disk_limit", exited(exit_code=1, disk_size=100 << 20, disk_available=0)),
    ("disk_limit", exited(exit_code=1, disk_size=1 << 20, disk_available=65536)),
    ("nonzero", exited(exit_code=1, disk_size=100 << 20, disk_available=50 << 20)),
    ("ok", exited(exit_code=0, disk_size=100 << 20, disk_available=0)),
    (
        "disk_limit",
        exited(
            exit_code=1,
            disk_size=100 << 20,
            disk_available=50 << 20,
            disk_files=100,
            disk_files_available=0,
        ),
    ),
    # a file system without a number of inodes (btrfs) is not full of them
    (
        "nonzero",
        exited(
            exit_code=1,
            disk_size=100 << 20,
            disk_available=50 << 20,
            disk_files=0,
            disk_files_available=0,
        ),
    ),
    # launches
    ("exec_failed", failed("exec", errno.ENOENT, reason="not_found", path="x")),
    ("exec_failed", failed("exec", errno.EACCES, reason="not_executable", path="x")),
    ("exec_failed", failed("exec", errno.ENOENT, reason="bad_interpreter", path="x")),
    ("exec_failed", failed("exec", errno.ENOEXEC, reason="wrong_arch", path="x")),
    ("launch_failed", failed("mount", errno.EPERM, syscall="fsmount", path="/proc")),
    ("launch_failed", failed("", errno.ECHILD, reason="killed", oom_kills=1)),
]


@pytest.mark.parametrize(("verdict", "record"), TABLE)
def test_verdict(verdict: str, record: ExitRecord) -> None:
    assert verdict_of(record)[0] == verdict


def test_table_has_every_verdict() -> None:
    assert {verdict for verdict, _ in TABLE} == set(VERDICTS)


def test_details_name_the_evidence() -> None:
    assert verdict_of(exited(exit_code=0)) == ("ok", "")
    assert verdict_of(exited(exit_code=3)) == ("nonzero", "exit code 3")
    assert verdict_of(exited(signal=11, core_dumped=1)) == ("signal", "SIGSEGV (core dumped)")
    assert verdict_of(exited(signal=40)) == ("signal", "signal 40")
    assert verdict_of(exited(signal=9, oom_kills=2)) == ("oom", "2 OOM kills")
    assert verdict_of(exited(exit_code=2, pids_max_hits=1)) == ("pids_limit", "1 refused fork")


# --- sentences ---


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (
            failed("exec", errno.ENOENT, reason="not_found", path="nosuchcmd"),
            'exec: "nosuchcmd": executable file not found in $PATH',
        ),
        (
            failed("exec", errno.ENOENT, reason="not_found", path="/nosuch"),
            'exec: "/nosuch": stat /nosuch: no such file or directory',
        ),
        (
            failed("exec", errno.EACCES, reason="not_executable", path="/etc"),
            'exec: "/etc": permission denied',
        ),
        (
            failed("exec", errno.ENOENT, reason="bad_interpreter", path="/x.sh"),
            "exec /x.sh: no such file or directory",
        ),
        (
            failed("exec", errno.ENOEXEC, reason="wrong_arch", path="/x"),
            "exec /x: exec format error",
        ),
        (
            failed("workdir", errno.ENOTDIR, syscall="openat2", path="/etc/passwd"),
            "Cannot mkdir: /etc/passwd is not a directory",
        ),
        (
            failed("mount", errno.EPERM, syscall="fsmount", path="/proc"),
            "cannot mount /proc: operation not permitted (fsmount)",
        ),
        (
            failed("", errno.ENOSPC, syscall="clone3"),
            "cannot start the container: no space left on device (clone3)",
        ),
        (
            failed("", errno.ENOENT, syscall="open", path="/run/x"),
            "cannot start the container: /run/x: no such file or directory (open)",
        ),
        (
            failed("", errno.ECHILD, reason="killed", oom_kills=1),
            "the container ended before its program ran: "
            "the memory limit is too small for it (OOM kill)",
        ),
    ],
)
def test_failure_is_one_sentence(record: ExitRecord, sentence: str) -> None:
    assert str(describe_failure(record)) == sentence


def test_failure_carries_its_facts() -> None:
    error = describe_failure(failed("exec", errno.ENOENT, reason="bad_interpreter", path="/x"))

    assert isinstance(error, ExecFailed)
    assert isinstance(error, LaunchFailed)
    assert (error.step, error.reason, error.path, error.errno) == (
        "exec",
        "bad_interpreter",
        "/x",
        errno.ENOENT,
    )
    assert error.hint


def test_every_step_of_init_has_its_words() -> None:
    of_init = {name for name, (code, _, _) in OPS.items() if code >= 100} - {"umask"}

    assert of_init <= set(exitrecord._STEPS)


# --- receipts ---


def test_receipt_keeps_what_is_unknown_unknown() -> None:
    receipt = receipt_of(exited(exit_code=0))

    assert receipt.wall_s is None
    assert receipt.peak_memory_bytes is None
    assert receipt.user_cpu_s is None
    assert "peak_memory_bytes: unknown\n" in receipt.as_text()


def test_receipt_names_its_sources() -> None:
    receipt = receipt_of(parse(TEXT), layer_bytes=7)

    assert (receipt.peak_memory_bytes, receipt.layer_bytes) == (4096, 7)
    assert receipt.as_json()["sources"] == {"peak_memory_bytes": "memory.max_usage_in_bytes"}
    assert "peak_memory_bytes: 4096 (memory.max_usage_in_bytes)\n" in receipt.as_text()


def test_exact_total_is_divided_as_the_ticks_say() -> None:
    receipt = receipt_of(
        exited(cpu_ns=1_000_000_000, cpu_user_ns=600_000_000, cpu_system_ns=200_000_000)
    )

    assert (receipt.user_cpu_s, receipt.system_cpu_s) == (0.75, 0.25)


def test_without_ticks_the_total_is_divided_as_wait4_says() -> None:
    receipt = receipt_of(
        exited(
            cpu_ns=3_000_000,
            cpu_user_ns=0,
            cpu_system_ns=0,
            rusage_user_us=1000,
            rusage_system_us=2000,
        )
    )

    assert (receipt.user_cpu_s, receipt.system_cpu_s) == (0.001, 0.002)


def test_without_a_group_wait4_is_the_source() -> None:
    receipt = receipt_of(
        exited(rusage_user_us=1_500_000, rusage_system_us=500_000, rusage_max_rss_kib=2)
    )

    assert (receipt.user_cpu_s, receipt.system_cpu_s) == (1.5, 0.5)
    assert receipt.peak_memory_bytes == 2048
    assert dict(receipt.sources)["peak_memory_bytes"] == "wait4"
