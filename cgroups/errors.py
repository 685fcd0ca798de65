"""Everything this library raises, drawn once.

    CgroupError
      InvalidLimit        a limit, a name or a rule that cannot be meant
      LimitUnavailable    this host cannot enforce that limit
      FileError           one interface file could not be read or written
        LimitRefused      the kernel did not take the value
      GroupError          something about one group as a whole
        GroupExists       there is a group of that name already
        GroupRefused      the group could not be made
        GroupBusy         the group could not be removed: something is in it
        FreezeTimeout     not everything stopped in time
        KillTimeout       not everything died in time

A message is lower case, without a full stop, with the path and the value in
it; facts are fields; ``hint`` says what a person can do and may be empty.
"""

from __future__ import annotations

import os


class CgroupError(Exception):
    """The base of the tree."""

    hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class InvalidLimit(CgroupError):
    """A limit, a name or a rule that cannot be meant."""


class LimitUnavailable(CgroupError):
    """This host cannot enforce that limit; ``reason`` says why."""

    def __init__(self, limit: str, reason: str, *, hint: str = "") -> None:
        self.limit, self.reason = limit, reason
        super().__init__(f"the limit {limit} cannot be enforced: {reason}", hint=hint)


class FileError(CgroupError):
    """One interface file could not be read (``value`` is None) or written."""

    def __init__(self, path: str, value: str | None, errno: int, *, hint: str = "") -> None:
        self.path, self.value, self.errno = path, value, errno
        act = f"read {path}" if value is None else f"write {value!r} to {path}"
        super().__init__(f"cannot {act}: {os.strerror(errno).lower()}", hint=hint)


class LimitRefused(FileError):
    """The kernel did not take the value of ``limit``."""

    def __init__(self, limit: str, path: str, value: str, errno: int, *, hint: str = "") -> None:
        self.limit = limit
        super().__init__(path, value, errno, hint=hint)


class GroupError(CgroupError):
    """Something about one group as a whole."""

    def __init__(self, message: str, *, path: str, hint: str = "") -> None:
        self.path = path
        super().__init__(f"{message}: {path}", hint=hint)


class GroupExists(GroupError):
    """There is a group of that name already."""


class GroupRefused(GroupError):
    """The group could not be made."""


class GroupBusy(GroupError):
    """The group could not be removed: something is in it."""


class FreezeTimeout(GroupError):
    """Not everything stopped in time; the request to freeze stands."""


class KillTimeout(GroupError):
    """Not everything died in time: a process sits in uninterruptible sleep."""
