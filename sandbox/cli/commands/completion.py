"""``completion``: the script that teaches a shell this program's words."""

from __future__ import annotations

from ..completion import script
from ..errors import Failure
from ..output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the script."""
    shell = call.arguments[0]
    text = script(shell)
    if text is None:
        raise Failure(f'unknown shell "{shell}": bash, zsh or fish')
    write(text)
    return 0
