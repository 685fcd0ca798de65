"""Print a list of things by ``--format``: docker's default table, a template, or JSON."""

from __future__ import annotations

from . import output
from .errors import Failure
from .template import Template, TemplateError, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class HeaderView(View):
    """The first line of a table: each field is its heading."""

    def __init__(self, headings: dict[str, str]) -> None:
        self._headings = headings

    def field(self, name: str) -> object:
        """The heading; ``.Label "a.b-c"`` is ``b c`` cut from the label's name."""
        if name == "Label":
            return lambda label: label.rpartition(".")[2].replace("-", " ").replace("_", " ")
        return self._headings.get(name, "<no value>")


def shown(
    views: Sequence[View], text: str, columns: Sequence[str], headings: dict[str, str]
) -> str:
    """Each view as a ``--format`` has it; plain ``table`` is that of these columns."""
    if text == "table":
        return default_table(views, columns, headings)
    return formatted(views, text, headings)


def default_table(views: Sequence[View], columns: Sequence[str], headings: dict[str, str]) -> str:
    """The table that is printed when no format is asked for."""
    rows = [[headings[name] for name in columns]]
    rows += [[str(view.field(name)) for name in columns] for view in views]
    return output.table(rows)


def parse_format(text: str) -> Template | None:
    """The template of a ``--format``; None for ``json``."""
    if text == "json":
        return None
    try:
        return Template(_body(text))
    except TemplateError as error:
        raise Failure(f"failed to parse template: {error}") from None


def formatted(views: Sequence[View], text: str, headings: dict[str, str]) -> str:
    """Each view by a ``--format`` other than plain ``table``."""
    template = parse_format(text)
    if template is None:
        return "".join(output.json(view.document()) + "\n" for view in views)
    try:
        lines = [template.render(view) for view in views]
        if not is_table(text):
            return "".join(line + "\n" for line in lines)
        lines.insert(0, template.render(HeaderView(headings)))
    except TemplateError as error:
        raise Failure(f"failed to execute template: {error}") from None
    return output.table([line.split("\t") for line in lines])


def is_table(text: str) -> bool:
    """The format asks for a table, docker's own or one by a template."""
    return text == "table" or text.startswith("table ")


def _body(text: str) -> str:
    body = text.removeprefix("table") if is_table(text) else text
    return body.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
