"""``import``: make an image of one layer from a tar of a root."""

from __future__ import annotations

import os

from ..errors import Failure
from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the new image's id."""
    source, *names = call.arguments
    _check_platform(call.options.get("platform", ""))
    fd = 0
    if source != "-":
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(f"open {source}: {(error.strerror or '').lower()}") from error
    try:
        image_id = call.engine.import_image(
            fd,
            names[0] if names else "",
            changes=call.options.get("change", ()),
            message=call.options.get("message", ""),
        )
    finally:
        if fd:
            os.close(fd)
    line(image_id)
    return 0


def _check_platform(asked: str) -> None:
    from ..host import PLATFORM

    if asked and asked.split("/")[:2] != PLATFORM.split("/"):
        raise Failure(f"this host runs {PLATFORM}, not {asked}")
