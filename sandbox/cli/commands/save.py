"""``save``: images as one archive, for `load` here and elsewhere."""

from __future__ import annotations

import os

from ..errors import Failure
from ..progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Write the archive to the file, or to stdout."""
    path = call.options.get("output", "")
    if not path:
        if os.isatty(1):
            raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        _write(call, 1)
        return 0
    from ..outputfile import whole_file

    try:
        with whole_file(path) as fd:
            _write(call, fd)
    except FileNotFoundError as error:
        raise Failure(
            f'failed to save image: invalid output path: directory "{os.path.dirname(path)}" '
            "does not exist"
        ) from error
    return 0


def _write(call: Call, fd: int) -> None:
    with Progress() as progress, open(fd, "wb", closefd=False) as out:
        call.engine.save(call.arguments, out, progress=progress)
