"""``tag``: give an image one more name."""

from __future__ import annotations

from ...errors import InvalidReference
from ...oci.reference import parse_name
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print nothing."""
    source, target = call.arguments
    try:
        parse_name(target)
    except InvalidReference as error:
        raise Failure(
            f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}'
        ) from None
    call.engine.tag(source, target)
    return 0
