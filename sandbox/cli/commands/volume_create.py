"""``volume create``: make a volume, or find the one that has the name."""

from __future__ import annotations

from .. import output, pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print its name."""
    options = call.options
    volume = call.engine.create_volume(
        call.arguments[0] if call.arguments else "",
        driver=options.get("driver") or "local",
        labels=pairs.parse(options.get("label", ())),
        options=pairs.parse(options.get("opt", ())),
    )
    output.line(volume.name)
    return 0
