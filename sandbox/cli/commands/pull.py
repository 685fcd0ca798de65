"""``pull``: bring images from a registry."""

from __future__ import annotations

from ...oci.reference import parse
from ..errors import Failure
from ..output import line
from ..transfers import default_tag, pull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Say what happens, and at last the whole name."""
    name = call.arguments[0]
    quiet = bool(call.options.get("quiet"))
    names: tuple[str, ...] = (name,)
    if call.options.get("all_tags"):
        if not default_tag(name):
            raise Failure("tag can't be used with --all-tags/-a")
        from ...engine.registries import tags

        names = tags(call.engine, name)
    elif default_tag(name) and not quiet:
        line("Using default tag: latest")
    for each in names:
        pull(call, each, quiet=quiet)
    parsed = parse(name)
    line(parsed.repository if call.options.get("all_tags") else parsed.canonical)
    return 0
