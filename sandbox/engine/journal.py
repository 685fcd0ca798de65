"""What a run may leave on the host, written ahead of making it.

``containers/<id>/launch`` says in flat text which boot this is, every place where a
cgroup of the run may be made, and every network that it is on.  It is written before
anything is made, and removed after everything is taken back; whoever finds it with no
living monitor undoes what it lists, in whatever state that is.
"""

from __future__ import annotations

import errno
import os

from ..record import Record
from ..state.document import read_bytes, remove_file, replace_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from cgroups import Group

    from ..paths import Paths

    Place: TypeAlias = tuple[str, str, str]  # a network's id, the host's end of a link, its name
    Freezers: TypeAlias = tuple[tuple[str, bytes], ...]

_MARK = "still"


class Journal(Record):
    """The places named in one ``launch`` file."""

    boot_id: str
    started_ns: int
    groups: tuple[Group, ...]
    endpoints: tuple[Place, ...] = ()


def boot_id() -> str:
    """The kernel's name for the time since it started."""
    return read_bytes("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def write(
    paths: Paths,
    container_id: str,
    places: Iterable[Group],
    now_ns: int,
    endpoints: Iterable[Place] = (),
) -> None:
    """Put down where groups may be made; with `cgroups.places`, before `cgroups.create`."""
    lines = [f"version 1\nboot_id {boot_id()}\nstarted_ns {now_ns}\n"]
    for place in places:
        controllers = ",".join(place.controllers) or "-"
        lines.append(f"group {place.version} {controllers} {place.path}\n")
    lines += [f"endpoint {' '.join(each)}\n" for each in endpoints]
    replace_bytes(_path(paths, container_id), "".join(lines).encode())


def add(paths: Paths, container_id: str, lines: str) -> None:
    """Put down more of a run that goes on, whole lines, before it is made."""
    fd = os.open(_path(paths, container_id), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, lines.encode())
    finally:
        os.close(fd)


def read(paths: Paths, container_id: str) -> Journal | None:
    """The journal, or None when no run is in progress or was broken off."""
    from cgroups import Group

    try:
        text = read_bytes(_path(paths, container_id)).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    boot, started_ns, groups = "", 0, []
    endpoints: list[Place] = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "boot_id":
            boot = rest
        elif word == "started_ns" and rest.isdigit():
            started_ns = int(rest)
        elif word == "group" and rest.count(" ") >= 2:
            version, controllers, path = rest.split(" ", 2)
            if version in ("1", "2") and "/sandbox-" in path:
                names = () if controllers == "-" else tuple(controllers.split(","))
                groups.append(Group(version=int(version), controllers=names, path=path))
        elif word == "endpoint" and rest.count(" ") == 2:
            network_id, link, name = rest.split(" ")
            if len(network_id) == 64 and not network_id.strip("0123456789abcdef"):
                endpoints.append((network_id, link, name))
    return Journal(
        boot_id=boot, started_ns=started_ns, groups=tuple(groups), endpoints=tuple(endpoints)
    )


def freezers(paths: Paths, container_id: str) -> Freezers:
    """The files that say whether a run's groups are frozen, and what they say then.

    Those of both trees: `cgroups` freezes by v2 where it can, others may by v1.
    """
    # Asked of every running container by a list: without a record for each group.
    try:
        text = read_bytes(_path(paths, container_id)).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found: list[tuple[str, bytes]] = []
    for line in text.splitlines():
        word, version, controllers, path = (*line.split(" ", 3), "", "", "")[:4]
        if word != "group" or "/sandbox-" not in path:
            continue
        if version == "2":
            found.append((f"{path}/cgroup.freeze", b"1"))
        elif "freezer" in controllers.split(","):
            found.append((f"{path}/freezer.state", b"FROZEN"))
    return tuple(found)


def undo(journal: Journal) -> None:
    """Kill what is left in the groups and remove them; nothing there is no error."""
    from cgroups import open_existing

    there = tuple(group for group in journal.groups if os.path.isdir(group.path))
    if there:
        cgroup = open_existing(there)
        cgroup.kill()
        cgroup.remove()


def give_back(paths: Paths, container_id: str, journal: Journal) -> None:
    """Give back what a run had of others: addresses, and its place on networks."""
    if journal.endpoints:
        if os.path.exists(f"{paths.live_container(container_id)}/ports"):
            from . import publishing  # fewer still have these

            publishing.withdraw(paths, container_id)
        from . import joining  # most runs have none

        joining.give_back(paths, container_id, journal.endpoints)


def thaw(paths: Paths, container_id: str) -> None:
    """Let frozen processes go on; nothing frozen, or nothing there, is no error."""
    from cgroups import open_existing

    entry = read(paths, container_id)
    if entry is not None:
        open_existing(entry.groups).thaw()


def stand_still(paths: Paths, container_id: str) -> None:
    """Write down, before it happens, that a run is frozen for as long as the caller lives.

    The caller holds the container's lock meanwhile: whoever gets that lock and finds the
    mark knows that nobody will let the run go on, and does it.
    """
    os.close(os.open(_mark(paths, container_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def stands_still(paths: Paths, container_id: str) -> bool:
    """There is such a mark."""
    return os.path.exists(_mark(paths, container_id))


def go_on(paths: Paths, container_id: str) -> None:
    """Let the run go on, and take the mark away."""
    thaw(paths, container_id)
    remove_file(_mark(paths, container_id))


def close(paths: Paths, container_id: str) -> None:
    """All is taken back."""
    remove_file(_path(paths, container_id))


def clear_live(paths: Paths, container_id: str) -> None:
    """Remove the run folder of a container whose monitor is gone."""
    folder = paths.live_container(container_id)
    for name in ("control", ".started.new", "started", _MARK, "alive"):
        remove_file(f"{folder}/{name}")
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _mark(paths: Paths, container_id: str) -> str:
    return f"{paths.live_container(container_id)}/{_MARK}"


def _path(paths: Paths, container_id: str) -> str:
    return f"{paths.container(container_id)}/launch"
