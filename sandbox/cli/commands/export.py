"""``export``: the root of a container as a tar archive."""

from __future__ import annotations

import os

from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Write it to stdout or into a file."""
    path = call.options.get("output", "")
    if not path and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    container = call.engine.container(call.arguments[0])
    if not path:
        container.export(1)
        return 0
    from ..outputfile import whole_file

    try:
        with whole_file(path) as fd:
            container.export(fd)
    except FileNotFoundError as error:
        raise Failure(
            f'failed to export container: invalid output path: directory "{os.path.dirname(path)}" '
            "does not exist"
        ) from error
    return 0
