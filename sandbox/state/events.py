"""The event log: what happens to the objects of a store, a line each, written without a lock.

``<root>/events`` is only appended to, one write a line; when it is full it becomes
``events.1``.  The engine writes what its verbs do, and the monitor what happens to a
container while nobody looks (``sandbox/native/events.c``).  A line is

    RS time_ns TAB type TAB action TAB id { TAB key TAB value } [ TAB { TAB key TAB value } ] LF

with what is particular to the event first and, after an empty field, what was then
true of the object: image, name, labels.  A container's monitor knows nothing of
those; a reader (`sandbox.state.eventlog`) has them from the lines around.  RS (0x1e)
begins a line, so what a full disk left of one does not spoil the next.  Tab,
newline, backslash and RS within a field are escaped.

Nothing fails because its event cannot be written.
"""

from __future__ import annotations

import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..paths import Paths
    from .containers import ContainerRecord

    Pairs = Iterable[tuple[str, str]]

MAX_BYTES = 4 << 20  # of one file, of which there are two
MAX_LINE = 4096
_MAX_FIELD = 1024
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\x1e": "\\e"}
_ESCAPING = str.maketrans(_ESCAPES)


def of_container(
    paths: Paths, record: ContainerRecord, action: str, *particular: tuple[str, str]
) -> None:
    """Append an event of a container, with its image, its name and its labels."""
    facts = (("image", record.image), ("name", record.name), *record.labels)
    append(paths, "container", action, record.id, particular, facts)


def append(
    paths: Paths,
    kind: str,
    action: str,
    object_id: str,
    particular: Pairs = (),
    facts: Pairs = (),
) -> None:
    """Append an event.  Attributes that find no room in a line are left out, the last first."""
    head = f"\x1e{time.time_ns()}\t{kind}\t{_escape(action)}\t{_escape(object_id)}"
    fields = [f"\t{_escape(key)}\t{_escape(value)}" for key, value in particular]
    fields.append("\t")
    fields += [f"\t{_escape(key)}\t{_escape(value)}" for key, value in facts]
    line = f"{head}{''.join(fields)}\n".encode("utf-8", "surrogateescape")
    if len(line) > MAX_LINE:
        line = _cut(head, fields)
    try:
        fd = os.open(paths.events, _FLAGS, 0o600)
    except OSError:
        return
    try:
        os.write(fd, line)
        if os.lseek(fd, 0, os.SEEK_CUR) > MAX_BYTES:
            _rotate(paths.events, fd)
    except OSError:
        return
    finally:
        os.close(fd)


def _rotate(path: str, fd: int) -> None:
    """Make the full file the old one; whoever else sees it full is content with that."""
    held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, there = os.fstat(fd), os.stat(path)
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
            os.rename(path, f"{path}.1")
    finally:
        os.close(held)


def _escape(text: str) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    return text.translate(_ESCAPING)


def _cut(head: str, fields: list[str]) -> bytes:
    line = head.encode("utf-8", "surrogateescape")[:_MAX_FIELD]
    for field in fields:
        data = field.encode("utf-8", "surrogateescape")
        if len(line) + len(data) < MAX_LINE:
            line += data
    return line + b"\n"
