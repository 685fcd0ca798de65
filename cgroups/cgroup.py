"""A cgroup: one group of the same name in every hierarchy, and the verbs on it.

On a hybrid host v1's controllers hold the limits, and the group in the unified
tree gives membership, freezing, ``cgroup.kill`` and PSI.  On the way of every
container's start: modules of the other version, and ``stats``, stay unloaded.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EBUSY, EEXIST, EINVAL, ENOTEMPTY
from time import monotonic, sleep

from cgroups import files
from cgroups.errors import (
    FileError,
    GroupBusy,
    GroupExists,
    GroupRefused,
    InvalidLimit,
    KillTimeout,
    LimitRefused,
    LimitUnavailable,
)
from cgroups.limits import Enforcement, Limits, MemoryLimits
from cgroups.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal

    from cgroups.detect import Hierarchy, Layout
    from cgroups.limits import Plan
    from cgroups.stats import Stats

NO_LIMITS = Limits()
# A v2 group gets these wherever they can be had: the accounting is wanted without a limit too.
_WANTED = frozenset(("cpu", "cpuset", "hugetlb", "io", "memory", "pids"))
NO_LIMITS_OF_MEMORY = MemoryLimits()
_CPU_FIELDS = ("quota_us", "period_us", "burst_us", "shares", "weight", "idle")
_HINTS = {
    ("memory", EINVAL): "memory and swap together are limited to less: set swap_bytes as well",
    ("memory", EBUSY): "more than that is in use and cannot be reclaimed",
    ("memory.swap", EBUSY): "more than that is in use and cannot be reclaimed",
    ("cpu", EINVAL): "out of the kernel's range, or the group above has less",
    ("cpuset", EINVAL): "not a list of processors or memory nodes that are online",
}
_FIRST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.02


class Group(Record):
    """The directory of a cgroup in one hierarchy.

    ``controllers``: of v1 those mounted together, or one ``name=...``; of v2
    those that this group has.
    """

    version: int
    controllers: tuple[str, ...]
    path: str

    @property
    def join_path(self) -> str:
        """The file into which a process of one thread writes ``0`` to move itself here.

        On v1 that is ``tasks``: the kernel then need not stop every fork and exit
        on the host for a grace period, which makes joining ten hierarchies some
        0.4 ms instead of 10.  v2 has no such way; there ``clone3`` with
        ``CLONE_INTO_CGROUP`` is the cheap one.
        """
        return self.path + ("/tasks" if self.version == 1 else "/cgroup.procs")


def create(
    layout: Layout,
    name: str,
    limits: Limits = NO_LIMITS,
    *,
    parent: str = "",
    allow_missing: Iterable[str] = (),
) -> Cgroup:
    """Make ``name`` in every hierarchy, with its limits, or leave nothing behind.

    Without ``parent`` it is made at the top, and where that is forbidden, below
    the caller's own group; ``parent`` is a path from the top.  A hierarchy in
    which the caller may make no group is left out: only a limit that it would
    hold is an error, `LimitUnavailable`, and that only unless ``allow_missing``
    has the limit's name, or the part of it before the dot.
    """
    name, parent = _checked(name), _checked(parent) if parent.strip("/") else ""
    made: list[str] = []
    try:
        cgroup = Cgroup(_make_all(layout, name, parent, made))
        cgroup._apply(limits, frozenset(allow_missing), fresh=True)
    except BaseException:
        for path in reversed(made):
            try:
                files.remove_directory(path)
            except OSError:
                # Shared with somebody who came in between, or gone: the first error counts.
                continue
        raise
    return cgroup


def open_existing(groups: Iterable[Group]) -> Cgroup:
    """Take up recorded groups again; some or all of them may be gone."""
    return Cgroup(tuple(groups))


class Cgroup:
    """The verbs.  It owns no descriptor: forgetting one costs nothing and removes nothing."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self._enforced: dict[str, Enforcement] = {}

    def __repr__(self) -> str:
        return f"Cgroup({[group.path for group in self.groups]!r})"

    @property
    def enforcement(self) -> tuple[Enforcement, ...]:
        """Each limit asked of this object so far, and who enforces it."""
        return tuple(self._enforced.values())

    # Limits

    def apply(self, limits: Limits, *, allow_missing: Iterable[str] = ()) -> None:
        """Change limits of a living group.  An error leaves those before it changed."""
        self._apply(limits, frozenset(allow_missing), fresh=False)

    def _apply(self, limits: Limits, allow_missing: frozenset[str], *, fresh: bool) -> None:
        for part in _asked(limits):
            group = self._holder(part)
            if group is None:
                self._miss(part, *self._why_missing(part), allow_missing)
                continue
            try:
                if group.version == 1:
                    from cgroups.v1 import manager as v1

                    steps = v1.plan(part, group.path, limits, fresh=fresh)
                elif part == "devices":
                    from cgroups.v2 import devices

                    devices.apply(group.path, limits.devices or ())
                    self._enforced[part] = Enforcement(limit=part, by="cgroup2")
                    continue
                else:
                    from cgroups.v2 import manager as v2

                    steps = v2.plan(part, group.path, limits)
            except LimitUnavailable as error:
                self._miss(error.limit, error.reason, error.hint, allow_missing, error)
                continue
            self._carry_out(group, steps, allow_missing)

    def _holder(self, part: str) -> Group | None:
        """Find the group that holds one part of the limits."""
        for group in self.groups:
            if group.version == 1:
                if part != "unified" and ("blkio" if part == "io" else part) in group.controllers:
                    return group
            elif part in group.controllers or part == "unified":
                return group
        if part == "devices":
            return self._unified()
        return None

    def _why_missing(self, part: str) -> tuple[str, str]:
        unified = self._unified()
        if unified is None or part in ("devices", "unified"):
            return f"no group with the {part} controller here", ""
        from cgroups.delegation import why_missing

        return why_missing(unified.path, part)

    def _carry_out(self, group: Group, steps: Plan, allow_missing: frozenset[str]) -> None:
        by: Literal["cgroup1", "cgroup2"] = "cgroup1" if group.version == 1 else "cgroup2"
        for limit, file, values in steps:
            if not file:
                self._miss(limit, values[0], "", allow_missing)
                continue
            try:
                files.write(f"{group.path}/{file}", *values)
            except FileError as error:
                if error.errno in files.ABSENT:
                    self._miss(limit, f"{error.path} is not there", "", allow_missing, error)
                elif error.errno in files.FORBIDDEN:
                    self._miss(limit, str(error), "", allow_missing, error)
                else:
                    raise LimitRefused(
                        limit,
                        error.path,
                        error.value or "",
                        error.errno,
                        hint=_HINTS.get((limit, error.errno), ""),
                    ) from error
            else:
                self._enforced[limit] = Enforcement(limit=limit, by=by)

    def _miss(
        self,
        limit: str,
        reason: str,
        hint: str,
        allow_missing: frozenset[str],
        cause: Exception | None = None,
    ) -> None:
        if limit not in allow_missing and limit.partition(".")[0] not in allow_missing:
            raise LimitUnavailable(limit, reason, hint=hint) from cause
        self._enforced[limit] = Enforcement(limit=limit, by="none", reason=reason)

    # Membership

    def add(self, pid: int) -> None:
        """Move a process into every group; 0 is the caller."""
        for group in self.groups:
            files.write(group.path + "/cgroup.procs", str(pid))

    def pids(self) -> tuple[int, ...]:
        """Every process in the group and below it, as one hierarchy sees them."""
        group = self._unified() or self._v1("freezer") or next(iter(self.groups), None)
        return tuple(files.pids_below(group.path)) if group is not None else ()

    # Freezing

    def freeze(self, *, timeout_s: float = 10.0) -> None:
        """Stop every process and wait for the kernel's word; again is harmless."""
        unified = self._unified()
        if unified is not None and files.exists(unified.path + "/cgroup.freeze"):
            from cgroups.v2 import freezer as v2

            v2.freeze(unified.path, timeout_s=timeout_s)
            return
        group = self._v1("freezer")
        if group is None:
            raise LimitUnavailable("freezer", "neither the v1 freezer nor a v2 tree is here")
        from cgroups.v1 import freezer as v1

        v1.freeze(group.path, timeout_s=timeout_s)

    def thaw(self) -> None:
        """Let every process go on; harmless when nothing is frozen or all is gone."""
        for group in self.groups:
            file = "cgroup.freeze" if group.version == 2 else "freezer.state"
            if group.version == 1 and "freezer" not in group.controllers:
                continue
            try:
                files.write(f"{group.path}/{file}", "0" if group.version == 2 else "THAWED")
            except FileError as error:
                if error.errno not in files.ABSENT:
                    raise

    # The end

    def kill(self, *, timeout_s: float = 10.0) -> None:
        """SIGKILL everything in the group and below it, and wait until it is empty.

        The caller must not be in it.  Groups that are gone count as empty.
        """
        deadline, wait = monotonic() + timeout_s, _FIRST_WAIT_S
        while True:
            if not self._kill_once():
                return
            if monotonic() >= deadline:
                raise KillTimeout(
                    f"not everything died within {timeout_s} s", path=self.groups[0].path
                )
            sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def _kill_once(self) -> bool:
        """Signal what is there now; False when there was nothing in any hierarchy."""
        unified, freezer = self._unified(), self._v1("freezer")
        was_populated = False
        if unified is not None:
            events = files.read_if_present(unified.path + "/cgroup.events")
            if events is not None and files.flat(events).get("populated"):
                was_populated = True
                try:
                    files.write(unified.path + "/cgroup.kill", "1")
                except FileError as error:
                    # Kernels before 5.14 have no such file.
                    if error.errno not in files.ABSENT:
                        raise
                else:
                    # A v1 freezer keeps what it froze from dying.
                    self.thaw()
                    return True
        for group in self.groups:
            if files.pids_below(group.path):
                from cgroups import killing

                killing.signal_all(group.path, freezer)
                was_populated = True
        return was_populated

    def remove(self, *, timeout_s: float = 2.0) -> None:
        """Remove the group and those made below it; again is harmless.

        Nothing is killed.  A dying process holds its group for a moment, so EBUSY
        is tried again for ``timeout_s``; then `GroupBusy`, with the others removed.
        """
        deadline = monotonic() + timeout_s
        busy = None
        for group in self.groups:
            try:
                _remove(group.path, deadline)
            except GroupBusy as error:
                busy = busy or error
        if busy is not None:
            raise busy

    def stats(self) -> Stats:
        """Read what the kernel counted; None where this host does not."""
        from cgroups.stats import collect

        return collect(self.groups)

    # Which group

    def _unified(self) -> Group | None:
        for group in self.groups:
            if group.version == 2:
                return group
        return None

    def _v1(self, controller: str) -> Group | None:
        for group in self.groups:
            if group.version == 1 and controller in group.controllers:
                return group
        return None


