"""``volume create``: make a volume, or find the one that has the name."""

from __future__ import annotations

from .. import output
from ..errors import FlagError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..main import Call


def run(call: Call) -> int:
    """Print its name."""
    options = call.options
    volume = call.engine.create_volume(
        call.arguments[0] if call.arguments else "",
        driver=options.get("driver") or "local",
        labels=_pairs(options.get("label", ())),
        options=_pairs(options.get("opt", ())),
    )
    output.line(volume.name)
    return 0


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name:
            raise FlagError(f"invalid value, without a name: {text}")
        pairs[name] = value
    return pairs
