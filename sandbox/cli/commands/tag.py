"""``tag``: give an image one more name."""

from __future__ import annotations

from ...errors import InvalidReference
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print nothing."""
    source, target = call.arguments
    try:
        call.engine.tag(source, target)
    except InvalidReference as error:
        if error.text != target:
            raise
        raise Failure(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}'
        ) from None
    return 0
