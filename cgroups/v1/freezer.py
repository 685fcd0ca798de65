"""Freeze, thaw, and wait for the state."""

from __future__ import annotations

from time import monotonic, sleep

from cgroups import files
from cgroups.errors import FreezeTimeout

_FIRST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.02


def freeze(path: str, *, timeout_s: float) -> None:
    """Stop everything below ``path``.

    A process forked while the kernel was looking keeps the state at FREEZING;
    writing FROZEN again makes it look again.
    """
    deadline, wait = monotonic() + timeout_s, _FIRST_WAIT_S
    while True:
        files.write(path + "/freezer.state", "FROZEN")
        if files.read(path + "/freezer.state").strip() == "FROZEN":
            return
        if monotonic() >= deadline:
            raise FreezeTimeout(f"not everything stopped within {timeout_s} s", path=path)
        sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT_S)


def thaw(path: str) -> None:
    """Let everything below ``path`` go on; the state changes at once."""
    files.write(path + "/freezer.state", "THAWED")
