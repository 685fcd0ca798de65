"""Containers chosen by what they are, in place of their names: ``stop``, ``kill``, ``rm``."""

from __future__ import annotations

from ..errors import UsageError
from .containerview import FILTERS, parse_filters, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call


def chosen_ids(call: Call, *, running: bool) -> list[str]:
    """Short ids, as ``ps -q`` has them, of what passes ``--filter`` and ``--ancestor``."""
    if call.arguments:
        raise UsageError(
            "conflicting options: containers are named, or chosen by --filter and --ancestor"
        )
    filters = parse_filters(call.options.get("filter", ()), FILTERS)
    ancestors = call.options.get("ancestor", ())
    if ancestors:
        filters.setdefault("ancestor", []).extend(ancestors)
    found = select(call.engine, call.engine.containers(all=not running), filters)
    return [container.id[:12] for container in found]
