"""``create``: make a container that is ready to start."""

from __future__ import annotations

from .. import runoptions
from ..output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the new container's id."""
    image, *command = call.arguments
    keywords = runoptions.keywords(call.options)
    cidfile = call.options.get("cidfile")
    if cidfile:
        runoptions.check_cidfile(cidfile)
    container = runoptions.with_image(
        call, image, lambda: call.engine.create(image, command, **keywords)
    )
    if cidfile:
        runoptions.write_cidfile(cidfile, container.id)
    line(container.id)
    return 0
