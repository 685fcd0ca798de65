"""Print documents: a JSON list, a line of JSON each, or each by a template."""

from __future__ import annotations

from . import output
from .errors import Failure
from .template import Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..jsontext import Json

TEMPLATE_USAGE = 64


def parse_format(text: str) -> Template | None:
    """The template of ``--format``; None for JSON."""
    if not text or text == "json":
        return None
    try:
        return Template(text)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", code=TEMPLATE_USAGE) from None


def print_documents(documents: Sequence[dict[str, Json]], text: str) -> None:
    """Print them as ``--format`` asks; a template that does not fit is a `Failure`."""
    template = parse_format(text)
    if text == "json":
        output.write("".join(_plain(document, "") + "\n" for document in documents))
    elif template is None:
        output.line(_plain(documents, "    "))
    elif not documents:
        output.line("")
    else:
        for document in documents:
            _render(template, document)


def _render(template: Template, document: dict[str, Json]) -> None:
    try:
        output.line(template.render(_Document(document)))
    except TemplateError as error:
        output.line("")
        raise Failure(f"template parsing error: {error}") from None


def _plain(value: object, indent: str) -> str:
    text = output.json(value, indent=indent)
    return text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")


class _Document(dict):  # type: ignore[type-arg]  # JSON
    """With Go's name of the id beside JSON's."""

    def __missing__(self, key: str) -> object:
        if key == "ID" and "Id" in self:
            return self["Id"]
        raise KeyError(key)
