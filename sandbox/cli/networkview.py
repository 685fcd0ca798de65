"""A network as ``network ls`` shows it: docker's fields, their headings, and the filters."""

from __future__ import annotations

from . import times
from .containerview import has_label, matches
from .errors import Failure
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.engine import Engine
    from ..engine.networks import Network
    from ..errors import DamagedDocument

HEADINGS = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}
COLUMNS = ("ID", "Name", "Driver", "Scope")
FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_TRUE, _FALSE = ("true", "1", "t"), ("false", "0", "f")


class NetworkView(View):
    """One row of ``network ls``."""

    type_name = "*network.networkContext"
    names = tuple(HEADINGS)

    def __init__(self, network: Network, *, is_short: bool) -> None:
        self._network = network
        self._is_short = is_short

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        network = self._network
        if name == "ID":
            return network.id[:12] if self._is_short else network.id
        if name == "Name":
            return network.name
        if name == "Driver":
            return network.driver
        if name == "Scope":
            return "local"
        if name == "IPv6":
            return str(network.record.ipv6).lower()
        if name == "Internal":
            return str(network.is_internal).lower()
        if name == "Label":
            return lambda label: dict(network.labels).get(label, "")
        if name == "Labels":
            return ",".join(f"{key}={value}" for key, value in network.labels)
        if name == "CreatedAt":
            return times.local_time(network.created_ns)
        raise KeyError(name)


def select(
    engine: Engine, filters: dict[str, list[str]]
) -> tuple[Sequence[Network], Sequence[DamagedDocument]]:
    """The networks that pass every filter, by name, and what cannot be read."""
    from ..engine.networks import listing, mentions

    found, problems = listing(engine, makes_default=True)
    if "name" in filters:
        found = [each for each in found if any(matches(p, each.name) for p in filters["name"])]
    if "id" in filters:
        found = [each for each in found if any(each.id.startswith(p) for p in filters["id"])]
    if "driver" in filters:
        found = [each for each in found if each.driver in filters["driver"]]
    if "scope" in filters:
        found = [each for each in found if "local" in filters["scope"]]
    for text in filters.get("label", ()):
        found = [each for each in found if has_label(dict(each.labels), text)]
    for text in filters.get("type", ()):
        if text not in ("custom", "builtin"):
            raise Failure(f"invalid filter: 'type'='{text}'")
        found = [each for each in found if each.is_predefined == (text == "builtin")]
    for text in filters.get("dangling", ()):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise Failure(f"invalid filter 'dangling={text}'")
        used = mentions(engine.paths)
        wanted = text.lower() in _TRUE
        found = [each for each in found if _is_dangling(each, used) == wanted]
    return found, problems


def _is_dangling(network: Network, used: set[str]) -> bool:
    return not network.is_predefined and network.name not in used
