"""``inspect``: everything about containers, images, networks and volumes, or a part of it."""

from __future__ import annotations

from ...errors import NotFound, SandboxError
from .. import output
from ..documents import parse_format, print_documents
from ..errors import FAILURE, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...jsontext import Json
    from ..main import Call

KINDS = "config container image network node plugin secret service task volume".split()


def run(call: Call) -> int:
    """Print a document for each; what is missing is said, and the others are printed."""
    kind = call.options.get("type", "") or _noun(call)
    if kind and kind not in KINDS:
        known = ", ".join(f'"{each}"' for each in KINDS)
        raise Failure(f'unknown type: "{kind}": must be one of {known}')
    text = call.options.get("format", "")
    parse_format(text)
    documents, problems = [], []
    for name in call.arguments:
        try:
            documents.append(_document(call, name, kind))
        except SandboxError as error:
            problems.append(error.message)
    print_documents(documents, text)
    for problem in problems:
        output.error(problem)
    return FAILURE if problems else 0


def _noun(call: Call) -> str:
    word = call.command.path.split()[1]
    return word if word in ("container", "image", "network", "volume") else ""


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
    if kind in ("", "network"):
        try:
            return call.engine.network(name).inspect()
        except NotFound:
            if kind:
                raise
    if kind in ("", "volume"):
        try:
            return call.engine.volume(name).inspect()
        except NotFound:
            if kind:
                raise
    raise Failure(f"Error: No such {kind or 'object'}: {name}")
