"""``commit``: make an image of a container."""

from __future__ import annotations

import signal

from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the new image's id."""
    from ...oci.reference import parse_name

    name, *references = call.arguments
    reference = references[0] if references else ""
    if reference:
        parse_name(reference)  # a bad one is said before a container is looked for
    # Whoever ends us politely must not leave the container standing still.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    options = call.options
    image_id = call.engine.container(name).commit(
        reference,
        author=options.get("author", ""),
        message=options.get("message", ""),
        changes=options.get("change", ()),
        pause=options.get("pause", True),
    )
    line(image_id)
    return 0
