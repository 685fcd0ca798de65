"""Which hierarchies this host has, where they are mounted and where we are in them.

Two reads of /proc and, for a v2 tree, one of its root.  Out of scope: whether
the caller may write there; that is found by trying.
"""

from __future__ import annotations

from cgroups import files
from cgroups.errors import FileError
from cgroups.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["unified", "legacy", "hybrid", "none"]


class Hierarchy(Record):
    """One mounted tree.

    ``controllers``: of v2, those that its root offers; of v1, those mounted
    together, or one ``name=...`` for a named hierarchy.  ``own``: the calling
    process's group below the mount point, ``""`` for the root.
    """

    version: int
    controllers: tuple[str, ...]
    mount: str
    own: str


class Layout(Record):
    """Every tree of this host; ``kind`` is "none" where nothing is mounted."""

    kind: Kind
    hierarchies: tuple[Hierarchy, ...]

    def find(self, controller: str) -> Hierarchy | None:
        """Find the tree that holds a controller, by the name it has there (``blkio``, ``io``)."""
        for hierarchy in self.hierarchies:
            if controller in hierarchy.controllers:
                return hierarchy
        return None


def detect(cgroup_root: str = "/sys/fs/cgroup", proc: str = "/proc") -> Layout:
    """Look at the mount table of this process and at its groups."""
    own = _own_paths(files.read(proc + "/self/cgroup"))
    found: dict[str, Hierarchy] = {}
    below_root: set[str] = set()
    for line in files.read(proc + "/self/mountinfo").splitlines():
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        root, mount = left.split(" ", 5)[3:5]
        fstype, _, options = right.split(" ", 2)
        mount = _unescape(mount)
        if fstype == "cgroup2":
            key = ""
        else:
            names = set(options.split(","))
            key = next((k for k in own if k and names.issuperset(k.split(","))), "")
            if not key:
                continue
        # One hierarchy may be mounted in several places: ours is the one below cgroup_root.
        is_ours = mount == cgroup_root or mount.startswith(cgroup_root + "/")
        if key in found and (key in below_root or not is_ours):
            continue
        if is_ours:
            below_root.add(key)
        found[key] = Hierarchy(
            version=1 if key else 2,
            controllers=tuple(key.split(",")) if key else _offered(mount),
            mount=mount,
            own=_below(own.get(key, "/"), _unescape(root)),
        )
    hierarchies = tuple(found.values())
    return Layout(kind=_kind({h.version for h in hierarchies}), hierarchies=hierarchies)


def _kind(versions: set[int]) -> Kind:
    if versions == {2}:
        return "unified"
    if versions == {1}:
        return "legacy"
    return "hybrid" if versions else "none"


def _own_paths(text: str) -> dict[str, str]:
    """Map ``controllers`` ("" for v2) to path, in the kernel's order."""
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    return paths


def _offered(mount: str) -> tuple[str, ...]:
    try:
        return tuple(files.read(mount + "/cgroup.controllers").split())
    except FileError:
        # An unreadable tree is one without controllers; making a group there will say why.
        return ()


def _below(path: str, root: str) -> str:
    """Cut a path to its part below the mount's root; "" for what cannot be seen from here."""
    root = root.rstrip("/")
    if path == root or not path.startswith(root + "/") or "/../" in path + "/":
        return ""
    if path.endswith(" (deleted)"):
        return ""
    return path[len(root) :].rstrip("/")


def _unescape(text: str) -> str:
    """Mountinfo writes space, tab, newline and backslash as ``\\NNN`` in octal."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
