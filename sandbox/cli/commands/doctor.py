"""``doctor``: what this host can do, found by trying."""

from __future__ import annotations

from ..errors import FAILURE, Failure
from ..output import json, line, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print each probe; 1 when something that every run needs is missing."""
    from ...engine.doctor import examine

    asked = call.options.get("format", "table")
    if asked not in ("table", "json"):
        raise Failure(f'invalid format "{asked}": table or json')
    probes = examine(call.engine.paths)
    if asked == "json":
        line(json([probe.document() for probe in probes], indent="    "))
    else:
        width = max(len(probe.name) for probe in probes)
        for probe in probes:
            mark = "ok" if probe.ok else "MISSING" if probe.needed else "lacks"
            write(f"{mark.ljust(8)}{probe.name.ljust(width)}  {probe.detail}\n")
            if not probe.ok and probe.fix:
                write(f"{' ' * (8 + width)}  fix: {probe.fix}\n")
    return FAILURE if any(probe.needed and not probe.ok for probe in probes) else 0
