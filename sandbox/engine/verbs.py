"""Verbs that change a container beside its running: stand still, go on, another name."""

from __future__ import annotations

import os
from contextlib import contextmanager

from ..errors import ContainerNotFound, HostLacks, UsageError, WrongStatus
from ..record import replace
from ..state import containers, events, names
from . import joining, journal, sweep
from .options import check_container_name
from .status import EXITED, PAUSED, RESTARTING, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cgroups import Cgroup

    from ..state.containers import ContainerRecord
    from .container import Container
    from .engine import Engine
    from .status import Status


def pause(container: Container) -> None:
    """Freeze every process of it, those of `exec_start` too."""
    with container._lock():
        sweep.go_on_locked(container._paths, container.id)
        if need_running(container).word == PAUSED:
            raise _wrong(container, PAUSED, "is already paused")
        _freeze(container)
        events.of_container(container._paths, container.record, "pause")


def unpause(container: Container) -> None:
    """Let them go on."""
    with container._lock():
        sweep.go_on_locked(container._paths, container.id)
        status = need_running(container)
        if status.word != PAUSED:
            raise _wrong(container, status.word, "is not paused")
        group_of(container).thaw()
        events.of_container(container._paths, container.record, "unpause")


@contextmanager
def standing_still(container: Container) -> Iterator[None]:
    """Have its processes stand still for a block, if it runs; by the one who holds its lock.

    Should the caller be killed, the next command lets them go on.
    """
    if container.status().word != RUNNING:
        yield
        return
    journal.stand_still(container._paths, container.id)
    try:
        try:
            _freeze(container)
        except WrongStatus:
            pass  # it has ended, and stands still
        yield
    finally:
        journal.go_on(container._paths, container.id)


def _freeze(container: Container) -> None:
    import cgroups

    group = group_of(container)
    try:
        group.freeze()
    except cgroups.CgroupError as error:
        group.thaw()
        if not group.pids():
            raise _wrong(container, EXITED, "is not running") from None
        raise HostLacks(f"cannot pause container {container.id}: {error}") from error


def rename(container: Container, name: str) -> ContainerRecord:
    """Take the new name, write it down, and give the old one back, in this order.

    Broken off in between, the container has both names; the same again finishes it.
    """
    paths, container_id = container._paths, container.id
    check_container_name(name)
    with container._lock():
        record = containers.read(paths, container_id)
        if record.name == name:
            raise UsageError("Renaming a container with the same name as its current name")
        if names.owner(paths, name) != container_id:
            names.take(paths, name, container_id)
        options = record.options
        if "name" in options:
            options = options | {"name": name}
        renamed = replace(record, name=name, options=options)
        try:
            containers.write(paths, renamed, durable=True)
        except BaseException:
            names.release(paths, name, container_id)
            raise
        names.release(paths, record.name, container_id)
        joining.rename(paths, renamed, record.name)
        events.of_container(paths, renamed, "rename", ("oldName", f"/{record.name}"))
    return renamed


def prune(engine: Engine, is_wanted: Callable[[Container], bool]) -> tuple[tuple[str, ...], int]:
    """Remove the wanted ones of those that do not run; their ids, and the bytes they took.

    One that removes itself after its run is on its way to it, and is left alone.
    """
    removed, freed = [], 0
    for container in engine.containers(all=True):
        if container.auto_remove or container.status().is_live or not is_wanted(container):
            continue
        try:
            written = container.size()[0]
            container.remove()
        except (ContainerNotFound, WrongStatus):
            continue  # somebody else was faster
        removed.append(container.id)
        freed += written
    events.append(engine.paths, "container", "prune", "", (("reclaimed", str(freed)),))
    return tuple(removed), freed


def group_of(container: Container) -> Cgroup:
    """The cgroups of its run: of the places in the journal, those that there are."""
    from cgroups import open_existing

    entry = journal.read(container._paths, container.id)
    places = entry.groups if entry is not None else ()
    return open_existing(place for place in places if os.path.isdir(place.path))


def need_running(container: Container) -> Status:
    """Its status, or `WrongStatus`."""
    status = container.status()
    if not status.is_live:
        raise _wrong(container, status.word, "is not running")
    if status.word == RESTARTING:
        raise _wrong(container, RESTARTING, "is restarting, wait until the container is running")
    return status


def _wrong(container: Container, status: str, words: str) -> WrongStatus:
    return WrongStatus(f"Container {container.id} {words}", container=container.id, status=status)
