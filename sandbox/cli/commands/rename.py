"""``rename``: give a container another name."""

from __future__ import annotations

from ...errors import NameInUse, SandboxError, UsageError
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print nothing."""
    old, new = (word.strip() for word in call.arguments)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        container = call.engine.container(old)
        container.rename(new.removeprefix("/"))
    except SandboxError as error:
        is_name = isinstance(error, (NameInUse, UsageError)) and "same name" not in error.message
        reason = "Error when allocating new name: " if is_name else ""
        raise Failure(
            f"{reason}{error.message}\nError: failed to rename container named {old}"
        ) from None
    return 0
