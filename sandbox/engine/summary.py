"""What ``ps`` shows of all containers, without reading again what has not changed.

The documents of many containers are worth milliseconds.  So what a list shows of
them is kept in one file, for each container beside the inode, size and time of its
document and of its folder: whatever is put there or taken away (an exit record, a
journal) changes the folder's time.  An entry holds while these are what they were.
The same holds of a run folder and of what its monitor wrote there.  A file system's
clock ticks, and two changes within a tick look like one: what has changed a moment
ago is not kept yet.  Whether a container runs, and whether it is frozen, is never
kept; that is asked of its lock and of its freezer.

    <root>/cache/containers      marshal of (context, names, {id: entry})

``names`` are inode and time of the folder of names when each of these containers
owned its own; while they are the same, nobody has to look at every link.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from .. import cachefile
from ..errors import SandboxError
from ..monitor import children
from ..state import containers, lock, names
from . import journal, sweep
from . import status as statuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    from ..paths import Paths
    from .journal import Freezers
    from .status import Status

    # Inode, time and size of the document, inode and time of the folder.
    Key: TypeAlias = tuple[int, ...]
    # A status in five words: `Summary` has their names.
    End: TypeAlias = tuple[str, int, int, int | None, int | None]
    # Inode and time of the run folder; what is told there, None when there is nothing yet;
    # whether health is checked; whether ports are published.
    Live: TypeAlias = tuple[int, int, End | None, bool, bool]
    # Name, time, image and command; whether it removes itself and was made to run; its end, None
    # when that has to be asked for; the freezers of its journal; what its run folder told.
    Entry: TypeAlias = tuple[
        Key, str, int, str, tuple[str, ...], bool, bool, End | None, Freezers, Live | None
    ]

_FORMAT = 3
_KEY: Final = 0
_NAME: Final = 1
_CREATED: Final = 2
_IMAGE: Final = 3
_COMMAND: Final = 4
_AUTO_REMOVE: Final = 5
_MADE_TO_RUN: Final = 6
_END: Final = 7
_FREEZERS: Final = 8
_LIVE: Final = 9
_MAX_BYTES = 32 << 20
_MAX_COMMAND = 4096  # what is longer is read each time
_SETTLED_NS = 200_000_000  # some ticks of the slowest clock


class Summary:
    """One row of ``ps``.  The status's words are those of `sandbox.engine.status.Status`.

    Lists make thousands of these and ask each for a few facts, so a fact is looked up when it
    is asked for.
    """

    __slots__ = ("_end", "_entry", "id", "is_checked", "may_publish")

    def __init__(
        self,
        id: str,  # noqa: A002 - what it is called everywhere
        entry: Entry,
        end: End,
        is_checked: bool,
        may_publish: bool,
    ) -> None:
        self.id = id
        self._entry = entry
        self._end = end
        self.is_checked = is_checked
        self.may_publish = may_publish  # ports: whoever shows them asks

    def __repr__(self) -> str:
        return f"Summary(id={self.id!r}, name={self.name!r}, word={self.word!r})"

    @property
    def name(self) -> str:
        """The container's name."""
        return self._entry[_NAME]

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch."""
        return self._entry[_CREATED]

    @property
    def image(self) -> str:
        """What it was made of, as it was asked for."""
        return self._entry[_IMAGE]

    @property
    def command(self) -> tuple[str, ...]:
        """Entry point and arguments."""
        return self._entry[_COMMAND]

    @property
    def word(self) -> str:
        """``created``, ``running``, ``paused``, ``restarting`` or ``exited``."""
        return self._end[0]

    @property
    def started_ns(self) -> int:
        """When its last run began; 0 when it never ran."""
        return self._end[1]

    @property
    def finished_ns(self) -> int:
        """When its last run was over; 0 while it runs."""
        return self._end[2]

    @property
    def exit_code(self) -> int | None:
        """Of its last run; None while it runs, after a signal, and when nobody knows."""
        return self._end[3]

    @property
    def signal(self) -> int | None:
        """What ended its last run."""
        return self._end[4]


def summaries(paths: Paths, *, all: bool) -> list[Summary]:  # noqa: A002 - docker's word
    """The running containers, or all, newest first; what the dead left is taken back."""
    book = _Book(paths)
    book.look_at_living()
    doubtful = book.look()
    if doubtful:
        sweep.sweep_containers(paths, doubtful)
        book.look()
    sweep.sweep_trash(paths)
    book.close()
    running = book.running
    rows = []
    for container_id, entry in book.entries.items():
        end = entry[_END]
        is_checked = may_publish = False
        if end is None or container_id in running:
            live = running.get(container_id)
            end, is_checked, may_publish = _look_closely(paths, container_id, entry, live)
        if all or end[0] in statuses.LIVE:
            rows.append(Summary(container_id, entry, end, is_checked, may_publish))
    rows.sort(key=_created, reverse=True)
    return rows


def _look_closely(
    paths: Paths, container_id: str, entry: Entry, live: Live | None
) -> tuple[End, bool, bool]:
    """The status of one that runs, or had no end when it was read; the two things to be asked."""
    end = None if live is None else live[2]
    if live is None or end is None:
        found = statuses.status_of(paths, container_id)
        return _end_of(found), found.is_checked, found.is_live
    # Just seen alive: nobody asks again.
    if end[0] == statuses.RUNNING and statuses.is_frozen(
        entry[_FREEZERS] or journal.freezers(paths, container_id)
    ):
        end = (statuses.PAUSED, *end[1:])
    return end, live[3], live[4]


def _created(row: Summary) -> int:
    return row.created_ns


def _end_of(status: Status) -> End:
    return (
        sys.intern(status.word),
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
        self._is_changed = False
        self.entries: dict[str, Entry] = {}
        self.running: dict[str, Live] = {}
        data = cachefile.read(self._path, max_bytes=_MAX_BYTES)
        if data is None:
            return
        try:
            context, kept_names, kept = marshal.loads(data)  # noqa: S302 - ours alone
            if context == self._context and isinstance(kept, dict):
                self._kept_names, self._kept = kept_names, kept
        except (ValueError, TypeError, EOFError):
            return

    def look_at_living(self) -> None:
        """Look at all run folders, as the sweep does, and at what their monitors wrote."""
        paths, kept = self._paths, self._kept
        children.reap()
        try:
            found = os.listdir(paths.live)
        except FileNotFoundError:
            return
        top = paths.live
        settled_ns = time.time_ns() - _SETTLED_NS
        for container_id in found:
            entry = kept.get(container_id)
            if entry is None and not containers.is_id(container_id):
                continue
            folder = f"{top}/{container_id}"
            try:
                # Before anything in it is read: what changes afterwards is seen the next time.
                around = os.stat(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not lock.is_held(f"{folder}/alive"):
                sweep.settle(paths, container_id)
                continue
            live = entry[_LIVE] if entry is not None else None
            if live is None or live[0] != around.st_ino or live[1] != around.st_mtime_ns:
                stood_still = sweep.go_on_if_left(paths, container_id)
                started = statuses.read_started(folder)
                is_settled = not stood_still and around.st_mtime_ns < settled_ns
                live = (
                    around.st_ino if is_settled else 0,
                    around.st_mtime_ns,
                    None if started is None else _end_of(started),
                    started is not None and started.is_checked,
                    os.path.exists(f"{folder}/ports"),
                )
            self.running[container_id] = live

    def look(self) -> list[str]:
        """Look at all containers; returns those that the sweep has to look at."""
        paths, kept, running = self._paths, self._kept, self.running
        self.entries, self._settled = entries, settled = {}, {}
        self._is_changed = False
        doubtful = []
        settled_ns = time.time_ns() - _SETTLED_NS
        self._names = _names_key(paths, settled_ns)
        are_owners = bool(self._names) and self._names == self._kept_names
        stat = os.stat
        try:
            top = os.open(paths.containers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            for container_id in os.listdir(top):
                known = kept.get(container_id)
                if known is None and not containers.is_id(container_id):
                    continue
                try:
                    document = stat(
                        f"{container_id}/container.json", dir_fd=top, follow_symlinks=False
                    )
                    around = stat(container_id, dir_fd=top)
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
                is_owner = are_owners
                entry = known
                if entry is None or entry[_KEY] != key:
                    entry = self._read(container_id, key)
                    if entry is None:
                        continue
                    is_owner = False
                live = running.get(container_id)
                if live is not entry[_LIVE]:
                    is_kept = live is not None and live[0]
                    entry = (*entry[:_LIVE], live if is_kept else None)
                if (not is_owner and names.owner(paths, entry[_NAME]) != container_id) or (
                    entry[_AUTO_REMOVE] and live is None and self._has_run(container_id, entry)
                ):
                    doubtful.append(container_id)
                entries[container_id] = entry
                if entry is known:
                    settled[container_id] = entry
                elif (
                    key[1] < settled_ns
                    and key[4] < settled_ns
                    and sum(map(len, entry[_COMMAND])) <= _MAX_COMMAND
                ):
                    settled[container_id] = entry
                    self._is_changed = True
        finally:
            os.close(top)
        return doubtful

    def _read(self, container_id: str, key: Key) -> Entry | None:
        paths = self._paths
        try:
            record = containers.read(paths, container_id)
            found = statuses.at_rest(paths, container_id)
        except SandboxError:
            return None  # damaged, or gone in between
        intern = sys.intern  # what many have in common is kept once
        return (
            key,
            record.name,
            record.created_ns,
            intern(record.image),
            tuple(map(intern, record.argv)),
            record.auto_remove,
            record.made_to_run,
            # A run that is not over, or was broken off, has no end to be kept.
            None if found.is_broken_off else _end_of(found),
            journal.freezers(paths, container_id),
            None,
        )

    def _has_run(self, container_id: str, entry: Entry) -> bool:
        folder = self._paths.container(container_id)
        return (
            entry[_MADE_TO_RUN]
            or os.path.exists(f"{folder}/launch")
            or os.path.exists(f"{folder}/exit")
        )

    def close(self) -> None:
        """Keep it, if it is not what was kept."""
        if (
            self._is_changed
            or len(self._settled) != len(self._kept)
            or self._names != self._kept_names
        ):
            kept: Any = (self._context, self._names, self._settled)
            cachefile.write(self._path, marshal.dumps(kept))


def _names_key(paths: Paths, settled_ns: int) -> Key:
    try:
        found = os.stat(paths.names)
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_mtime_ns) if found.st_mtime_ns < settled_ns else ()


def _context() -> Key:
    """The code that decides on an entry: another version of it makes other entries."""
    package = os.path.dirname(os.path.dirname(__file__))
    found = [_FORMAT]
    for module in ("engine/status", "monitor/exitrecord", "state/containers"):
        status = os.stat(f"{package}/{module}.py")
        found += [status.st_mtime_ns, status.st_size]
    return tuple(found)
