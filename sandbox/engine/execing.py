"""One more process in a running container: found, planned, started, captured.

Everything about it is the container's (environment, user, capabilities, seccomp
filter, limits) but for what is asked otherwise.  Its monitor is one of its own,
which keeps no file and holds no lock: when it or the container ends, nothing is
left to take back.
"""

from __future__ import annotations

import os
import time

from ..errors import ExecFailed, LaunchFailed, MonitorLost, UsageError, WrongStatus
from ..monitor import client, exitrecord, protocol
from ..native.plan import describe, encode
from ..oci.spec import Process, Spec
from ..record import replace
from ..runtime import capabilities, defaults, identity, users
from ..runtime.exec import ExecSettings, compile_exec
from ..runtime.launch import Group
from ..state import containers, events
from ..state.document import read_bytes
from . import journal
from .container import Attachment
from .options import parse_options
from .result import ExecResult
from .root import Root
from .specify import id_maps, process_of, seccomp_filter
from .status import PAUSED, RESTARTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Any

    from ..errors import SandboxError
    from ..monitor.exitrecord import ExitRecord
    from .container import Container
    from .engine import Engine
    from .options import RunOptions

_END_S = 0.2
_MOST_SHOWN = 512  # characters of a command, in an event
# What can be asked of an exec, by the names that `run` has for it.
KEYWORDS = ("env", "interactive", "privileged", "timeout", "tty", "user", "workdir")


class Execution(Attachment):
    """One exec, seen by the process that started it."""

    def wait(self) -> ExitRecord:
        """Wait for the end; a record that says ``lost`` when nobody knows how."""
        if self._record is None:
            try:
                self._record = self._launch.wait()
            except MonitorLost:
                now = time.time_ns()
                self._record = exitrecord.parse(exitrecord.lost(started_ns=now, finished_ns=now))
            self._launch.close()
            self._launch.wait_gone()
        return self._record

    def detach(self) -> None:
        """Leave it; it goes on."""
        self.close()

    def abandon(self) -> None:
        """Let go of it, which ends it, and wait for that."""
        self._launch.close()
        self._launch.wait_gone()


def start(
    engine: Engine,
    container: Container,
    command: Iterable[str],
    keywords: dict[str, Any],
    stdio: tuple[int, int, int] | None,
    *,
    size: tuple[int, int],
    with_launcher: bool,
) -> Execution:
    """Start it; returns when the program has been executed."""
    unknown = keywords.keys() - set(KEYWORDS)
    if unknown:
        raise UsageError(
            f"unknown option {min(unknown)!r}", hint=f"there are {', '.join(KEYWORDS)}"
        )
    asked = parse_options(container.image, command, keywords)
    if not asked.command:
        raise UsageError("no command specified")
    first = _first_process(engine, container)
    exec_id = containers.new_id()
    try:
        with _Process(first) as process:
            ops = _plan(engine, container, asked, process, exec_id, stdio, size, with_launcher)
    except (FileNotFoundError, ProcessLookupError):
        if not _is_gone_soon(first):
            raise
        raise _not_running(container) from None
    if engine.debug is not None:
        engine.debug(describe(ops))
    words = " ".join(asked.command)[:_MOST_SHOWN]
    for action in ("exec_create", "exec_start"):
        said = f"{action}: {words}"
        events.of_container(engine.paths, container.record, said, ("execID", exec_id))
    launch = _start_monitor(engine, container, encode(ops), stdio)
    try:
        launch.wait_started()
    except BaseException as error:
        launch.close()
        launch.wait_gone()
        if isinstance(error, LaunchFailed):
            raise _explained(container, first, error) from error
        raise
    return Execution(container, launch, ())


def run(
    engine: Engine,
    container: Container,
    command: Iterable[str],
    keywords: dict[str, Any],
    stdin: bytes | None,
) -> ExecResult:
    """Start it, collect both streams, and judge."""
    from .capture import collect

    if stdin is not None:
        keywords["interactive"] = True
    record, outputs, _attachment = collect(
        lambda stdio: start(
            engine, container, command, keywords, stdio, size=(24, 80), with_launcher=True
        ),
        stdin,
    )
    verdict, detail = exitrecord.verdict_of(record)
    return ExecResult(
        container_id=container.id,
        stdout=outputs["stdout"],
        stderr=outputs["stderr"],
        exit_code=record.exit_code,
        signal=record.signal,
        verdict=verdict,
        detail=detail,
        record=record,
    )


def _first_process(engine: Engine, container: Container) -> protocol.Started:
    status = container.status()
    if status.word == PAUSED:
        raise WrongStatus(
            f"Container {container.name} is paused, unpause the container before exec",
            container=container.id,
            status=PAUSED,
        )
    if not status.is_live:
        raise _not_running(container)
    if status.word == RESTARTING:
        raise WrongStatus(
            f"Container {container.id} is restarting, wait until the container is running",
            container=container.id,
            status=RESTARTING,
        )
    live = engine.paths.live_container(container.id)
    try:
        started = protocol.parse_started(read_bytes(f"{live}/started"))
    except FileNotFoundError:
        started = None
    if started is None:
        raise _not_running(container)
    return started


