"""Freeze, thaw, and wait for the event that confirms it."""

from __future__ import annotations

from time import monotonic, sleep

from cgroups import files
from cgroups.errors import FreezeTimeout

_FIRST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.02


def freeze(path: str, *, timeout_s: float) -> None:
    """Stop everything below ``path``: the file only asks, ``cgroup.events`` reports."""
    files.write(path + "/cgroup.freeze", "1")
    deadline, wait = monotonic() + timeout_s, _FIRST_WAIT_S
    while files.flat(files.read(path + "/cgroup.events")).get("frozen") != 1:
        if monotonic() >= deadline:
            raise FreezeTimeout(f"not everything stopped within {timeout_s} s", path=path)
        sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT_S)


def thaw(path: str) -> None:
    """Let everything below ``path`` go on."""
    files.write(path + "/cgroup.freeze", "0")
