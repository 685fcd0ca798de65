"""``attach``: join the streams of a container that runs already."""

from __future__ import annotations

import os

from ...engine import attaching
from ...errors import UsageError
from ..attached import Asked, stay
from ..errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Stay until the end of its run, whose exit code is ours, or until the detach keys."""
    options = call.options
    container = call.engine.container(call.arguments[0])
    attaching.check(container)
    tty, wants_stdin = container.options.tty, not options.get("no_stdin")
    if tty and wants_stdin and not os.isatty(0):
        raise Failure("the input device is not a TTY")
    keys = options.get("detach_keys") or None
    if keys is not None:
        _check_keys(keys)
    stdin = wants_stdin and container.options.interactive
    asked = Asked(
        tty=tty,
        stdin=stdin,
        # At a terminal the keys are how to signal the program; what is sent to us is for us.
        proxy=options.get("sig_proxy", True) and not tty,
        detach_keys=keys,
        leaving_fails=True,
    )
    return stay(
        asked,
        lambda stdio, size: container.attach(stdio, stdin=stdin, size=size if tty else None),
    )


def _check_keys(keys: str) -> None:
    from ..terminal import parse_keys

    try:
        parse_keys(keys)
    except UsageError:
        raise Failure(f"Invalid detach keys ({keys}) provided") from None
