"""What a test may have left behind: a picture of the host before, and one after.

The kernel cleans up in the background (a network namespace takes some 100 ms),
so only what stays is a leak: it was not there before, and it is there each
time one looks for `GRACE_S`.  What is somebody else's on the same machine is
not taken for ours: mounts in another scratch folder, groups of a container
whose monitor works for another store.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 3.0
CGROUPS = "/sys/fs/cgroup"
CGROUP_DEPTH = 6


def picture(folder: Path) -> frozenset[str]:
    """Everything countable now; ``folder`` is where the test session has its files."""
    ours = str(folder)
    return frozenset((*descriptors(), *processes(ours), *mounts(ours), *links(), *cgroups(ours)))


def left_behind(before: frozenset[str], folder: Path, *, grace_s: float = GRACE_S) -> list[str]:
    """What is new since ``before`` and does not go away."""
    leaked = picture(folder) - before
    deadline = time.monotonic() + grace_s
    while leaked and time.monotonic() < deadline:
        time.sleep(0.02)
        leaked &= picture(folder)
    return sorted(leaked)


def descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the one that lists
            continue
        # The sealed copy of the monitor's program is made once for a process.
        if not target.endswith("/fd") and "memfd:sandbox-monitor" not in target:
            yield f"descriptor {number} -> {target}"


def processes(folder: str) -> Iterator[str]:
    """Children of this process, and whoever works for a store below ``folder``.

    A monitor has neither its store's path in its words nor a living parent of
    ours: it is known by the lock and the log that it holds open.
    """
    own = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        try:
            stat = Path("/proc", name, "stat").read_text()
            argv = Path("/proc", name, "cmdline").read_bytes()
            parent = int(stat.rpartition(")")[2].split()[1])
            ours = parent == own or folder.encode() in argv
            if ours or (argv.startswith(b"sandbox-monitor") and holds(name, folder)):
                words = argv.replace(b"\0", b" ").decode(errors="replace").strip()
                yield f"process {name}: {words or stat.partition('(')[2].rpartition(')')[0]}"
        except OSError:
            continue


def holds(pid: str, folder: str) -> bool:
    return any(
        os.readlink(f"/proc/{pid}/fd/{number}").startswith(folder)
        for number in os.listdir(f"/proc/{pid}/fd")
    )


def mounts(folder: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(folder) or not point.startswith(f"{tempfile.gettempdir()}/"):
            yield f"mount {point} ({line.partition(' - ')[2]})"


def links() -> Iterator[str]:
    for name in os.listdir("/sys/class/net"):
        yield f"link {name}"


def cgroups(folder: str) -> Iterator[str]:
    pending = [(CGROUPS, 0)]
    while pending:
        path, depth = pending.pop()
        try:
            with os.scandir(path) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for group in below:
            if "sandbox-" in group and not of_another_store(group, folder):
                yield f"cgroup {group}"
            if depth < CGROUP_DEPTH:
                pending.append((group, depth + 1))


def of_another_store(group: str, folder: str) -> bool:
    """A living monitor of somebody else's is an ancestor of a process in the container's groups.

    Its parent in the container's own group; but an init that makes groups, as systemd does,
    moves everybody into groups below that one.
    """
    parts = group.split("/")
    top = next(number for number, part in enumerate(parts) if "sandbox-" in part)
    for path, _folders, _files in os.walk("/".join(parts[: top + 1])):
        try:
            pids = Path(path, "cgroup.procs").read_text().split()
        except OSError:
            continue
        for pid in pids:
            monitor = monitor_of(pid)
            if monitor:
                try:
                    return not holds(monitor, folder)
                except OSError:
                    continue
    return False


def monitor_of(pid: str) -> str:
    """The nearest ancestor that is a monitor; empty if there is none."""
    try:
        while pid not in ("0", "1"):
            pid = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1]
            if Path("/proc", pid, "comm").read_text().startswith("sandbox-mon"):
                return pid
    except OSError:
        pass
    return ""
