"""Read the event log, while others write and rotate; `sandbox.state.events` has the format.

Lines that are damaged or cut off are left out.  What a container's monitor wrote
gets the container's image, name and labels from the last line before it that has
them, else from the next one, else from the container's document.
"""

from __future__ import annotations

import os
import time

from ..errors import SandboxError
from ..record import Record, replace
from . import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..paths import Paths

    Pairs = tuple[tuple[str, str], ...]

# Of each file.  A writer may pass the bound by a few lines before it is seen.
_MOST_BYTES = 8 << 20
_BLOCK = 1 << 16
_KEPT_FILES = 2
_UNESCAPED = {"\\": "\\", "t": "\t", "n": "\n", "e": "\x1e"}


class Event(Record):
    """Something that happened.  ``type`` and ``action`` are docker's words.

    ``id`` is the object's id, or what stands for it (an image's name when it was
    pulled).  ``attributes`` are what is particular to the event, and what was then
    true of the object, by key.
    """

    time_ns: int
    type: str
    action: str
    id: str
    attributes: tuple[tuple[str, str], ...] = ()

    def attribute(self, key: str) -> str:
        """The attribute of this key, or an empty text."""
        return next((value for found, value in self.attributes if found == key), "")


class _Line(Record):
    event: Event  # with what is particular to it alone
    facts: Pairs | None


def read(
    paths: Paths,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    follow: bool = False,
    poll_s: float = 0.05,
) -> Iterator[Event]:
    """The events of a span of time, in the order in which they were written.

    ``follow`` waits for more, until ``until_ns`` or for ever.
    """
    facts: dict[str, Pairs] = {}
    log = _Log(paths.events)
    try:
        while True:
            is_last = not follow or (until_ns is not None and time.time_ns() > until_ns)
            for event in _complete(paths, log.more(), facts):
                if (since_ns is None or event.time_ns >= since_ns) and (
                    until_ns is None or event.time_ns <= until_ns
                ):
                    yield event
            if is_last:
                return
            time.sleep(poll_s)
    finally:
        log.close()


def last_of(paths: Paths, container_id: str, actions: tuple[str, ...]) -> Event | None:
    """The last of a container's events that is one of these, without what is true of it.

    Looked for from the end, and by the bytes of the id: after a reboot it is asked for
    every container that ran.
    """
    wanted = f"\t{container_id}".encode()
    for path in (paths.events, f"{paths.events}.1"):
        data = _content(path)
        end = len(data)
        while (at := data.rfind(wanted, 0, end)) >= 0:
            end = data.rfind(b"\n", 0, at) + 1
            line = parse_line(data[end : data.find(b"\n", at)])
            if line is not None and line.event.id == container_id and line.event.action in actions:
                return line.event
    return None


def _content(path: str) -> bytes:
    """The whole lines of a file."""
    try:
        with open(path, "rb", buffering=0, opener=_open_plain) as file:
            data = file.read(_MOST_BYTES)
    except OSError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _open_plain(path: str, _flags: int = 0) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def parse_line(data: bytes) -> _Line | None:
    """One line, without its newline; None when it is damaged."""
    _, start, rest = data.rpartition(b"\x1e")
    text = rest.decode("utf-8", "surrogateescape")
    fields = text.split("\t")
    number = fields[0]
    if not start or len(fields) < 4 or not (number.isascii() and number.isdigit()):
        return None
    if len(number) > 20:
        return None
    if "\\" in text:
        fields = [_unescape(field) for field in fields]
    at, facts = 4, None
    while at < len(fields) and fields[at]:
        at += 2
    particular = _pairs(fields[4:at])
    if at < len(fields):
        facts = _pairs(fields[at + 1 :])
    event = Event(
        time_ns=int(fields[0]),
        type=fields[1],
        action=fields[2],
        id=fields[3],
        attributes=particular,
    )
    return _Line(event=event, facts=facts)


def _pairs(fields: list[str]) -> Pairs:
    return tuple(zip(fields[::2], fields[1::2], strict=False))


def _unescape(text: str) -> str:
    made, escaped = [], False
    for character in text:
        if escaped:
            made.append(_UNESCAPED.get(character, character))
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            made.append(character)
    return "".join(made)


def _complete(paths: Paths, lines: list[_Line], facts: dict[str, Pairs]) -> Iterator[Event]:
    """Events with what was true of their objects; ``facts`` are those known, and grow."""
    following: dict[str, Pairs] = {}
    for line in lines:
        if line.event.type == "container" and line.facts is not None:
            following.setdefault(line.event.id, _before(line))
    for line in lines:
        event, known = line.event, line.facts
        if event.type == "container":
            if known is not None:
                facts[event.id] = known
            else:
                known = facts.get(event.id) or following.get(event.id)
                if known is None:
                    known = facts[event.id] = _documented(paths, event.id)
            if event.action == "destroy":
                facts.pop(event.id, None)
        if known:
            # What was said first holds: a label called "name" is not the name.
            merged: dict[str, str] = {}
            for key, value in (*event.attributes, *known):
                merged.setdefault(key, value)
            event = replace(event, attributes=tuple(merged.items()))
        yield event


def _before(line: _Line) -> Pairs:
    """What was true before an event."""
    old = line.event.attribute("oldName").removeprefix("/")
    if not old or line.facts is None:
        return line.facts or ()
    return tuple((key, old if key == "name" else value) for key, value in line.facts)


def _documented(paths: Paths, container_id: str) -> Pairs:
    if not containers.is_id(container_id):
        return ()
    try:
        record = containers.read(paths, container_id)
    except (SandboxError, OSError):
        return ()
    return (("image", record.image), ("name", record.name), *record.labels)


class _Log:
    """Both files, and whatever the current one becomes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: list[_File] = []

    def more(self) -> list[_Line]:
        """What has been written since the last call."""
        if not self._files:
            # The current one first: were it rotated in between, it would be there twice.
            self._open(self._path)
            if self._files:
                self._open(f"{self._path}.1")
                self._files.reverse()
            else:
                self._open(f"{self._path}.1")
        found = [line for file in self._files for line in file.more()]
        while self._open(self._path):
            found += self._files[-1].more()
        while len(self._files) > _KEPT_FILES:
            self._files.pop(0).close()
        return found

    def _open(self, path: str) -> bool:
        """Whether there is one that was not open yet."""
        try:
            file = _File(path)
        except OSError:
            return False
        if any(file.identity == each.identity for each in self._files):
            file.close()
            return False
        self._files.append(file)
        return True

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []


class _File:
    def __init__(self, path: str) -> None:
        self._fd = _open_plain(path)
        status = os.fstat(self._fd)
        self.identity = (status.st_dev, status.st_ino)
        self._rest = b""
        self._read = 0

    def more(self) -> Iterator[_Line]:
        while self._read < _MOST_BYTES:
            data = os.read(self._fd, _BLOCK)
            if not data:
                return
            self._read += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in map(parse_line, whole):
                if line is not None:
                    yield line

    def close(self) -> None:
        os.close(self._fd)
