"""Print one document: as a block of text, as JSON, or by a template."""

from __future__ import annotations

from . import output
from .errors import Failure
from .template import Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def print_facts(document: Mapping[str, object], text: str, block: str) -> int:
    """Print ``block`` unless ``--format`` asks for something else."""
    if not text:
        output.write(block)
    elif text == "json":
        output.line(output.json(dict(document)))
    else:
        try:
            output.line(Template(text).render(document))
        except TemplateError as error:
            raise Failure(f"template parsing error: {error}", code=1) from None
    return 0
