"""Processes of a container, for people to look at; the one user of prctl and psutil.

Not for the hot path: psutil alone costs several interpreter starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import prctl
import psutil

from ..record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProcessInfo(Record):
    """One line of ``top``: pids are the host's, times in seconds."""

    pid: int
    parent: int
    user: str
    uid: int
    command: str
    status: str
    started: float
    cpu_s: float
    rss_bytes: int
    threads: int
    terminal: str


def list_processes(pids: Iterable[int]) -> tuple[ProcessInfo, ...]:
    """What these processes are; those that are gone meanwhile are left out."""
    found = []
    for pid in pids:
        try:
            found.append(_look_at(psutil.Process(pid)))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return tuple(sorted(found, key=lambda each: (each.started, each.pid)))


def _look_at(process: psutil.Process) -> ProcessInfo:
    with process.oneshot():
        times = process.cpu_times()
        command = " ".join(process.cmdline()) or f"[{process.name()}]"
        return ProcessInfo(
            pid=process.pid,
            parent=process.ppid(),
            user=process.username(),
            uid=process.uids().effective,
            command=command,
            status=process.status(),
            started=process.create_time(),
            cpu_s=times.user + times.system,
            rss_bytes=process.memory_info().rss,
            threads=process.num_threads(),
            terminal=(process.terminal() or "").removeprefix("/dev/"),
        )


def set_name(name: str) -> None:
    """What ``ps`` and ``top`` show of this thread; 15 bytes of it."""
    prctl.set_name(name)


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` when the thread that started this process ends."""
    prctl.set_pdeathsig(signal)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends before them."""
    prctl.set_child_subreaper(True)


def missing_capabilities() -> tuple[str, ...]:
    """The capabilities that no program started from here can have."""
    from . import capabilities

    return tuple(
        [name for number, name in enumerate(capabilities.NAMES) if not _in_bounding_set(number)]
    )


def _in_bounding_set(number: int) -> bool:
    try:
        return bool(prctl.capbset_read(number))
    except (OSError, ValueError):
        return False  # newer than this kernel
