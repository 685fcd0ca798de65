"""Kill a group that has no ``cgroup.kill``: freeze, signal each process, thaw.

Out of scope: waiting until it is empty; the caller calls again until it is.
"""

from __future__ import annotations

import os
import signal

from cgroups import files
from cgroups.errors import CgroupError, FileError
from cgroups.v1 import freezer as v1_freezer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.cgroup import Group

# Descriptors held at once; the usual limit is 1024.
_BATCH = 256
_FREEZE_S = 0.2


def signal_all(path: str, freezer: Group | None) -> None:
    """SIGKILL every process at and below ``path``.

    A fork bomb is faster than a list, so it is frozen meanwhile where there is a
    v1 freezer; a frozen v1 task takes its signal when it is thawed.  A number
    may be another process by the time it is used: it is pinned with a pidfd, and
    signalled only if it is in the group after that.
    """
    if freezer is not None:
        try:
            v1_freezer.freeze(freezer.path, timeout_s=_FREEZE_S)
        except CgroupError:
            # Frozen in part is better than not at all, and gone is fine.
            pass
    try:
        pids = [pid for pid in files.pids_below(path) if pid > 0]
        for start in range(0, len(pids), _BATCH):
            _signal(path, pids[start : start + _BATCH])
    finally:
        if freezer is not None:
            try:
                v1_freezer.thaw(freezer.path)
            except FileError as error:
                if error.errno not in files.ABSENT:
                    raise


def _signal(path: str, pids: list[int]) -> None:
    pinned: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                pinned[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        for pid in files.pids_below(path):
            if pid in pinned:
                try:
                    signal.pidfd_send_signal(pinned[pid], signal.SIGKILL)
                except ProcessLookupError:
                    continue
    finally:
        for descriptor in pinned.values():
            os.close(descriptor)
