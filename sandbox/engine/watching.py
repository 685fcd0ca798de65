"""Look at a running container from outside: its processes, and what they use."""

from __future__ import annotations

from ..errors import HostLacks, UsageError
from ..record import Record
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
