"""What a container is doing now, asked of the living and of the last exit record.

Four questions in this order: does a monitor hold the lock (running, or on its
way); is there an exit record (exited); is a run in progress that nobody
watches any more (exited, and how is unknown); else it never ran (created).
"""

from __future__ import annotations

import os

from ..record import Record, replace
from ..state.document import read_bytes
from ..state.lock import is_held
from . import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..monitor.exitrecord import ExitRecord
    from ..paths import Paths
    from .journal import Freezers

CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
RESTARTING = "restarting"
EXITED = "exited"
LIVE = (RUNNING, PAUSED, RESTARTING)

UNKNOWN_END = "the monitor ended without a record: how the run ended is unknown"


class Status(Record):
    """``exit_code`` is None while it runs, after a signal, and when nobody knows."""

    word: str
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    error: str = ""
    restarts: int = 0
    record: ExitRecord | None = None
    verdict: str = ""
    detail: str = ""
    is_checked: bool = False  # its monitor checks its health

    @property
    def is_broken_off(self) -> bool:
        """There is neither a monitor nor a record of the end, but a run had begun."""
        return self.word == EXITED and self.record is None

    @property
    def is_live(self) -> bool:
        """There is a monitor."""
        return self.word in LIVE


def status_of(paths: Paths, container_id: str) -> Status:
    """Look once; the answer was true at some moment during the call."""
    live = paths.live_container(container_id)
    if is_held(f"{live}/alive"):
        found = watched(paths, container_id)
        if found is not None:
            return found
        if is_held(f"{live}/alive"):
            return Status(word=CREATED)
    return at_rest(paths, container_id)


def watched(paths: Paths, container_id: str) -> Status | None:
    """The same of a container with a monitor; None when it has not started, or is just ending."""
    started = read_started(paths.live_container(container_id))
    if started is None or started.word != RUNNING:
        return started
    is_paused = is_frozen(journal.freezers(paths, container_id))
    return replace(started, word=PAUSED) if is_paused else started


def at_rest(paths: Paths, container_id: str) -> Status:
    """The same of a container without a monitor."""
    from ..monitor import exitrecord  # a list has most ends from what is kept

    try:
        text = read_bytes(f"{paths.container(container_id)}/exit")
    except FileNotFoundError:
        broken_off = journal.read(paths, container_id)
        if broken_off is None:
            return Status(word=CREATED)
        return Status(
            word=EXITED,
            started_ns=broken_off.started_ns,
            finished_ns=broken_off.started_ns,
            error=UNKNOWN_END,
            verdict=exitrecord.UNKNOWN,
            detail=UNKNOWN_END,
        )
    return of_record(exitrecord.parse(text))


def of_record(record: ExitRecord) -> Status:
    """The status that an exit record tells."""
    from ..monitor import exitrecord  # as above

    verdict, detail = exitrecord.verdict_of(record)
    if record.status == "failed":
        failure = exitrecord.describe_failure(record)
        # docker leaves a container that could not be started in "created".
        return Status(
            word=CREATED,
            finished_ns=record.finished_ns or 0,
            exit_code=127 if record.reason == "not_found" else 126 if record.reason else 128,
            error=str(failure),
            record=record,
            verdict=verdict,
            detail=detail,
        )
    return Status(
        word=EXITED,
        pid=0,
        started_ns=record.started_ns or 0,
        finished_ns=record.finished_ns or 0,
        exit_code=record.exit_code,
        signal=record.signal,
        error=UNKNOWN_END if verdict == exitrecord.UNKNOWN else "",
        restarts=record.restarts or 0,
        record=record,
        verdict=verdict,
        detail=detail,
    )


def read_started(live: str) -> Status | None:
    """What the monitor's ``started`` file tells: process id, start, restarts, health checks."""
    try:
        text = _read_small(f"{live}/started").decode("ascii", "replace")
    except FileNotFoundError:
        return None
    facts = dict(line.partition(" ")[::2] for line in text.splitlines())
    if not facts.get("pid", "").isdigit():
        return None
    if "resting" in facts:
        return _between_runs(facts)
    return Status(
        word=RUNNING,
        pid=int(facts["pid"]),
        started_ns=_number(facts, "started_ns"),
        restarts=_number(facts, "restarts"),
        is_checked="health" in facts,
    )


def _between_runs(facts: dict[str, str]) -> Status:
    """The last run has ended, and the monitor waits for the time of the next one."""
    code = signal = None
    if facts.get("wait_status", "").isdigit():  # -1 when nobody saw it
        ended = int(facts["wait_status"])
        code = os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else None
        signal = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else None
    return Status(
        word=RESTARTING,
        started_ns=_number(facts, "started_ns"),
        finished_ns=_number(facts, "finished_ns"),
        exit_code=code,
        signal=signal,
        restarts=_number(facts, "restarts"),
    )


def _read_small(path: str) -> bytes:
    """What the kernel or the monitor wrote at once, in as few calls: lists read hundreds."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _number(facts: dict[str, str], name: str) -> int:
    text = facts.get(name, "")
    return int(text) if text.isdigit() else 0


def is_frozen(freezers: Freezers) -> bool:
    """Whether one of these files, `journal.freezers`, says so."""
    for path, frozen in freezers:
        try:
            if _read_small(path).strip() == frozen:
                return True
        except OSError:
            continue
    return False
