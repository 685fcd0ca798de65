"""``run``: create, start, stay until the end."""

from __future__ import annotations

from .. import runoptions
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..main import Call


def run(call: Call) -> int:
    """Run a new container; the exit code is the program's."""
    options, (image, *command) = call.options, call.arguments
    keywords = runoptions.keywords(options)
    cidfile = options.get("cidfile")
    if cidfile:
        runoptions.check_cidfile(cidfile)
    if options.get("detach"):
        return _detached(call, image, command, keywords, cidfile)
    from ..attached import Asked, stay

    streams = runoptions.streams(options)
    asked = Asked(
        tty=bool(options.get("tty")),
        stdin=bool(options.get("interactive")) and "stdin" in streams,
        stdout="stdout" in streams,
        stderr="stderr" in streams,
        proxy=options.get("sig_proxy", True),
        detach_keys=options.get("detach_keys"),
        report=options.get("report", ""),
        report_file=options.get("report_file", ""),
        cidfile=cidfile or "",
    )
    return runoptions.with_image(
        call,
        image,
        lambda: stay(
            asked,
            lambda stdio, size: call.engine.start_new(
                image, command, stdio=stdio, size=size, **keywords
            ),
        ),
    )


def _detached(
    call: Call, image: str, command: list[str], keywords: dict[str, Any], cidfile: str | None
) -> int:
    from ..output import line

    if call.options.get("report") or call.options.get("report_file"):
        raise Failure("--report needs the foreground; `sandbox wait --report` shows it later")
    attachment = runoptions.with_image(
        call, image, lambda: call.engine.start_new(image, command, **keywords)
    )
    attachment.close()
    if cidfile:
        runoptions.write_cidfile(cidfile, attachment.container.id)
    line(attachment.container.id)
    return 0
