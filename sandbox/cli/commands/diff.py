"""``diff``: what a container changed of its image's files."""

from __future__ import annotations

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a letter and a path for each change."""
    for change in call.engine.container(call.arguments[0]).diff():
        line(f"{change.kind} {change.path}")
    return 0
