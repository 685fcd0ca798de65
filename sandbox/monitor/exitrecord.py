"""The monitor's exit record, and what it means: the verdict and the receipt.

``sandbox/native/exitstatus.c`` writes the record: "version 1", then one
"key value" a line.  A key that is absent is a fact that this host could not
give, and is None here, never 0.  Nothing in this module asks the kernel: the
same record always gives the same verdict.
"""

from __future__ import annotations

import errno as errno_names
import os

from ..errors import DamagedDocument, ExecFailed, LaunchFailed, SandboxError
from ..record import Record, fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Literal, TypeAlias

    Verdict: TypeAlias = Literal[
        "ok",
        "nonzero",
        "signal",
        "wall_timeout",
        "cpu_timeout",
        "oom",
        "pids_limit",
        "output_limit",
        "disk_limit",
        "killed_by_user",
        "exec_failed",
        "launch_failed",
        "unknown",
    ]

MAX_BYTES = 65536

OK: Final = "ok"
NONZERO: Final = "nonzero"
SIGNAL: Final = "signal"
WALL_TIMEOUT: Final = "wall_timeout"
CPU_TIMEOUT: Final = "cpu_timeout"
OOM: Final = "oom"
PIDS_LIMIT: Final = "pids_limit"
OUTPUT_LIMIT: Final = "output_limit"
DISK_LIMIT: Final = "disk_limit"
KILLED_BY_USER: Final = "killed_by_user"
EXEC_FAILED: Final = "exec_failed"
LAUNCH_FAILED: Final = "launch_failed"
UNKNOWN: Final = "unknown"

VERDICTS: tuple[Verdict, ...] = (
    OK,
    NONZERO,
    SIGNAL,
    WALL_TIMEOUT,
    CPU_TIMEOUT,
    OOM,
    PIDS_LIMIT,
    OUTPUT_LIMIT,
    DISK_LIMIT,
    KILLED_BY_USER,
    EXEC_FAILED,
    LAUNCH_FAILED,
    UNKNOWN,
)

EXEC_REASONS = ("not_found", "not_executable", "bad_interpreter", "wrong_arch")

SIGKILL = 9
DISK_ALMOST_FULL_BYTES = 65536
DISK_ALMOST_FULL_SHARE = 200  # or less than this part of it


class ExitRecord(Record):
    """What the monitor wrote down; ``status`` is ``exited``, ``failed`` or ``lost``.

    ``sources`` says for a number which kernel file or call it is from.
    """

    status: str
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    core_dumped: int | None = None
    reaper: int | None = None
    started_ns: int | None = None
    finished_ns: int | None = None
    wall_ns: int | None = None

    kill_reason: str | None = None
    kill_signal: int | None = None
    killed_ns: int | None = None
    user_signal: int | None = None
    stopping: int | None = None
    boot_id: str = ""
    restarts: int | None = None

    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    undelivered_bytes: int | None = None
    log_dropped_bytes: int | None = None

    oom_kills: int | None = None
    oom_group_kills: int | None = None
    memory_failures: int | None = None
    pids_max_hits: int | None = None
    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    throttled_ns: int | None = None
    throttled_periods: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    psi_cpu_some_us: int | None = None
    psi_cpu_full_us: int | None = None
    psi_memory_some_us: int | None = None
    psi_memory_full_us: int | None = None
    psi_io_some_us: int | None = None
    psi_io_full_us: int | None = None
    memory_peak: int | None = None
    memory_swap_peak: int | None = None
    swap_peak: int | None = None
    pids_peak: int | None = None
    disk_size: int | None = None
    disk_available: int | None = None
    disk_files: int | None = None
    disk_files_available: int | None = None
    rusage_user_us: int | None = None
    rusage_system_us: int | None = None
    rusage_max_rss_kib: int | None = None

    step: int | None = None
    index: int | None = None
    errno: int | None = None
    syscall: str = ""
    path: str = ""
    reason: str = ""

    sources: tuple[tuple[str, str], ...] = ()


_TEXTS = frozenset(("status", "kill_reason", "boot_id", "syscall", "path", "reason"))
_FIELDS = frozenset(ExitRecord._fields) - {"sources"}
_SOURCE = "_source"


