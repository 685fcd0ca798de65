"""Verbs that change a container beside its running: stand still, go on, another name."""

from __future__ import annotations

import os

from ..errors import HostLacks, WrongStatus
from . import journal
from .status import PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups import Cgroup

    from .container import Container
    from .status import Status


def pause(container: Container) -> None:
    """Freeze every process of it, those of `exec_start` too."""
    import cgroups

    with container._lock():
        if _need_running(container).word == PAUSED:
            raise _wrong(container, PAUSED, "is already paused")
        group = group_of(container)
        try:
            group.freeze()
        except cgroups.CgroupError as error:
            group.thaw()
            raise HostLacks(f"cannot pause container {container.id}: {error}") from error


def unpause(container: Container) -> None:
    """Let them go on."""
    with container._lock():
        status = _need_running(container)
        if status.word != PAUSED:
            raise _wrong(container, status.word, "is not paused")
        group_of(container).thaw()


def group_of(container: Container) -> Cgroup:
    """The cgroups of its run: of the places in the journal, those that there are."""
    from cgroups import open_existing

    entry = journal.read(container._paths, container.id)
    places = entry.groups if entry is not None else ()
    return open_existing(place for place in places if os.path.isdir(place.path))


def _need_running(container: Container) -> Status:
    status = container.status()
    if not status.is_live:
        raise _wrong(container, status.word, "is not running")
    return status


def _wrong(container: Container, status: str, words: str) -> WrongStatus:
    return WrongStatus(f"Container {container.id} {words}", container=container.id, status=status)
