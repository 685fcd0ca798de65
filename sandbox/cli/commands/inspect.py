"""``inspect``: everything about containers and images, as JSON or by a template."""

from __future__ import annotations

from ...errors import NotFound, SandboxError
from .. import output
from ..errors import FAILURE, Failure
from ..template import Template, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...jsontext import Json
    from ..main import Call

TEMPLATE_USAGE = 64
KINDS = "config container image network node plugin secret service task volume".split()


def run(call: Call) -> int:
    """Print a document for each; what is missing is said, and the others are printed."""
    kind = call.options.get("type", "") or _noun(call)
    if kind and kind not in KINDS:
        known = ", ".join(f'"{each}"' for each in KINDS)
        raise Failure(f'unknown type: "{kind}": must be one of {known}')
    template = _template(call.options.get("format", ""))
    documents, problems = [], []
    for name in call.arguments:
        try:
            documents.append(_document(call, name, kind))
        except SandboxError as error:
            problems.append(error.message)
    _print(documents, template, as_json=call.options.get("format") == "json")
    for problem in problems:
        output.error(problem)
    return FAILURE if problems else 0


def _noun(call: Call) -> str:
    word = call.command.path.split()[1]
    return word if word in ("container", "image") else ""


def _template(text: str) -> Template | None:
    if not text or text == "json":
        return None
    try:
        return Template(text)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", code=TEMPLATE_USAGE) from None


def _document(call: Call, name: str, kind: str) -> dict[str, Json]:
    from ...engine.inspect import inspect_container, inspect_image

    if kind in ("", "container"):
        try:
            container = call.engine.container(name)
        except NotFound:
            if kind:
                raise
        else:
            return inspect_container(container, with_size=bool(call.options.get("size")))
    if kind in ("", "image"):
        try:
            return inspect_image(call.engine, call.engine.image(name))
        except NotFound as error:
            if kind:
                raise Failure(f"no such image: {name}: {error.message}") from None
        except SandboxError:
            if kind:
                raise
    raise Failure(f"Error: No such {kind or 'object'}: {name}")


def _print(documents: list[dict[str, Json]], template: Template | None, *, as_json: bool) -> None:
    if as_json:
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
