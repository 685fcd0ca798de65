"""Which process a pid means: its start time, and which boot that was in.

A pid alone is reused within minutes; with the start time and the boot id it
names one process for ever.
"""

from __future__ import annotations

import os

from ..record import Record

_BOOT_ID = "sys/kernel/random/boot_id"


class Stat(Record):
    """A part of ``/proc/PID/stat``; times are in clock ticks, the start since boot."""

    pid: int
    name: str
    state: str
    parent: int
    user_ticks: int
    system_ticks: int
    threads: int
    start_time: int


def parse_stat(text: bytes) -> Stat:
    """Read one line of ``/proc/PID/stat``; the name may hold spaces and brackets."""
    opening, closing = text.index(b"("), text.rindex(b")")
    fields = text[closing + 2 :].split()
    return Stat(
        pid=int(text[:opening]),
        name=text[opening + 1 : closing].decode("utf-8", "replace"),
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        user_ticks=int(fields[11]),
        system_ticks=int(fields[12]),
        threads=int(fields[17]),
        start_time=int(fields[19]),
    )


def stat(pid: int, *, proc: str = "/proc") -> Stat | None:
    """What the kernel says of this process, None when there is none."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def start_time(pid: int, *, proc: str = "/proc") -> int | None:
    """When this process began, None when there is none or it is a zombie."""
    found = stat(pid, proc=proc)
    return None if found is None or found.state in "ZX" else found.start_time


def open_process(pid: int, started: int) -> int:
    """The process of this identity as a handle: its folder in ``/proc``, the caller's to close.

    The folder belongs to one process for ever.  `ProcessLookupError` when that is gone.
    """
    try:
        fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    # Looked at after it was opened: what is held is what was looked at.
    if start_time(pid) != started:
        os.close(fd)
        raise ProcessLookupError(pid)
    return fd


def boot_id(*, proc: str = "/proc") -> str:
    """The name of this boot."""
    with open(f"{proc}/{_BOOT_ID}", "rb", buffering=0) as file:
        return file.read().strip().decode("ascii")


def is_same(pid: int, started: int, boot: str, *, proc: str = "/proc") -> bool:
    """Whether the process that had this identity is still alive."""
    return boot == boot_id(proc=proc) and start_time(pid, proc=proc) == started
