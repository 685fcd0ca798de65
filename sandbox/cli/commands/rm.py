"""``rm``: remove containers."""

from __future__ import annotations

from ...errors import ContainerNotFound, SandboxError
from .. import output
from ..errors import FAILURE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print the name of each that is gone; with ``-f`` a missing one is no failure."""
    force = bool(call.options.get("force"))
    code = 0
    for name in call.names(running=False):
        try:
            call.engine.remove(name, force=force, volumes=bool(call.options.get("volumes")))
        except SandboxError as error:
            output.error(error.message)
            if not (force and isinstance(error, ContainerNotFound)):
                code = FAILURE
        else:
            output.line(name)
    return code
