"""One more process in a container that runs already: its launch plan.

The same monitor carries it out as a container's, with the ``enter`` setting:
everything is joined and nothing made, before the operations of `process_ops`,
which are those of the container's first process.
"""

from __future__ import annotations

from ..native.plan import (
    LIFETIME_WITH_LAUNCHER,
    STDIO_STDIN,
    STDIO_STDIN_ONCE,
    STDIO_TTY,
    op,
)
from ..record import Record
from . import capabilities, namespaces
from .plan import process_ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..native.plan import Op
    from ..oci.spec import IdMapping, Process
    from .launch import Filter, Group


class ExecSettings(Record):
    """Where the process goes, and how it is watched.

    ``pid`` and ``start_time`` are the container's first process; ``groups`` are
    all of its cgroups; the id mappings are those of its user namespace, if it
    has one.  ``events`` is the log that its end is written to, under ``exec_id``.
    """

    id: str
    pid: int
    start_time: int
    groups: tuple[Group, ...]
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    tty: bool = False
    stdin_open: bool = False
    rows: int = 0
    columns: int = 0
    wall_ms: int = 0
    with_launcher: bool = False
    oom_score_adj: int | None = None
    events: str = ""
    exec_id: str = ""


def compile_exec(process: Process, settings: ExecSettings, loaded: Filter | None) -> tuple[Op, ...]:
    """Everything that the monitor and the process do, in order."""
    stdio = STDIO_TTY * settings.tty | STDIO_STDIN * settings.stdin_open
    stdio |= STDIO_STDIN_ONCE * (settings.stdin_open and not settings.tty)
    ops = [
        op("id", settings.id),
        op("stdio", stdio, settings.rows, settings.columns),
        *(op("cgroup", each.version, each.controllers, each.path) for each in settings.groups),
        op("enter", settings.pid, settings.start_time),
    ]
    if settings.wall_ms:
        ops.append(op("limits", settings.wall_ms, 0, 0))
    if settings.uid_mappings:
        ops.append(
            op(
                "id_map",
                namespaces.id_map(settings.uid_mappings),
                namespaces.id_map(settings.gid_mappings),
            )
        )
    if settings.with_launcher:
        ops.append(op("lifetime", LIFETIME_WITH_LAUNCHER))
    if settings.events:
        ops.append(op("events", settings.events, settings.exec_id))
    if settings.oom_score_adj is not None:
        ops.append(op("oom_score_adj", settings.oom_score_adj))
    if settings.tty:
        ops.append(op("console", process.user.uid, -1))
    # Never made: what the container's program has put in its place is entered, or nothing.
    ops.append(op("workdir", process.cwd, 0))
    ops.append(op("keyring", f"_ses.{settings.id}"))
    bound = -1 if settings.uid_mappings else capabilities.available()
    ops += process_ops(process, loaded, bound=bound)
    return tuple(ops)
