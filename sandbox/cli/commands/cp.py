"""``cp``: files between a container and this machine."""

from __future__ import annotations

import os

from ...engine.copypaths import split_argument
from .. import output
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.copying import Copied
    from ..main import Call


def run(call: Call) -> int:
    """Copy, and on a terminal say what was copied."""
    source, destination = call.arguments
    source_container, source_path = split_argument(source)
    container, path = split_argument(destination)
    if source_container and container:
        raise Failure("copying between containers is not supported")
    if not source_container and not container:
        raise Failure("must specify at least one container source")
    if container:
        copied = _in(call, source_path, container, path)
        where = f"{container}:{path}"
    else:
        copied = _out(call, source_container, source_path, path)
        where = copied.path
    if call.options.get("quiet", not os.isatty(1)) or "-" in (source_path, path):
        return 0
    output.error(f"Successfully copied {output.size(copied.bytes)} to {where}")
    return 0


def _in(call: Call, source: str, name: str, path: str) -> Copied:
    container = call.engine.container(name)
    archive = bool(call.options.get("archive"))
    if source == "-":
        return container.put(path, 0)
    return container.copy_in(
        source,
        path,
        follow_link=bool(call.options.get("follow_link")),
        archive=archive,
    )


def _out(call: Call, name: str, path: str, destination: str) -> Copied:
    container = call.engine.container(name)
    follow_link = bool(call.options.get("follow_link"))
    archive = bool(call.options.get("archive"))
    if destination == "-":
        return container.get_to(1, path, follow_link=follow_link)
    copied = container.copy_out(path, destination, follow_link=follow_link, archive=archive)
    if copied.left_out and not call.options.get("quiet"):
        more = "" if archive else "; -a copies devices"
        output.error(f"left out: {copied.left_out} devices, sockets or attributes{more}")
    return copied
