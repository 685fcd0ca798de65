"""A volume as ``volume ls`` shows it: docker's fields, their headings, and the filters."""

from __future__ import annotations

from .containerview import has_label, matches
from .errors import Failure
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.engine import Engine
    from ..engine.volumes import Volume
    from ..errors import DamagedDocument

HEADINGS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}
COLUMNS = ("Driver", "Name")
FILTERS = ("dangling", "driver", "label", "name")
_NOT_COUNTED = ("Availability", "Group", "Links", "Size", "Status")


class VolumeView(View):
    """One row of ``volume ls``."""

    type_name = "*formatter.volumeContext"
    names = tuple(sorted(HEADINGS))

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        volume = self._volume
        if name == "Name":
            return volume.name
        if name == "Driver":
            return volume.driver
        if name == "Scope":
            return "local"
        if name == "Mountpoint":
            return volume.mountpoint
        if name == "Label":
            return lambda label: dict(volume.labels).get(label, "")
        if name == "Labels":
            return ",".join(f"{key}={value}" for key, value in volume.labels)
        if name in _NOT_COUNTED:
            return "N/A"
        raise KeyError(name)


def select(
    engine: Engine, filters: dict[str, list[str]]
) -> tuple[Sequence[Volume], Sequence[DamagedDocument]]:
    """The volumes that pass every filter, by name, and what cannot be read."""
    from ..engine.volumes import listing, users

    found, problems = listing(engine)
    if "name" in filters:
        found = [each for each in found if any(matches(p, each.name) for p in filters["name"])]
    if "driver" in filters:
        found = [each for each in found if each.driver in filters["driver"]]
    for text in filters.get("label", ()):
        found = [each for each in found if has_label(dict(each.labels), text)]
    for text in filters.get("dangling", ()):
        if text.lower() not in ("true", "1", "t", "false", "0", "f"):
            raise Failure(f"invalid filter 'dangling={text}'")
        wanted = text.lower() in ("true", "1", "t")
        used = users(engine, found)
        found = [each for each in found if (not used[each.name]) == wanted]
    return found, problems
