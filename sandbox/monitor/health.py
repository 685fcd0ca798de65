"""The file in which a monitor keeps how well its container is; ``native/health.h`` has its format.

Out of scope: whether the container still runs.
"""

from __future__ import annotations

from ..errors import DamagedDocument, SandboxError
from ..record import Record
from . import exitrecord

STARTING = "starting"
HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
NONE = "none"  # of a container that nothing checks


class HealthResult(Record):
    """One check.  Times are nanoseconds since the epoch; ``exit_code`` is -1 when there is none.

    ``output`` is the start of what it printed, or says why there is no exit code.
    """

    started_ns: int
    finished_ns: int
    exit_code: int
    output: str


class Health(Record):
    """``starting``, ``healthy`` or ``unhealthy``; ``log`` has the last five checks, oldest first.

    ``failing_streak`` is how many failed one after another, as far as they count.
    """

    status: str
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


def parse(content: bytes) -> Health:
    """Read the file.  Raises `DamagedDocument`."""
    try:
        status, streak, log = "", 0, []
        for line in content.split(b"\n"):
            word, _, rest = line.partition(b" ")
            if word == b"status":
                status = rest.decode("ascii")
            elif word == b"streak":
                streak = int(rest)
            elif word == b"result":
                log.append(_result(rest))
        if status not in (STARTING, HEALTHY, UNHEALTHY):
            raise ValueError(f"no status {status!r}")
    except ValueError as error:
        raise DamagedDocument(what="health", problem=str(error)) from error
    return Health(status=status, failing_streak=streak, log=tuple(log))


def _result(line: bytes) -> HealthResult:
    started, finished, kind, text, escaped = line.split(b" ", 4)
    number = int(text)
    output = _unescaped(escaped)
    shown = output.decode("utf-8", "replace")
    if kind == b"failed":
        number, shown = -1, _failure(output)
    elif kind == b"timeout":
        shown = f"Health check exceeded timeout ({duration(number)}){': ' if shown else ''}{shown}"
        number = -1
    return HealthResult(
        started_ns=int(started), finished_ns=int(finished), exit_code=number, output=shown
    )


def _unescaped(text: bytes) -> bytes:
    parts = text.split(b"\\\\")
    return b"\\".join(part.replace(b"\\n", b"\n") for part in parts)


def _failure(record: bytes) -> str:
    try:
        return str(exitrecord.describe_failure(exitrecord.parse(record)))
    except SandboxError as error:
        return str(error)


def duration(milliseconds: int) -> str:
    """A time as docker prints it: ``500ms``, ``1.5s``, ``1m30s``, ``2h0m0s``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