def _asked(limits: Limits) -> list[str]:
    """The parts of the limits that ask for anything."""
    parts = []
    cpu = limits.cpu
    if cpu is not None:
        # The cpuset first: what a share of the processors means depends on it.
        if cpu.cpus is not None or cpu.mems is not None:
            parts.append("cpuset")
        if any(getattr(cpu, field) is not None for field in _CPU_FIELDS):
            parts.append("cpu")
    if limits.memory is not None and limits.memory != NO_LIMITS_OF_MEMORY:
        parts.append("memory")
    if limits.pids is not None:
        parts.append("pids")
    if limits.io is not None and (limits.io.weight is not None or limits.io.devices):
        parts.append("io")
    if limits.hugetlb:
        parts.append("hugetlb")
    if limits.devices is not None:
        parts.append("devices")
    if limits.unified:
        if any("/" in file for file, _ in limits.unified):
            raise InvalidLimit(f"not names of files: {[file for file, _ in limits.unified]}")
        parts.append("unified")
    return parts


def _checked(name: str) -> str:
    """Insist on a relative path of plain components; anything else could leave the tree."""
    parts = name.strip("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
        raise InvalidLimit(f"not a path of a group: {name!r}")
    return "/".join(parts)


def _make_all(layout: Layout, name: str, parent: str, made: list[str]) -> tuple[Group, ...]:
    groups = [_make(hierarchy, name, parent, made) for hierarchy in layout.hierarchies]
    present = tuple(group for group in groups if group is not None)
    if parent and groups and not present:
        raise GroupRefused("no permission in any hierarchy to make", path=f"{parent}/{name}")
    return present


def _make(hierarchy: Hierarchy, name: str, parent: str, made: list[str]) -> Group | None:
    """Make the group in one hierarchy, or None where the caller may not."""
    for base in _bases(hierarchy, parent):
        path = f"{base}/{name}"
        try:
            fresh = _make_directories(path, hierarchy.mount, made)
        except OSError as error:
            if error.errno in files.FORBIDDEN:
                continue
            if error.errno == EEXIST:
                raise GroupExists("there is already a group", path=path) from error
            reason = os.strerror(error.errno or 0).lower()
            hint = "cgroup.max.descendants is reached" if error.errno == EAGAIN else ""
            raise GroupRefused(f"cannot make the group ({reason})", path=path, hint=hint) from error
        controllers = hierarchy.controllers
        # In the steady state a read each, and no module of either version.
        if hierarchy.version == 2:
            if controllers:
                top = hierarchy.mount if parent else base
                controllers = _controllers(path, top, controllers)
        elif "cpuset" in controllers and (
            len(fresh) > 1 or not files.read_line(path + "/cpuset.cpus")
        ):
            from cgroups.v1 import cpuset

            for directory in fresh:
                cpuset.inherit(directory, hierarchy.mount, for_children=directory != path)
        return Group(version=hierarchy.version, controllers=controllers, path=path)
    return None


def _controllers(path: str, top: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    """The controllers of a new v2 group, after those it lacks were asked for."""
    have = files.read_line(path + "/cgroup.controllers").split()
    if not _WANTED.intersection(offered).issubset(have):
        from cgroups.v2 import manager

        manager.enable(path, top, _WANTED)
        have = files.read_line(path + "/cgroup.controllers").split()
    return tuple(have)


def places(layout: Layout, name: str, *, parent: str = "") -> tuple[Group, ...]:
    """Every place where `create` may make this group, best first in each hierarchy.

    For a record written ahead: `open_existing` of all of them kills and removes
    whatever was made before a crash.
    """
    name, parent = _checked(name), _checked(parent) if parent.strip("/") else ""
    return tuple(
        Group(version=h.version, controllers=h.controllers, path=f"{base}/{name}")
        for h in layout.hierarchies
        for base in dict.fromkeys(_bases(h, parent))
    )


def _bases(hierarchy: Hierarchy, parent: str) -> Iterator[str]:
    """Where to try, best first."""
    mount = hierarchy.mount
    if parent:
        yield f"{mount}/{parent}"
        return
    yield mount
    if not hierarchy.own:
        return
    if hierarchy.version == 2:
        from cgroups.delegation import delegated

        yield mount + delegated(hierarchy)
    else:
        yield mount + hierarchy.own


def _make_directories(path: str, mount: str, made: list[str]) -> list[str]:
    """``mkdir -p``, but the last must be new; returns what was made, top first."""
    missing, fresh = [path], []
    while missing:
        here = missing[-1]
        try:
            files.make_directory(here)
        except FileNotFoundError:
            above = here.rpartition("/")[0]
            if above == mount:
                raise
            missing.append(above)
            continue
        except FileExistsError:
            if here == path:
                raise
            # Somebody else made the parent in the meantime.
        else:
            made.append(here)
            fresh.append(here)
        missing.pop()
    return fresh


def _remove(path: str, deadline: float) -> None:
    """Remove a group after those below it.  A stack: what was inside may have nested deeply."""
    pending, wait = [path], _FIRST_WAIT_S
    while pending:
        here = pending[-1]
        try:
            files.remove_directory(here)
        except OSError as error:
            if error.errno in files.ABSENT:
                pending.pop()
                continue
            if error.errno not in (EBUSY, ENOTEMPTY):
                reason = os.strerror(error.errno or 0).lower()
                raise GroupRefused(f"cannot remove the group ({reason})", path=here) from error
            below = files.subdirectories(here)
            pending += below
            if not below:
                if monotonic() >= deadline:
                    pids = files.pids_below(here)
                    raise GroupBusy(f"processes {pids} are in the group", path=here) from error
                sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_S)
        else:
            pending.pop()
