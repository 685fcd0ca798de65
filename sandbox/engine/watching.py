"""Look at a running container from outside: its processes, and what they use."""

from __future__ import annotations

import time

from ..errors import HostLacks, UsageError
from ..record import Record
from ..state import events
from ..state.document import read_bytes
from .verbs import group_of, need_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container


class ProcessTable(Record):
    """What ``ps`` printed about the container's processes: headings, and a row for each."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


def top(container: Container, options: tuple[str, ...]) -> ProcessTable:
    """Ask the host's ``ps``, and keep the lines of the processes in the container's cgroup."""
    need_running(container)
    # A person looks: a few milliseconds of import are nothing beside ps itself.
    import shutil
    import subprocess

    # Columns are cut at blanks: more than one heading of its own would shift them.
    if any("pid=" in option.replace(" ", "") for option in options):
        raise UsageError('specifying "pid=" is not allowed: the PID column needs its heading')
    program = shutil.which("ps")
    if program is None:
        raise HostLacks("there is no program `ps` on this host", hint="apt-get install procps")
    done = subprocess.run(
        [program, *(options or ("-ef",))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise UsageError(f"Error running ps: {said.splitlines()[0] if said else 'it failed'}")
    events.of_container(container._paths, container.record, "top")
    return _of_pids(done.stdout.decode("utf-8", "replace"), group_of(container).pids())


def _of_pids(text: str, pids: tuple[int, ...]) -> ProcessTable:
    first, *lines = text.split("\n")
    titles = tuple(first.split())
    if "PID" not in titles:
        raise UsageError("Couldn't find PID field in ps output")
    at, last = titles.index("PID"), len(titles) - 1
    found = []
    for line in lines:
        cells = line.split(None, last)
        if len(cells) > at and cells[at].isdigit() and int(cells[at]) in pids:
            found.append(tuple(cell.strip() for cell in cells))
    return ProcessTable(titles=titles, processes=tuple(found))


class Sample(Record):
    """What a container has used at one moment; None is what this host does not count.

    Memory is without the file pages that could go at once.  ``limit_bytes`` is
    the container's limit, or the host's memory.  The network's bytes are those
    of its own interfaces but ``lo``; of the host's network, none.
    """

    read_ns: int  # of a clock that only goes forward
    cpu_ns: int | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int | None = None
    written_bytes: int | None = None
    pids: int | None = None

    def cpu_percent(self, before: Sample) -> float | None:
        """Of one processor, since an earlier sample."""
        if self.cpu_ns is None or before.cpu_ns is None or self.read_ns <= before.read_ns:
            return None
        return max(0.0, 100 * (self.cpu_ns - before.cpu_ns) / (self.read_ns - before.read_ns))


def sample(container: Container) -> Sample:
    """Ask the kernel; `WrongStatus` when it does not run."""
    pid = need_running(container).pid
    read_ns = time.monotonic_ns()
    counted = group_of(container).stats()
    memory, host = counted.memory, _host_memory()
    used = memory.usage_bytes
    if used is not None:
        used = max(0, used - (memory.inactive_file_bytes or 0))
    limit = memory.limit_bytes
    received, sent = (0, 0) if container.options.network == "host" else _network_bytes(pid)
    return Sample(
        read_ns=read_ns,
        cpu_ns=counted.cpu.usage_ns,
        memory_bytes=used,
        memory_limit_bytes=host if limit is None or limit < 0 else min(limit, host),
        received_bytes=received,
        sent_bytes=sent,
        read_bytes=counted.io.read_bytes,
        written_bytes=counted.io.write_bytes,
        pids=counted.pids.current,
    )


def _host_memory() -> int:
    for line in read_bytes("/proc/meminfo").splitlines():
        if line.startswith(b"MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _network_bytes(pid: int) -> tuple[int, int]:
    try:
        lines = read_bytes(f"/proc/{pid}/net/dev").decode("ascii", "replace").splitlines()
    except OSError:
        return 0, 0  # it has just ended
    received = sent = 0
    for line in lines[2:]:
        name, _, numbers = line.partition(":")
        cells = numbers.split()
        if name.strip() != "lo" and len(cells) >= 9:
            received, sent = received + int(cells[0]), sent + int(cells[8])
    return received, sent
