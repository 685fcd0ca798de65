"""``load``: bring images from an archive or a layout folder."""

from __future__ import annotations

import os

from ..errors import Failure
from ..output import line
from ..progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Load every image and say its names."""
    path = call.options.get("input", "")
    if not path and os.isatty(0):
        raise Failure("requested load from stdin, but stdin is a terminal")
    if path and not os.path.exists(path):
        raise Failure(f"open {path}: no such file or directory")
    with Progress(quiet=bool(call.options.get("quiet"))) as progress:
        found = call.engine.load(path or 0, progress=progress)
    for loaded in found:
        if not loaded.names:
            line(f"Loaded image ID: {loaded.image_id}")
        for name in loaded.names:
            line(f"Loaded image: {name}")
    return 0
