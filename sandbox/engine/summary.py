"""What ``ps`` shows of all containers, without parsing again what has not changed.

The documents of many containers are worth milliseconds.  So what a list shows of
them is kept in one file, for each container beside the inode, size and time of its
document and of its folder: whatever is put there or taken away (an exit record, a
journal) changes the folder's time.  An entry holds while these are what they were.
A file system's clock ticks, and two changes within a tick look like one: what has
changed a moment ago is not kept yet.  Whether a container runs is never kept; that
is asked of its lock.

    <root>/cache/containers      marshal of (context, names, {id: entry})

``names`` are inode and time of the folder of names when each of these containers
owned its own; while they are the same, nobody has to look at every link.
"""

from __future__ import annotations

import marshal
import os
import time

from .. import cachefile
from ..errors import SandboxError
from ..monitor import exitrecord
from ..record import Record
from ..state import containers, names
from . import journal, sweep
from . import status as statuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ..paths import Paths
    from .status import Status

    # Inode, time and size of the document, inode and time of the folder; name, time, image and
    # command; whether it removes itself and was made to run; its end, None when that has to be
    # asked for; the freezers of its journal.
    Entry: TypeAlias = tuple[Any, ...]
    End: TypeAlias = tuple[str, int, int, int | None, int | None]
    Key: TypeAlias = tuple[int, ...]

_FORMAT = 1
_KEY, _NAME, _COMMAND, _AUTO_REMOVE, _MADE_TO_RUN, _END, _FREEZERS = 5, 5, 8, 9, 10, 11, 12
_MAX_BYTES = 32 << 20
_MAX_COMMAND = 4096  # what is longer is read each time
_SETTLED_NS = 200_000_000  # some ticks of the slowest clock


class Summary(Record):
    """One row of ``ps``.  The status's fields are those of `sandbox.engine.status.Status`."""

    id: str
    name: str
    created_ns: int
    image: str
    command: tuple[str, ...]
    word: str
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    is_checked: bool = False


def summaries(paths: Paths, *, all: bool) -> list[Summary]:  # noqa: A002 - docker's word
    """The running containers, or all, newest first; what the dead left is taken back."""
    running = sweep.sweep_live(paths)
    book = _Book(paths)
    doubtful = book.look(running)
    if doubtful:
        sweep.sweep_containers(paths, doubtful)
        book.look(running)
    sweep.sweep_trash(paths)
    book.close()
    rows = []
    for container_id, entry in book.entries.items():
        is_checked = False
        end = entry[_END]
        if end is None or container_id in running:
            found = None
            if container_id in running:
                # Just seen alive: nobody asks again.
                found = statuses.watched(paths, container_id, entry[_FREEZERS] or None)
            if found is None:
                found = statuses.status_of(paths, container_id)
            end, is_checked = _end_of(found), found.is_checked
        if all or end[0] in statuses.LIVE:
            rows.append(_row(container_id, entry, end, is_checked=is_checked))
    rows.sort(key=lambda row: row.created_ns, reverse=True)
    return rows


def _row(container_id: str, entry: Entry, end: End, *, is_checked: bool) -> Summary:
    name, created_ns, image, command = entry[_KEY:_AUTO_REMOVE]
    word, started_ns, finished_ns, exit_code, signal = end
    return Summary(
        id=container_id,
        name=name,
        created_ns=created_ns,
        image=image,
        command=command,
        word=word,
        started_ns=started_ns,
        finished_ns=finished_ns,
        exit_code=exit_code,
        signal=signal,
        is_checked=is_checked,
    )


def _end_of(status: Status) -> End:
    return (
        status.word,
        status.started_ns,
        status.finished_ns,
        status.exit_code,
        status.signal,
    )


class _Book:
    """What was kept, and what is so now."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._path = f"{paths.cache}/containers"
        self._context = _context()
        self._kept_names: Key = ()
        self._kept: dict[str, Entry] = {}
        self._names: Key = ()
        self._settled: dict[str, Entry] = {}
        self.entries: dict[str, Entry] = {}
        data = cachefile.read(self._path, max_bytes=_MAX_BYTES)
        if data is None:
            return
        try:
            context, kept_names, kept = marshal.loads(data)  # noqa: S302 - ours alone
            if context == self._context and isinstance(kept, dict):
                self._kept_names, self._kept = kept_names, kept
        except (ValueError, TypeError, EOFError):
            return

    def look(self, running: set[str]) -> list[str]:
        """Look at all; returns those that the sweep has to look at."""
        paths, kept = self._paths, self._kept
        self.entries, self._settled = {}, {}
        doubtful = []
        settled_ns = time.time_ns() - _SETTLED_NS
        self._names = _names_key(paths, settled_ns)
        are_owners = bool(self._names) and self._names == self._kept_names
        top = paths.containers
        for container_id in containers.ids(paths):
            folder = f"{top}/{container_id}"
            try:
                document = os.lstat(f"{folder}/container.json")
                around = os.stat(folder)
            except (FileNotFoundError, NotADirectoryError):
                doubtful.append(container_id)
                continue
            key = (
                document.st_ino,
                document.st_mtime_ns,
                document.st_size,
                around.st_ino,
                around.st_mtime_ns,
            )
            entry = known = kept.get(container_id)
            if entry is None or entry[:_KEY] != key:
                entry = self._read(container_id, key)
                if entry is None:
                    continue
                is_owner = False
            else:
                is_owner = are_owners
            if (not is_owner and names.owner(paths, entry[_NAME]) != container_id) or (
                entry[_AUTO_REMOVE] and container_id not in running and _has_run(folder, entry)
            ):
                doubtful.append(container_id)
            self.entries[container_id] = entry
            if (
                key[1] < settled_ns
                and key[4] < settled_ns
                and (entry is known or sum(map(len, entry[_COMMAND])) <= _MAX_COMMAND)
            ):
                self._settled[container_id] = entry
        return doubtful

    def _read(self, container_id: str, key: Key) -> Entry | None:
        paths = self._paths
        try:
            record = containers.read(paths, container_id)
            found = statuses.at_rest(paths, container_id)
        except SandboxError:
            return None  # damaged, or gone in between
        # A run that is not over, or was broken off, has no end to be kept.
        end = None if found.is_broken_off else _end_of(found)
        freezers = journal.freezers(paths, container_id)
        made = (record.name, record.created_ns, record.image, record.argv)
        return (*key, *made, record.auto_remove, record.made_to_run, end, freezers)

    def close(self) -> None:
        """Keep it, if it is not what was kept."""
        if self._settled != self._kept or self._names != self._kept_names:
            kept: Any = (self._context, self._names, self._settled)
            cachefile.write(self._path, marshal.dumps(kept))


def _has_run(folder: str, entry: Entry) -> bool:
    return (
        entry[_MADE_TO_RUN]
        or os.path.exists(f"{folder}/launch")
        or os.path.exists(f"{folder}/exit")
    )


def _names_key(paths: Paths, settled_ns: int) -> Key:
    try:
        found = os.stat(paths.names)
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_mtime_ns) if found.st_mtime_ns < settled_ns else ()


def _context() -> Key:
    """The code that decides on an entry: another version of it makes other entries."""
    found = [_FORMAT]
    for module in (containers, exitrecord, statuses):
        status = os.stat(str(module.__file__))
        found += [status.st_mtime_ns, status.st_size]
    return tuple(found)
