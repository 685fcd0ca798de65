"""``history``: the steps that an image was made by, the last one first."""

from __future__ import annotations

from .. import listing, output, times
from ..imageview import short_id
from ..template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.images import Step
    from ..main import Call

HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
WIDEST_COMMAND = 45
MISSING = "<missing>"


def run(call: Call) -> int:
    """Print a line for each step."""
    options = call.options
    views = [
        StepView(step, truncated=not options.get("no_trunc"), human=options.get("human", True))
        for step in call.engine.history(call.arguments[0])
    ]
    text = options.get("format", "table")
    if options.get("quiet"):
        output.write("".join(f"{view.field('ID')}\n" for view in views))
    else:
        output.write(listing.shown(views, text, COLUMNS, HEADINGS))
    return 0


class StepView(View):
    """One line."""

    type_name = "*formatter.historyContext"
    names = tuple(HEADINGS)

    def __init__(self, step: Step, *, truncated: bool, human: bool) -> None:
        self._step = step
        self._truncated = truncated
        self._human = human

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        step = self._step
        if name == "ID":
            if not step.image_id:
                return MISSING
            return short_id(step.image_id) if self._truncated else step.image_id
        if name == "CreatedSince":
            created = times.parse_timestamp(step.created)
            return times.ago(created) if self._human else step.created
        if name == "CreatedAt":
            return step.created
        if name == "CreatedBy":
            text = step.created_by.replace("\t", " ")
            if self._truncated and len(text) > WIDEST_COMMAND:
                return text[: WIDEST_COMMAND - 1] + output.ELLIPSIS
            return text
        if name == "Size":
            return output.size(step.size) if self._human else str(step.size)
        if name == "Comment":
            return step.comment
        raise KeyError(name)
