"""``port``: where the published ports of a container are."""

from __future__ import annotations

from .. import output
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print a line for each way to a port; one that is asked for and not published is missing."""
    from ..portview import lines

    name, *wanted = call.arguments
    text = wanted[0] if wanted else ""
    ports = call.engine.container(name).ports()
    number = text.partition("/")[0]
    if wanted and not (number.isascii() and number.isdigit()):
        problem = f'strconv.ParseUint: parsing "{number}": invalid syntax'
        raise Failure(f"Error: invalid port ({number}): {problem}")
    found = lines(ports, text)
    if wanted and not found:
        raise Failure(f"Error: No public port '{text}' published for {name}")
    output.write("".join(f"{line}\n" for line in found))
    return 0
