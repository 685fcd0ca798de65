"""Take back what the dead left: cheap, bounded, and at the head of every command.

A run folder whose lock nobody holds belongs to a monitor that is gone, in good
order or not.  Under the container's lock: kill and remove its cgroups, give a
run that ended without a record one that says so, and remove the folder; a
container that was to be removed after its run is removed.  A run that somebody
froze for a moment, and did not live to let go on, goes on.
"""

from __future__ import annotations

import os
import time

from ..errors import ContainerNotFound, MonitorLost, SandboxError
from ..monitor import children
from ..paths import Paths
from ..state import containers, events, lock, names, tree
from ..state.document import replace_bytes
from . import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..state.containers import ContainerRecord

MOST_AT_ONCE = 256
PATIENCE_S = 10.0  # for a monitor that answers, and has much to end
STUCK_S = 3.0
TRASH = "removed-"
MADE = ("volume-", "network-")  # being made or filled, while its lock is held


def sweep(paths: Paths, *, everything: bool = False) -> None:
    """Look at the run folders, at most `MOST_AT_ONCE` of them unless ``everything``."""
    _sweep_live(paths, most=None if everything else MOST_AT_ONCE)
    if everything:
        sweep_containers(paths, containers.ids(paths))
        if os.path.isdir(f"{paths.run}/networks"):
            from .joining import sweep_networks  # where there are none

            sweep_networks(paths)
        sweep_trash(paths)


def _sweep_live(paths: Paths, *, most: int | None) -> None:
    children.reap()
    try:
        found = os.listdir(paths.live)
    except FileNotFoundError:
        found = []
    if most is not None and len(found) > most:
        # A random window: every folder's turn comes, whoever calls.
        first = int.from_bytes(os.urandom(4), "little") % len(found)
        found = (found + found)[first : first + most]
    for container_id in found:
        if containers.is_id(container_id) and is_alive(paths, container_id):
            go_on_if_left(paths, container_id)


def is_alive(paths: Paths, container_id: str) -> bool:
    """Whether it has a monitor; one whose monitor is gone is settled."""
    if lock.is_held(f"{paths.live}/{container_id}/alive"):
        return True
    settle(paths, container_id)
    return False


def go_on_if_left(paths: Paths, container_id: str) -> bool:
    """Let a run go on that somebody froze for a moment, and who is gone; whether there was one."""
    if not journal.stands_still(paths, container_id):
        return False
    _let_go_on(paths, container_id)
    return True


def settle(paths: Paths, container_id: str, *, is_stopped: bool = False) -> None:
    """Bring one container whose monitor may be gone to rest; busy ones are left alone.

    With ``is_stopped``, somebody has asked for its end.
    """
    folder = paths.container(container_id)
    if not os.path.isdir(folder):
        journal.clear_live(paths, container_id)
        return
    try:
        held = lock.try_take(f"{folder}/lock")
    except (FileNotFoundError, NotADirectoryError):
        return
    if held is None:
        return
    with held:
        settle_locked(paths, container_id, is_stopped=is_stopped)


def settle_after(root: str, run: str, container_id: str) -> None:
    """Settle one container of a store; what a monitor becomes when its launcher is gone."""
    settle(Paths(root=root, run=run), container_id)


def settle_locked(paths: Paths, container_id: str, *, is_stopped: bool = False) -> None:
    """The same, by the one who holds the container's lock."""
    live = paths.live_container(container_id)
    if lock.is_held(f"{live}/alive"):
        return
    entry = journal.read(paths, container_id)
    record = _record(paths, container_id) if entry is not None else None
    if entry is not None:
        journal.undo(entry)
        journal.give_back(paths, container_id, entry)
        folder = paths.container(container_id)
        if not os.path.exists(f"{folder}/exit"):
            from ..monitor import exitrecord  # only after a run that nobody saw end

            replace_bytes(
                f"{folder}/exit",
                exitrecord.lost(
                    started_ns=entry.started_ns,
                    finished_ns=time.time_ns(),
                    boot_id=entry.boot_id,
                    stopping=is_stopped,
                ),
            )
            _log_lost(paths, container_id, record, entry.started_ns)
        if record is not None:
            log_unmounts(paths, record)
        journal.close(paths, container_id)
    journal.clear_live(paths, container_id)
    if record is not None and record.auto_remove:
        discard(paths, record.id, record)
        remove_volumes(paths, record)


def _record(paths: Paths, container_id: str) -> ContainerRecord | None:
    try:
        return containers.read(paths, container_id)
    except SandboxError:
        return None


def _log_lost(
    paths: Paths, container_id: str, record: ContainerRecord | None, started_ns: int
) -> None:
    """Say that it died, unless its monitor did so as its last act."""
    from ..state.eventlog import last_of

    last = last_of(paths, container_id, ("start", "die"))
    if last is not None and last.action == "die" and last.time_ns >= started_ns:
        return
    unknown = ("exitCode", "255")  # as `wait` says, too
    if record is not None:
        events.of_container(paths, record, "die", unknown)
    else:
        events.append(paths, "container", "die", container_id, (unknown,))