class _Process:
    """A handle on the container's first process: its folder in ``/proc``."""

    def __init__(self, first: protocol.Started) -> None:
        self.first = first
        self._fd = -1

    def __enter__(self) -> _Process:
        self._fd = identity.open_process(self.first.pid, self.first.start_time)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def place_in(self, path: str) -> str:
        """Where in this v2 group a process may be: the group, or the first process's below it.

        A group that has handed controllers down, as an init system does with its own, takes
        no process any more.
        """
        try:
            if not read_bytes(f"{path}/cgroup.subtree_control").strip():
                return path
            text = read_bytes("cgroup", dir_fd=self._fd).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, ProcessLookupError):
            return path
        for line in text.splitlines():
            _above, is_below, below = line.partition(f"/{os.path.basename(path)}/")
            if line.startswith("0::") and is_below:
                return f"{path}/{below}"
        return path

    def open_in_root(self, path: str) -> int | None:
        """A file of the tree that it sees, volumes and all."""
        return users.find_in_layers((f"/proc/self/fd/{self._fd}/root",), path)


def _plan(
    engine: Engine,
    container: Container,
    asked: RunOptions,
    first: _Process,
    exec_id: str,
    stdio: tuple[int, int, int] | None,
    size: tuple[int, int],
    with_launcher: bool,
) -> tuple[Any, ...]:
    options = container.options
    process, held = _process(engine, container, options, asked, first)
    entry = journal.read(engine.paths, container.id)
    groups = entry.groups if entry is not None else ()
    uid_mappings, gid_mappings = id_maps(options)
    settings = ExecSettings(
        id=container.id,
        pid=first.first.pid,
        start_time=first.first.start_time,
        # The journal has the places where a group may be; where it is, there is a folder.
        groups=tuple(
            Group(
                version=each.version,
                controllers=",".join(each.controllers),
                path=each.path if each.version == 1 else first.place_in(each.path),
            )
            for each in groups
            if os.path.isdir(each.path)
        ),
        uid_mappings=uid_mappings,
        gid_mappings=gid_mappings,
        tty=asked.tty,
        stdin_open=asked.interactive and stdio is not None,
        rows=size[0],
        columns=size[1],
        wall_ms=0 if asked.timeout_s is None else max(1, round(asked.timeout_s * 1000)),
        with_launcher=with_launcher,
        oom_score_adj=options.oom_score_adj,
        events=engine.paths.events,
        exec_id=exec_id,
    )
    return compile_exec(process, settings, seccomp_filter(engine, options, Spec(process=held)))


def _process(
    engine: Engine, container: Container, options: RunOptions, asked: RunOptions, first: _Process
) -> tuple[Process, Process]:
    """What runs; and the same with what the container may have, which chooses the filter."""
    image_id = container.image_id
    root = Root.of_image(engine, image_id) if image_id else Root.of_options(engine, options)
    user = users.resolve_user(
        root.config.user if (said := _first_of(asked.user, options.user)) is None else said,
        first.open_in_root,
        group_add=options.group_add,
    )
    merged = replace(
        options,
        env=(*options.env, *asked.env),
        workdir=asked.workdir or options.workdir,
        tty=asked.tty,
    )
    hostname = options.hostname or container.id[:12]
    if options.uts == "host":
        hostname = os.uname().nodename
    held = process_of(asked.command, merged, root.config, user, hostname=hostname)
    if not asked.privileged:
        return held, held
    every = defaults.default_capabilities(capabilities.NAMES)
    return replace(held, capabilities=every), held


def _first_of(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)


def _start_monitor(
    engine: Engine, container: Container, plan: bytes, stdio: tuple[int, int, int] | None
) -> client.Launch:
    # In the place of the lock, too: the container's own is not this monitor's to hold.
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        return client.start(
            plan,
            run_dir=engine.paths.live_container(container.id),
            lock_fd=null,
            stdio=stdio or (null, null, null),
            id=container.id,
        )
    finally:
        os.close(null)


def _explained(container: Container, first: protocol.Started, error: LaunchFailed) -> SandboxError:
    if isinstance(error, ExecFailed):
        return error
    if error.step == "workdir":
        return LaunchFailed(
            f'chdir to cwd ("{error.path}") set in config.json failed: '
            f"{os.strerror(error.errno).lower()}",
            step=error.step,
            syscall=error.syscall,
            path=error.path,
            errno=error.errno,
        )
    return _not_running(container) if _is_gone_soon(first) else error


def _is_gone_soon(first: protocol.Started) -> bool:
    """Nothing can be joined of a container that is about to end; a moment later it has."""
    deadline = time.monotonic() + _END_S
    while identity.start_time(first.pid) == first.start_time:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _not_running(container: Container) -> WrongStatus:
    return WrongStatus(
        f"Container {container.id} is not running",
        container=container.id,
        status=container.status().word,
    )