def parse(text: bytes) -> ExitRecord:
    """Read a record; keys of a newer monitor are left out.  Raises `DamagedDocument`."""
    if len(text) > MAX_BYTES:
        raise DamagedDocument(what="exit record", problem=f"longer than {MAX_BYTES} bytes")
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    if lines[0] != "version 1" or lines[-1] != "":
        raise DamagedDocument(what="exit record", problem="not a whole record of version 1")
    values: dict[str, Any] = {}
    sources = []
    for line in lines[1:-1]:
        key, _, value = line.partition(" ")
        if key in _TEXTS:
            values[key] = _unescape(value) if "\\" in value else value
        elif key in _FIELDS:
            if not (value.isdecimal() and value.isascii()) or len(value) > 20:
                raise DamagedDocument(what="exit record", problem=f"{key} is {value!r}")
            values[key] = int(value)
        elif key.endswith(_SOURCE):
            sources.append((key[: -len(_SOURCE)], value))
    if values.get("status") not in ("exited", "failed", "lost"):
        raise DamagedDocument(what="exit record", problem=f"status is {values.get('status')!r}")
    return ExitRecord(sources=tuple(sources), **values)


def lost(*, started_ns: int, finished_ns: int, boot_id: str = "", stopping: bool = False) -> bytes:
    """The record that is written for a monitor that went without one."""
    text = f"version 1\nstatus lost\nstarted_ns {started_ns}\nfinished_ns {finished_ns}\n"
    text += f"boot_id {boot_id}\n" * bool(boot_id) + "stopping 1\n" * stopping
    return text.encode()


def _unescape(value: str) -> str:
    parts = []
    rest = iter(value)
    for each in rest:
        if each == "\\":
            following = next(rest, "")
            parts.append("\n" if following == "n" else following)
        else:
            parts.append(each)
    return "".join(parts)


# --- the verdict ---


def verdict_of(record: ExitRecord) -> tuple[Verdict, str]:
    """The verdict, and a few words on the evidence (empty for ``ok``).

    A kill of our own counts when init really ended by it; a program that was
    quicker keeps its own ending.  The output limit is a fact of its own: what
    is over it was cut off, however the program ended.  Only the kernel's
    counters tell of an OOM kill or of the pids limit, never the exit code.
    """
    if record.status == "failed":
        return _verdict_of_failure(record)
    if record.exit_code is None and record.signal is None:
        return UNKNOWN, "nobody saw how it ended"
    if record.kill_reason == "output_limit":
        return OUTPUT_LIMIT, f"{(record.stdout_bytes or 0) + (record.stderr_bytes or 0)} bytes"
    if record.kill_reason and record.signal == record.kill_signal:
        return _OWN_KILLS.get(record.kill_reason, (UNKNOWN, record.kill_reason))
    if record.exit_code == 0:
        return OK, ""
    if record.signal is not None and record.signal == record.user_signal:
        return KILLED_BY_USER, signal_name(record.signal)
    return _verdict_of_evidence(record)


_OWN_KILLS: dict[str, tuple[Verdict, str]] = {
    "wall_timeout": (WALL_TIMEOUT, "the wall time limit was reached"),
    "cpu_timeout": (CPU_TIMEOUT, "the CPU time limit was reached"),
    "user": (KILLED_BY_USER, "SIGKILL"),
    "stop": (KILLED_BY_USER, "SIGKILL, when it had not stopped in time"),
    "launcher_gone": (KILLED_BY_USER, "the command that started it went away"),
    "monitor_terminated": (KILLED_BY_USER, "its monitor was told to end"),
}


def _verdict_of_failure(record: ExitRecord) -> tuple[Verdict, str]:
    if record.reason in EXEC_REASONS:
        return EXEC_FAILED, record.reason
    return LAUNCH_FAILED, str(describe_failure(record))


def _verdict_of_evidence(record: ExitRecord) -> tuple[Verdict, str]:
    kills = (record.oom_kills or 0) + (record.oom_group_kills or 0)
    # A reaper as process 1 passes its program's ending on.
    passed_on = record.reaper and record.exit_code == 128 + SIGKILL
    if kills and (record.signal == SIGKILL or passed_on):
        return OOM, _times(record.oom_kills or kills, "OOM kill")
    if record.pids_max_hits:
        return PIDS_LIMIT, _times(record.pids_max_hits, "refused fork")
    full = _full_disk(record)
    if full:
        return DISK_LIMIT, full
    if record.signal is not None:
        dumped = " (core dumped)" if record.core_dumped else ""
        return SIGNAL, signal_name(record.signal) + dumped
    return NONZERO, f"exit code {record.exit_code}"