def end(paths: Paths, container_id: str) -> None:
    """Make a container end, by its monitor, or without it when that is stuck."""
    from ..monitor import client  # with sockets: `ps` does without

    live = paths.live_container(container_id)
    deadline = time.monotonic() + PATIENCE_S
    while lock.is_held(f"{live}/alive"):
        asked = time.monotonic()
        is_stuck = False
        try:
            with client.connect(live) as control:
                control.kill(timeout_s=STUCK_S)
                journal.thaw(paths, container_id)
                control.wait_for_exit(timeout_s=5.0)
        except MonitorLost:
            is_stuck = time.monotonic() - asked >= STUCK_S
        if is_stuck or time.monotonic() > deadline:
            # End what it watches, and then the monitor, which may never run again.
            entry = journal.read(paths, container_id)
            if entry is not None:
                journal.undo(entry)
            client.kill_monitor(live)
            break
        time.sleep(0.002)


def discard(paths: Paths, container_id: str, record: ContainerRecord | None = None) -> None:
    """Remove a container that does not run, by the one who holds its lock.

    Without its ``record`` all names that point to it are given back.  The folder leaves
    the list by one rename; its tree is deleted afterwards,
    and whatever is left of it is deleted by the next sweep of the staging folder.
    """
    if record is not None:
        names.release(paths, record.name, container_id)
    else:
        names.release_all(paths, container_id)
    trash = f"{TRASH}{container_id}"
    try:
        os.rename(paths.container(container_id), f"{paths.staging}/{trash}")
    except FileNotFoundError:
        return
    if record is not None:
        events.of_container(paths, record, "destroy")
    elif _was_made(paths, container_id):
        events.append(paths, "container", "destroy", container_id)
    delete_tree(paths.staging, trash)


def remove_volumes(paths: Paths, record: ContainerRecord) -> None:
    """Remove what was made for a container that is gone: its volumes without a name."""
    found = volumes_of(record)
    if found:
        from .volumes import remove_unused

        remove_unused(paths, found)


def log_unmounts(paths: Paths, record: ContainerRecord) -> None:
    """Tell that its volumes are mounted no more."""
    for name in volumes_of(record, anonymous=False):
        events.append(
            paths, "volume", "unmount", name, (("container", record.id), ("driver", "local"))
        )


def volumes_of(record: ContainerRecord, *, anonymous: bool = True) -> list[str]:
    """The volumes in a container's document: those without a name, or all."""
    if "volume" not in record.options:
        return []
    from ..state.volumes import mounted_by  # most containers have no volume at all

    return mounted_by(record.options, anonymous=anonymous)


def _was_made(paths: Paths, container_id: str) -> bool:
    """Whether anybody was told of it, who is to hear that it is gone."""
    from ..state.eventlog import last_of

    last = last_of(paths, container_id, ("create", "start", "die", "destroy"))
    return last is not None and last.action != "destroy"


def empty(folder: str) -> None:
    """Delete what a container that is being removed has, but its lock and its journal.

    Whoever finds it so, without a document, takes it for half made and removes
    the rest.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            if name not in ("lock", "launch"):
                _delete_in(fd, name)
    finally:
        os.close(fd)


def delete_tree(parent: str, name: str) -> None:
    """Delete a tree in one of the engine's own folders; it may be gone, or going."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _delete_in(fd, name)
    finally:
        os.close(fd)


def _delete_in(fd: int, name: str) -> None:
    if not tree.remove_small(fd, name):
        # Loading the native module costs milliseconds: for large trees only.
        from ..layer.unpack import remove_tree

        remove_tree(fd, name)


def _let_go_on(paths: Paths, container_id: str) -> None:
    """Whoever made it stand still for a moment is gone, unless he has the container's lock."""
    held = _try_take(f"{paths.container(container_id)}/lock")
    if held is not None:
        with held:
            go_on_locked(paths, container_id)


def go_on_locked(paths: Paths, container_id: str) -> None:
    """The same, by the one who holds the container's lock."""
    if journal.stands_still(paths, container_id):
        journal.go_on(paths, container_id)


def sweep_containers(paths: Paths, ids: Iterable[str]) -> None:
    """Take back those of these containers that were broken off while being made or removed."""
    for container_id in ids:
        folder = paths.container(container_id)
        try:
            record = containers.read(paths, container_id)
        except ContainerNotFound:
            held = _try_take(f"{folder}/lock")
            if held is not None:
                with held:
                    discard(paths, container_id)
            continue
        except SandboxError:
            continue
        owner = names.owner(paths, record.name)
        unfinished = owner != container_id
        has_run = (
            record.made_to_run
            or os.path.exists(f"{folder}/launch")
            or os.path.exists(f"{folder}/exit")
        )
        if unfinished or (record.auto_remove and has_run):
            held = _try_take(f"{folder}/lock")
            if held is None:
                continue
            with held:
                settle_locked(paths, container_id)
                is_over = record.auto_remove and (
                    record.made_to_run or os.path.exists(f"{folder}/exit")
                )
                if lock.is_held(f"{paths.live_container(container_id)}/alive"):
                    continue
                if is_over or names.owner(paths, record.name) != container_id:
                    discard(paths, container_id, record)
                    remove_volumes(paths, record)


def sweep_trash(paths: Paths) -> None:
    """Trees of removed containers and volumes, and half made volumes, that nobody goes on with."""
    try:
        found = os.listdir(paths.staging)
    except FileNotFoundError:
        return
    for name in found:
        if name.startswith(TRASH):
            delete_tree(paths.staging, name)
        elif name.startswith(MADE):
            held = _try_take(f"{paths.staging}/{name}/lock")
            if held is not None:
                with held:
                    delete_tree(paths.staging, name)


def _try_take(path: str) -> lock.Lock | None:
    try:
        return lock.try_take(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
