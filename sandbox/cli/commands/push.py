"""``push``: give images to a registry."""

from __future__ import annotations

from ...errors import ImageNotFound
from ...oci.reference import parse, parse_name
from ..errors import Failure
from ..output import line
from ..transfers import Rows, default_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Say what happens to each layer, and the digest that the name has there now."""
    text = call.arguments[0]
    name = parse_name(text)
    quiet = bool(call.options.get("quiet"))
    names: tuple[str, ...] = (name.familiar,)
    if call.options.get("all_tags"):
        if not default_tag(text):
            raise Failure("tag can't be used with --all-tags/-a")
        names = _local(call, name.repository)
    elif default_tag(text) and not quiet:
        line("Using default tag: latest")
    if not quiet:
        line(f"The push refers to repository [{name.repository}]")
    if not names:
        raise Failure(f"An image does not exist locally with the tag: {name.familiar_repository}")
    for each in names:
        try:
            pushed = call.engine.push(each, progress=Rows(quiet=quiet))
        except ImageNotFound:
            raise Failure(
                f"An image does not exist locally with the tag: {name.familiar_repository}",
                hint="`sandbox tag` gives an image the name that it is to have there",
            ) from None
        if not quiet:
            line(f"{parse(each).tag}: digest: {pushed.digest} size: {pushed.size}")
    if quiet:
        line(name.repository if call.options.get("all_tags") else name.canonical)
    return 0


def _local(call: Call, repository: str) -> tuple[str, ...]:
    names = [name for image in call.engine.images() for name in image.names]
    return tuple(sorted(name for name in names if parse(name).repository == repository))
