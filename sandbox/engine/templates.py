"""Encoded launch plans of earlier starts, for the next one of the same kind.

Two starts with the same options of the same image have the same plan but for
the container's id, which stands in paths, in the host name and in the
environment.  An id is 64 random hexadecimal digits, so it cannot stand in a plan
by accident, and one plan becomes the other's by putting one id in the place of
the other.  A warm caller that runs thousands pays for one compilation, and a
command does not even load what compiles.

Only plans that depend on nothing but options, image, this boot and this code
are kept: no host folder, device or other container's namespace.  All of that is
in the key, which is kept with the plan and compared; the file's name is only
where to look.

    <root>/cache/plans/<number>      marshal of (key, plan, id, limits, places)
"""

from __future__ import annotations

import marshal
import os
import sys

import cgroups
from cgroups.record import Record as LimitsRecord
from cgroups.record import fields_of as limits_fields

from .. import cachefile, jsontext
from ..record import Record, replace
from .journal import boot_id
from .options import options_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    from ..paths import Paths
    from ..runtime.launch import Group
    from .options import RunOptions
    from .root import Root

MOST_IN_MEMORY = 64
MOST_ON_DISK = 256
MAX_BYTES = 1 << 20
_PRIME = (1 << 127) - 1

# The code that decides on a plan: another version of it makes another plan.
_DECIDING = ("sandbox/engine", "sandbox/native", "sandbox/oci", "sandbox/runtime", "cgroups")


class Kind(Record):
    """What two starts must share to share a plan."""

    image_id: str
    options: RunOptions
    is_attached: bool
    size: tuple[int, int]
    with_launcher: bool


class Template(Record):
    """One plan, with the id and the groups that it was made for."""

    plan: bytes
    container_id: str
    limits: cgroups.Limits
    places: tuple[tuple[str, str], ...]

    def plan_for(self, container_id: str) -> bytes:
        """The same plan for another container."""
        old, new = self.container_id.encode(), container_id.encode()
        return self.plan.replace(old, new).replace(old[:12], new[:12])


class Templates:
    """What one engine keeps in memory, and what its store keeps on disk."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._kept: dict[Hashable, Template] = {}
        self._context = b""

    def find(self, kind: Kind | None) -> Template | None:
        """The template for this kind of start, if one was kept."""
        if kind is None:
            return None
        found = self._kept.get(kind)
        if found is None:
            found = self._load(self._key(kind))
            if found is not None:
                self._remember(kind, found)
        return found

    def keep(self, kind: Kind | None, template: Template) -> None:
        """Keep it for whoever comes next."""
        if kind is None:
            return
        self._remember(kind, template)
        key = self._key(kind)
        path = self._path(key)
        self._bound(os.path.dirname(path))
        limits = _plain(template.limits)
        entry = (key, template.plan, template.container_id, limits, template.places)
        cachefile.write(path, marshal.dumps(entry))

    def _remember(self, kind: Kind, template: Template) -> None:
        if len(self._kept) >= MOST_IN_MEMORY:
            del self._kept[next(iter(self._kept))]
        self._kept[kind] = template

    def _load(self, key: bytes) -> Template | None:
        data = cachefile.read(self._path(key), max_bytes=MAX_BYTES)
        if data is None:
            return None
        try:
            kept, plan, container_id, limits, places = marshal.loads(data)  # noqa: S302 - ours alone
            if kept != key:
                return None
            return Template(
                plan=plan, container_id=container_id, limits=_record(limits), places=places
            )
        except (ValueError, TypeError, EOFError, AttributeError):
            return None

    def _key(self, kind: Kind) -> bytes:
        if not self._context:
            self._context = jsontext.encode(context(self._paths))
        start = [kind.image_id, kind.is_attached, kind.size, kind.with_launcher]
        return self._context + jsontext.encode([start, options_document(kind.options)])

    def _path(self, key: bytes) -> str:
        number = int.from_bytes(key, "little") % _PRIME
        return f"{self._paths.cache}/plans/{number:032x}"

    def _bound(self, folder: str) -> None:
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        if len(names) >= MOST_ON_DISK:
            for name in names:
                try:
                    os.unlink(f"{folder}/{name}")
                except FileNotFoundError:
                    continue


def kind_of(
    options: RunOptions,
    root: Root,
    *,
    is_attached: bool,
    size: tuple[int, int],
    with_launcher: bool,
) -> Kind | None:
    """The kind of a start; None when its plan is not to be kept."""
    shared = (options.network, options.pid, options.ipc, options.uts)
    if (
        not root.image_id
        or options.volume
        or options.device
        or options.device_read_bps
        or options.device_write_bps
        or options.device_read_iops
        or options.device_write_iops
        or options.privileged
        or options.security_opt
        or options.ulimit
        or options.uts == "host"
        or any(value is not None and value.startswith("container:") for value in shared)
    ):
        return None
    return Kind(
        image_id=root.image_id,
        options=options if options.name is None else replace(options, name=None),
        is_attached=is_attached,
        size=size if options.tty else (0, 0),
        with_launcher=with_launcher,
    )


def places_of(groups: Sequence[Group], container_id: str) -> tuple[tuple[str, str], ...]:
    """Where the groups are, without the container's own part of their names."""
    return tuple((each.controllers, each.path.replace(container_id, "")) for each in groups)


def context(paths: Paths) -> list[str]:
    """Everything else that a plan depends on, on this host, in this boot, with this code."""
    with open("/proc/self/status", "rb", buffering=0) as file:
        status = file.read(8192)
    bound = status[status.find(b"CapBnd:") :].partition(b"\n")[0].decode("ascii", "replace")
    places = [boot_id(), bound, str(os.geteuid()), sys.executable, paths.root, paths.run]
    return [*places, *sys.path, _version_of_code()]


def _version_of_code() -> str:
    """Changes with every file's time and size, so an older version counts as another one too."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    files = total = 0
    for folder in _DECIDING:
        with os.scandir(f"{top}/{folder}") as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    files += 1
                    total += status.st_mtime_ns + status.st_size
    return f"{files} {total}"


def _plain(value: Any) -> Any:
    """A record of limits as marshal can write it: its class's name, and its fields."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, LimitsRecord):
        fields = limits_fields(value).items()
        return {"": type(value).__name__} | {key: _plain(item) for key, item in fields}
    return value


def _record(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_record(item) for item in value)
    if isinstance(value, dict):
        kind = getattr(cgroups, value[""])
        return kind(**{key: _record(item) for key, item in value.items() if key})
    return value
