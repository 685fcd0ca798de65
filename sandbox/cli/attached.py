"""One run in the foreground, begun here or joined: streams, terminal, signals, report."""

from __future__ import annotations

import os

from ..record import Record
from .errors import Failure
from .foreground import PROXIED, WINDOW_CHANGED, Signals, exit_code, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..engine.container import Attachment
    from ..engine.inspect import ExitRecord

    Stdio: TypeAlias = tuple[int, int, int]
    Start: TypeAlias = Callable[[Stdio, tuple[int, int]], Attachment]


class Asked(Record):
    """How to stay with it.

    Without ``proxy`` a signal ends this program as it would any other; the
    terminal is restored before.  ``leaving_fails`` is docker's way with ``attach``:
    the detach keys end it with an error.
    """

    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    proxy: bool = True
    detach_keys: str | None = None
    leaving_fails: bool = False
    report: str = ""
    report_file: str = ""
    cidfile: str = ""


def stay(asked: Asked, start: Start) -> int:
    """Start, stay until the end (or until the detach keys), report; the exit code."""
    if asked.report not in ("", "text", "json"):
        raise Failure(f'invalid report format "{asked.report}": text or json', code=125)
    if asked.report_file and not os.path.isdir(os.path.dirname(asked.report_file) or "."):
        raise Failure(f"open {asked.report_file}: no such file or directory", code=125)
    if asked.tty:
        if asked.stdin and not os.isatty(0):
            raise Failure("the input device is not a TTY")
        return _with_terminal(asked, start)
    null = -1
    if not (asked.stdin and asked.stdout and asked.stderr):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stdio = (
        0 if asked.stdin else null,
        1 if asked.stdout else null,
        2 if asked.stderr else null,
    )
    try:
        with Signals(PROXIED if asked.proxy else ()) as signals:
            attachment = start(stdio, (24, 80))
            _write_cidfile(asked, attachment)
            record = wait(attachment, signals)
    finally:
        if null >= 0:
            os.close(null)
    return _end(asked, attachment, record)


def _with_terminal(asked: Asked, start: Start) -> int:
    from .terminal import DEFAULT_DETACH_KEYS, RawMode, Relay, window_size

    keys = DEFAULT_DETACH_KEYS if asked.detach_keys is None else asked.detach_keys
    with (
        Relay(interactive=asked.stdin, detach_keys=keys, proxy=asked.proxy) as relay,
        Signals((*PROXIED, WINDOW_CHANGED)) as signals,
    ):
        attachment = start(relay.stdio, window_size())
        _write_cidfile(asked, attachment)
        if asked.stdin:
            with RawMode(0):
                record = relay.serve(attachment, signals)
        else:
            record = relay.serve(attachment, signals)
    if record is None and relay.left_by:
        attachment.close()
        return 128 + relay.left_by
    if record is None:
        attachment.detach()
        if asked.leaving_fails:
            raise Failure("read escape sequence")
        return 0
    return _end(asked, attachment, record)


def _end(asked: Asked, attachment: Attachment, record: ExitRecord) -> int:
    if asked.report or asked.report_file:
        from .report import print_report, write_report  # only when asked for

        if asked.report:
            print_report(attachment, record, as_json=asked.report == "json")
        if asked.report_file:
            write_report(asked.report_file, attachment, record)
    return exit_code(record)


def _write_cidfile(asked: Asked, attachment: Attachment) -> None:
    if asked.cidfile:
        from .runoptions import write_cidfile

        write_cidfile(asked.cidfile, attachment.container.id)