def _full_disk(record: ExitRecord) -> str:
    size, available = record.disk_size, record.disk_available
    if size and available is not None:
        almost_nothing = max(DISK_ALMOST_FULL_BYTES, size // DISK_ALMOST_FULL_SHARE)
        if available <= almost_nothing:
            return f"{available} of {size} bytes free"
    if record.disk_files and record.disk_files_available == 0:
        return "no free inodes"
    return ""


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


# x86-64 and arm64 agree on these, numbered from 1.
SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()


def signal_name(number: int) -> str:
    """Its usual name, without the price of the ``signal`` module."""
    if 1 <= number <= len(SIGNALS):
        return f"SIG{SIGNALS[number - 1]}"
    return f"signal {number}"


# --- failures of the launch ---


def describe_failure(record: ExitRecord) -> SandboxError:
    """The error that tells of a failed launch; docker's words for what docker can fail at."""
    step = _step_name(record.step or 0)
    number = record.errno or 0
    facts: dict[str, Any] = {
        "step": step,
        "syscall": record.syscall,
        "path": record.path,
        "errno": number,
    }
    if record.reason in EXEC_REASONS:
        return ExecFailed(
            _exec_sentence(record),
            reason=record.reason,
            hint=_EXEC_HINTS.get(record.reason, ""),
            **facts,
        )
    if record.reason == "killed":
        return LaunchFailed(_killed_sentence(record), **facts)
    if step == "workdir" and number in (errno_names.ENOTDIR, errno_names.EEXIST):
        return LaunchFailed(f"Cannot mkdir: {record.path} is not a directory", **facts)
    what = _STEPS.get(step, f"carry out {step}") + (":" if not step and record.path else "")
    about = f" {record.path}" if record.path else ""
    call = f" ({record.syscall})" if record.syscall else ""
    return LaunchFailed(f"cannot {what}{about}: {_strerror(number)}{call}", **facts)


_EXEC_HINTS = {
    "bad_interpreter": "the program is there, but the interpreter or loader that it names is not",
    "wrong_arch": "the program is for another processor, or no program at all",
}

_STEPS = {
    "": "start the container",
    "cgroup": "join the cgroup",
    "join": "join the namespace",
    "id_map": "write the id maps",
    "disk": "mount the disk image",
    "propagation": "make the mounts private",
    "root_overlay": "mount the root",
    "root_bind": "mount the root",
    "mount": "mount",
    "bind": "mount",
    "mask": "mask",
    "readonly": "make read-only",
    "mkdir": "make the folder",
    "symlink": "make the link",
    "mknod": "make the device",
    "console": "make the terminal",
    "pivot": "change to the new root",
    "root_readonly": "make the root read-only",
    "sysctl": "set the sysctl",
    "hostname": "set the host name",
    "domainname": "set the domain name",
    "loopback_up": "bring up the loopback interface",
    "oom_score_adj": "set the OOM score adjustment",
    "rlimit": "set the resource limit",
    "workdir": "change to the working directory",
    "keyring": "make the session keyring",
    "ids": "become the user",
    "capabilities": "set the capabilities",
    "no_new_privileges": "set no_new_privileges",
    "seccomp": "load the seccomp filter",
    "exec": "execute",
    "cgroup_namespace": "make the cgroup namespace",
    "nice": "set the nice value",
    "endpoint": "make the network link",
    "network": "set up the network link",
}


def _exec_sentence(record: ExitRecord) -> str:
    program = record.path
    if record.reason == "not_found":
        if "/" not in program:
            return f'exec: "{program}": executable file not found in $PATH'
        return f'exec: "{program}": stat {program}: no such file or directory'
    if record.reason == "not_executable":
        return f'exec: "{program}": permission denied'
    if record.reason == "bad_interpreter":
        return f"exec {program}: no such file or directory"
    return f"exec {program}: exec format error"


def _killed_sentence(record: ExitRecord) -> str:
    if record.oom_kills:
        why = "the memory limit is too small for it (OOM kill)"
    elif record.kill_reason:
        why = _OWN_KILLS.get(record.kill_reason, (UNKNOWN, record.kill_reason))[1]
    else:
        why = "it was killed from outside"
    return f"the container ended before its program ran: {why}"


def _strerror(number: int) -> str:
    text = os.strerror(number)
    # "Read-only file system", but not "RFS specific error".
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def _step_name(code: int) -> str:
    if code == 0:
        return ""
    from ..native.plan import OPS

    return next((name for name, (number, _, _) in OPS.items() if number == code), f"step {code}")


# --- the receipt ---


class Receipt(Record):
    """What a run used.  None is what this host cannot tell.

    Memory is that of the whole tree (the cgroup's), unless its source is
    ``wait4``: then of the largest process.  ``peak_memory_swap_bytes`` is the
    peak of memory and swap together, all that version 1 counts.
    """

    wall_s: float | None = None
    user_cpu_s: float | None = None
    system_cpu_s: float | None = None
    throttled_s: float | None = None
    peak_memory_bytes: int | None = None
    peak_swap_bytes: int | None = None
    peak_memory_swap_bytes: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    psi_cpu_some_s: float | None = None
    psi_cpu_full_s: float | None = None
    psi_memory_some_s: float | None = None
    psi_memory_full_s: float | None = None
    psi_io_some_s: float | None = None
    psi_io_full_s: float | None = None
    peak_pids: int | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    layer_bytes: int | None = None
    oom_kills: int | None = None
    pids_limit_hits: int | None = None
    restarts: int | None = None
    sources: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data; ``sources`` becomes an object."""
        return fields_of(self) | {"sources": dict(self.sources)}

    def as_text(self) -> str:
        """One "name: value (source)" a line; what is not known is said so."""
        sources = dict(self.sources)
        lines = []
        for name, value in fields_of(self).items():
            if name == "sources":
                continue
            shown = "unknown" if value is None else _shown(name, value)
            source = f" ({sources[name]})" if value is not None and name in sources else ""
            lines.append(f"{name}: {shown}{source}\n")
        return "".join(lines)


def receipt_of(record: ExitRecord, *, layer_bytes: int | None = None) -> Receipt:
    """The receipt of a run; ``layer_bytes`` is the engine's to tell."""
    sources = dict(record.sources)
    named: list[tuple[str, str]] = []

    def take(field: str, key: str) -> int | None:
        value: int | None = getattr(record, key)
        if value is not None and key in sources:
            named.append((field, sources[key]))
        return value

    user_s, system_s = _cpu_split(record, sources, named)
    peak = take("peak_memory_bytes", "memory_peak")
    if peak is None and record.rusage_max_rss_kib is not None:
        peak = record.rusage_max_rss_kib * 1024
        named.append(("peak_memory_bytes", "wait4"))
    return Receipt(
        wall_s=_scaled(record.wall_ns, 1e9),
        user_cpu_s=user_s,
        system_cpu_s=system_s,
        throttled_s=_scaled(take("throttled_s", "throttled_ns"), 1e9),
        peak_memory_bytes=peak,
        peak_swap_bytes=take("peak_swap_bytes", "swap_peak"),
        peak_memory_swap_bytes=take("peak_memory_swap_bytes", "memory_swap_peak"),
        read_bytes=take("read_bytes", "read_bytes"),
        write_bytes=take("write_bytes", "write_bytes"),
        psi_cpu_some_s=_scaled(take("psi_cpu_some_s", "psi_cpu_some_us"), 1e6),
        psi_cpu_full_s=_scaled(take("psi_cpu_full_s", "psi_cpu_full_us"), 1e6),
        psi_memory_some_s=_scaled(take("psi_memory_some_s", "psi_memory_some_us"), 1e6),
        psi_memory_full_s=_scaled(take("psi_memory_full_s", "psi_memory_full_us"), 1e6),
        psi_io_some_s=_scaled(take("psi_io_some_s", "psi_io_some_us"), 1e6),
        psi_io_full_s=_scaled(take("psi_io_full_s", "psi_io_full_us"), 1e6),
        peak_pids=take("peak_pids", "pids_peak"),
        stdout_bytes=record.stdout_bytes,
        stderr_bytes=record.stderr_bytes,
        layer_bytes=layer_bytes,
        oom_kills=take("oom_kills", "oom_kills"),
        pids_limit_hits=take("pids_limit_hits", "pids_max_hits"),
        restarts=record.restarts,
        sources=tuple(named),
    )


def _cpu_split(
    record: ExitRecord, sources: dict[str, str], named: list[tuple[str, str]]
) -> tuple[float | None, float | None]:
    """User and system time.

    The group's total is exact to the nanosecond; on version 1 its parts are
    counted by clock ticks, and a short run has none.  So the total is divided
    as the parts say, and if they are 0, as wait4 says.
    """
    total = record.cpu_ns
    user, system = record.cpu_user_ns, record.cpu_system_ns
    by_wait = record.rusage_user_us, record.rusage_system_us
    if total is not None:
        if not user and not system:
            user, system = by_wait
        source = sources.get("cpu_ns", "")
    else:
        user, system = by_wait
        source = "wait4"
        total = None if user is None or system is None else (user + system) * 1000
    if total is None or user is None or system is None:
        return None, None
    named += [("user_cpu_s", source), ("system_cpu_s", source)]
    parts = user + system
    user_ns = total * user // parts if parts else total
    return user_ns / 1e9, (total - user_ns) / 1e9


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _shown(name: str, value: float) -> str:
    return f"{value:.6f}" if name.endswith("_s") else str(value)
