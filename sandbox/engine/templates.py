"""Encoded launch plans of an engine's runs, for the next run of the same kind.

Two runs with the same options of the same image have the same plan but for the
container's id, which stands in paths, in the host name and in the environment.
An id is 64 random hexadecimal digits, so it cannot stand in a plan by accident,
and one plan becomes the other's by putting one id in the place of the other:
a warm caller that runs thousands pays for one compilation.

Only plans that depend on nothing but options, image and the place of the
cgroups are kept: no host folder, device or other container's namespace.
"""

from __future__ import annotations

from ..record import Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from cgroups import Limits

    from ..runtime.launch import Group
    from .options import RunOptions
    from .root import Root

MOST = 64


class Template(Record):
    """One plan, with the id and the groups that it was made for."""

    plan: bytes
    container_id: str
    limits: Limits
    places: tuple[tuple[str, str], ...]

    def plan_for(self, container_id: str) -> bytes:
        """The same plan for another container."""
        old, new = self.container_id.encode(), container_id.encode()
        return self.plan.replace(old, new).replace(old[:12], new[:12])


class Templates:
    """What one engine keeps; oldest out first."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Template] = {}

    def find(self, kind: Hashable | None) -> Template | None:
        """The template for this kind of start, if one was kept."""
        return self._kept.get(kind) if kind is not None else None

    def keep(self, kind: Hashable | None, template: Template) -> None:
        """Keep it for whoever comes next."""
        if kind is None:
            return
        if len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[kind] = template


def kind_of(options: RunOptions, root: Root) -> Hashable | None:
    """What two starts must share to share a plan; None when a plan is not to be kept."""
    shared = (options.network, options.pid, options.ipc, options.uts)
    if (
        not root.image_id
        or options.volume
        or options.device
        or options.privileged
        or options.security_opt
        or options.uts == "host"
        or any(value is not None and value.startswith("container:") for value in shared)
    ):
        return None
    return root.image_id, replace(options, name=None)


def places_of(groups: Sequence[Group], container_id: str) -> tuple[tuple[str, str], ...]:
    """Where the groups are, without the container's own part of their names."""
    return tuple((each.controllers, each.path.replace(container_id, "")) for each in groups)
