"""Read what a container printed, while the monitor writes and rotates.

``sandbox/native/logfile.h`` has the format.  The texts of one stream, joined,
are the bytes that were printed: a line's text has its newline, a piece of a
long line and an unfinished last line have none.  Writing is the monitor's.
"""

from __future__ import annotations

import os
import time

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PREFIX = 40  # bytes before the text
_TAG = 38  # where F or P stands
_BLOCK = 65536
_NS = 1_000_000_000

# The stream of the monitor's own words: output that is not in the log, for want of space.
SYSTEM = "system"
_STREAMS = {b"stdout": "stdout", b"stderr": "stderr", b"system": SYSTEM}


class LogEntry(Record):
    """One line, or a piece of one (``partial``).  ``stream`` may be ``system``."""

    time_ns: int
    stream: str
    text: bytes
    partial: bool


def read(
    path: str,
    *,
    follow: Callable[[], bool] | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    tail: int | None = None,
    poll_s: float = 0.05,
) -> Iterator[LogEntry]:
    """The entries of a log and of what was rotated away from it, oldest first.

    ``tail`` counts lines.  ``follow`` is asked whether the writer lives: as long
    as it does, wait for more.  A log that does not exist (yet) is empty.
    """
    files = _open_all(path)
    try:
        if tail is not None:
            _skip_to_tail(files, tail)
        for file in files:
            for line in file.lines():
                entry = _chosen(line, since_ns, until_ns)
                if entry is not None:
                    yield entry
        while len(files) > 1:
            files.pop(0).close()
        if follow is None:
            return
        for line in _follow(path, files, follow, until_ns, poll_s):
            entry = _chosen(line, since_ns, until_ns)
            if entry is not None:
                yield entry
    finally:
        for file in files:
            file.close()


def parse_line(line: bytes) -> LogEntry | None:
    """One line of the file, without its newline; None when it is not whole."""
    if len(line) < _PREFIX or line[30:31] != b" " or line[37:38] != b" " or line[39:40] != b" ":
        return None
    stream = _STREAMS.get(line[31:37])
    tag = line[_TAG]
    if stream is None or tag not in b"FP":
        return None
    try:
        time_ns = _seconds(line[:19]) * _NS + int(line[20:29])
    except ValueError:
        return None
    partial = tag == 0x50
    text = line[_PREFIX:] if partial else line[_PREFIX:] + b"\n"
    return LogEntry(time_ns=time_ns, stream=stream, text=text, partial=partial)


def _seconds(date: bytes) -> int:
    # By hand: datetime costs more than all the rest that is imported here.
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
    if month <= 2:
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day
    clock = int(date[11:13]) * 3600 + int(date[14:16]) * 60 + int(date[17:19])
    return (days - 719469) * 86400 + clock


def _chosen(line: bytes, since_ns: int | None, until_ns: int | None) -> LogEntry | None:
    entry = parse_line(line)
    if entry is None:
        return None
    if since_ns is not None and entry.time_ns < since_ns:
        return None
    if until_ns is not None and entry.time_ns > until_ns:
        return None
    return entry


class _File:
    """One file of the log, read line by line; a line that is still being written waits."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = os.fstat(self.fd)
        self.identity = (found.st_dev, found.st_ino)
        self.at = 0
        self._rest = b""

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def seek(self, at: int) -> None:
        self.at = at
        self._rest = b""

    def lines(self) -> Iterator[bytes]:
        if self.size() < self.at:  # a log of one file starts anew in its place
            self.seek(0)
        while True:
            block = os.pread(self.fd, _BLOCK, self.at)
            if not block:
                return
            self.at += len(block)
            *whole, self._rest = (self._rest + block).split(b"\n")
            yield from whole

    def lines_backwards(self) -> Iterator[tuple[int, bytes]]:
        """Each whole line from the last to the first, and where it ends."""
        start = self.size()
        data = b""
        stop: int | None = None  # in data: behind the newline of the line that is looked for
        while True:
            newline = data.rfind(b"\n", 0, None if stop is None else stop - 1)
            if newline >= 0:
                if stop is not None:
                    yield start + stop, data[newline + 1 : stop - 1]
                stop = newline + 1
            elif start > 0:
                size = min(_BLOCK, start)
                start -= size
                rest = data[:stop]
                data = os.pread(self.fd, size, start) + rest
                stop = None if stop is None else len(data)
            else:
                if stop is not None:
                    yield stop, data[: stop - 1]
                return


def _open_all(path: str) -> list[_File]:
    """Newest first, so that a rotation in between shows one twice, and hides none."""
    files: list[_File] = []
    number = 0
    while True:
        try:
            file = _File(f"{path}.{number}" if number else path)
        except FileNotFoundError:
            if number:
                break
        else:
            if any(file.identity == other.identity for other in files):
                file.close()
            else:
                files.append(file)
        number += 1
    files.reverse()
    return files


def _skip_to_tail(files: list[_File], tail: int) -> None:
    """Move so that the last ``tail`` lines are what comes next."""
    ends = 0
    for index in range(len(files) - 1, -1, -1):
        file = files[index]
        for end, line in file.lines_backwards():
            # An unfinished line at the very end is one more.
            ends += line[_TAG : _TAG + 1] == b"F" or ends == 0
            if ends > tail:
                file.seek(end)
                for older in files[:index]:
                    older.seek(older.size())
                return


def _follow(
    path: str,
    files: list[_File],
    follow: Callable[[], bool],
    until_ns: int | None,
    poll_s: float,
) -> Iterator[bytes]:
    while True:
        # Asked before reading: what came before the writer's end is not missed.
        goes_on = follow() and (until_ns is None or time.time_ns() <= until_ns)
        if files:
            yield from files[0].lines()
        following = _next_file(path, files[0] if files else None)
        if following is not None:
            if files:
                # Complete by now: the writer renames a file after its last line.
                yield from files[0].lines()
                files.pop().close()
            files.append(following)
        elif not goes_on:
            return
        else:
            time.sleep(poll_s)


def _next_file(path: str, current: _File | None) -> _File | None:
    """The file after the current one; None when that is the newest."""
    while True:
        try:
            newest = os.stat(path)
        except FileNotFoundError:
            return None  # not made yet, or just being rotated
        if current is None:
            number = _oldest(path)
        elif (newest.st_dev, newest.st_ino) == current.identity:
            return None
        else:
            number = _number_of(path, current) - 1
            if number < 0:
                number = _oldest(path)
        try:
            file = _File(f"{path}.{number}" if number else path)
        except FileNotFoundError:
            continue
        if current is None or file.identity != current.identity:
            return file
        file.close()


def _oldest(path: str) -> int:
    number = 0
    while os.path.exists(f"{path}.{number + 1}"):
        number += 1
    return number


def _number_of(path: str, file: _File) -> int:
    """Which of the rotated files it is by now; 0 when it is none of them any more."""
    number = 1
    while True:
        try:
            found = os.stat(f"{path}.{number}")
        except FileNotFoundError:
            return 0
        if (found.st_dev, found.st_ino) == file.identity:
            return number
        number += 1
