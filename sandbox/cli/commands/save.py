"""``save``: images as one archive, for `load` here and elsewhere."""

from __future__ import annotations

import os

from ..errors import Failure
from ..outfile import OutFile
from ..progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Write the archive to the file, or to stdout."""
    path = call.options.get("output", "")
    if not path and os.isatty(1):
        raise Failure(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        )
    with Progress(quiet=False) as progress, OutFile(path) as out:
        call.engine.save(call.arguments, out, progress=progress)
    return 0
