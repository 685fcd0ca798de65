"""What a writable layer changes of the layers below it, in docker's letters.

    A   added           C   changed: other content, mode, owner or time, or something
    D   deleted             below a folder changed

Folders are opened component by component, no link followed, and a folder of a layer
counts only as far as no layer above hides it.  An opened tree may be changing: what is
gone when its turn comes is left out.
"""

from __future__ import annotations

import os
import stat

from ..record import Record
from . import whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(Record):
    """One path, absolute in the container, and ``A``, ``C`` or ``D``."""

    kind: str
    path: str


def changes(
    upper: str, lowers: Sequence[str], *, opaque_xattr: str = whiteout.OPAQUE_XATTR
) -> tuple[Change, ...]:
    """The changes in the order of their paths; ``lowers`` are folders, top first.

    ``opaque_xattr`` is the writable layer's; image layers are marked by the same or by
    `whiteout.OPAQUE_XATTR`.
    """
    return _Diff(upper, tuple(lowers), opaque_xattr).all()


class _Frame(Record):
    """A folder of the writable layer that is to be looked at.

    ``lowers`` are the numbers of the layers whose folder of this path shows through;
    ``is_opaque`` when none does, and they say only what was there before.
    """

    parts: tuple[str, ...]
    lowers: tuple[int, ...]
    is_opaque: bool


class _Diff:
    def __init__(self, upper: str, lowers: tuple[str, ...], opaque_xattr: str) -> None:
        self._upper, self._lowers, self._xattr = upper, lowers, opaque_xattr
        self._found: dict[tuple[str, ...], str] = {}

    def all(self) -> tuple[Change, ...]:
        frames = [_Frame(parts=(), lowers=tuple(range(len(self._lowers))), is_opaque=False)]
        while frames:
            frames += self._look(frames.pop())
        return tuple(
            Change(kind=self._found[parts], path="/" + "/".join(parts))
            for parts in sorted(self._found)
        )

    def _look(self, frame: _Frame) -> list[_Frame]:
        """Note what is different in one folder; the folders to be looked at after it."""
        fd = _open(self._upper, frame.parts)
        if fd < 0:
            return []
        below = []
        for number in frame.lowers:
            lower = _open(self._lowers[number], frame.parts)
            if lower >= 0:
                below.append((number, lower))
        try:
            return self._look_in(frame, fd, below)
        finally:
            for each in (fd, *(lower for _, lower in below)):
                os.close(each)

    def _look_in(self, frame: _Frame, fd: int, below: list[tuple[int, int]]) -> list[_Frame]:
        names = os.listdir(fd)
        more = []
        for name in names:
            parts = (*frame.parts, name)
            try:
                status = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            before, lowers = self._before(below, name)
            if whiteout.is_whiteout(status):
                if before is not None:
                    self._note(parts, "D")
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if before is None:
                self._note(parts, "A")
            elif not is_folder or not lowers or _facts(before) != _facts(status):
                self._note(parts, "C")
            if is_folder:
                is_opaque = frame.is_opaque or self._is_opaque(fd, name)
                more.append(_Frame(parts=parts, lowers=lowers, is_opaque=is_opaque))
        if frame.is_opaque:
            here = set(names)
            for name in {name for _, lower in below for name in os.listdir(lower)} - here:
                if self._before(below, name)[0] is not None:
                    self._note((*frame.parts, name), "D")
        return more

    def _note(self, parts: tuple[str, ...], kind: str) -> None:
        self._found[parts] = kind
        # What holds a change has changed itself.
        for depth in range(len(parts) - 1, 0, -1):
            if parts[:depth] in self._found:
                return
            self._found[parts[:depth]] = "C"

    def _before(
        self, below: list[tuple[int, int]], name: str
    ) -> tuple[os.stat_result | None, tuple[int, ...]]:
        """What the layers below had of this name; for a folder, the layers that make it."""
        first: os.stat_result | None = None
        folders = []
        for number, fd in below:
            try:
                status = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            if whiteout.is_whiteout(status):
                break
            if not stat.S_ISDIR(status.st_mode):
                # Under a folder it is hidden.
                first = first or status
                break
            first = first or status
            folders.append(number)
            if self._is_opaque(fd, name):
                break
        return first, tuple(folders)

    def _is_opaque(self, fd: int, name: str) -> bool:
        try:
            folder = os.open(name, _FOLDER, dir_fd=fd)
        except OSError:
            return False
        try:
            return any(
                whiteout.is_opaque(folder, xattr=xattr)
                for xattr in {self._xattr, whiteout.OPAQUE_XATTR}
            )
        finally:
            os.close(folder)


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    # Of a folder: its size says nothing.
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns


def _open(root: str, parts: tuple[str, ...]) -> int:
    """The folder, or -1; by single components, so that no depth is too deep for a path."""
    fd = os.open(root, _FOLDER)
    for number, part in enumerate(parts, 1):
        try:
            below = os.open(part, _FOLDER if number == len(parts) else _PASS, dir_fd=fd)
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                return -1
            raise
        finally:
            os.close(fd)
        fd = below
    return fd
