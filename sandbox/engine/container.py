"""One container: its verbs, and the attachment to one run of it.

A verb takes the container's lock for as long as it changes something, asks
the status table first, and leaves the rest to the monitor.
"""

from __future__ import annotations

import os
import time

from ..errors import ContainerNotFound, MonitorLost, UsageError, WrongStatus
from ..monitor import client, exitrecord
from ..state import events, lock
from ..state.containers import is_network
from ..state.document import read_bytes, remove_file, replace_bytes
from . import journal, sweep
from .result import Enforced
from .signals import signal_number
from .status import EXITED, RUNNING, Status, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, Unpack

    from ..jsontext import Json
    from ..layer.diff import Change
    from ..monitor.exitrecord import ExitRecord, Receipt
    from ..monitor.health import Health
    from ..monitor.logs import LogEntry
    from ..paths import Paths
    from ..state.containers import ContainerRecord
    from .attaching import Client
    from .copying import Copied
    from .engine import Engine
    from .keywords import ExecKeywords
    from .launching import Launching, StartAs
    from .options import RunOptions, VolumeMount
    from .publishing import Port
    from .result import ExecResult
    from .watching import ProcessTable, Sample

DEFAULT_STOP_TIMEOUT_S = 10.0

_GOING_S = 5.0  # for a monitor that has told of the end, to take everything back
_GONE_S = 0.1  # and then to end


class Container:
    """A container of one engine.  Making this object reads one document and asks nothing else."""

    def __init__(self, engine: Engine, record: ContainerRecord) -> None:
        self._engine = engine
        self._record = record
        self._options: RunOptions | None = None

    def __repr__(self) -> str:
        return f"Container({self.id[:12]}, {self.name!r})"

    @property
    def record(self) -> ContainerRecord:
        """Its document, as it was read."""
        return self._record

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name, without docker's slash."""
        return self._record.name

    @property
    def image(self) -> str:
        """The reference as it was asked for, or the folder of ``--rootfs``."""
        return self._record.image

    @property
    def image_id(self) -> str:
        """The image's id; empty for ``host`` and ``--rootfs``."""
        return self._record.image_id

    @property
    def command(self) -> tuple[str, ...]:
        """What runs: entry point and arguments."""
        return self._record.argv

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch."""
        return self._record.created_ns

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Labels of the image, and those asked for over them."""
        return self._record.labels

    @property
    def auto_remove(self) -> bool:
        """It is removed after its run."""
        return self._record.auto_remove

    @property
    def options(self) -> RunOptions:
        """Everything that was asked for."""
        if self._options is None:
            from .options import options_from_document

            self._options = options_from_document(self._record.options)
        return self._options

    @property
    def mounts(self) -> tuple[VolumeMount, ...]:
        """What was asked to be mounted."""
        return (*self.options.volume, *self.options.tmpfs)

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of the networks that it is on, or is to be; or ``none``, ``host``, ..."""
        if self._record.networks is None:
            return (self.options.network,)
        return tuple(each.network for each in self._record.networks)

    @property
    def folder(self) -> str:
        """Where everything of it is kept."""
        return self._paths.container(self.id)

    @property
    def log_path(self) -> str:
        """The file its output is kept in."""
        return f"{self.folder}/log"

    @property
    def _paths(self) -> Paths:
        return self._engine.paths

    def status(self) -> Status:
        """What it is doing now."""
        return status_of(self._paths, self.id)

    def health(self) -> Health | None:
        """How well it is, and the last checks; None when nothing has ever been checked.

        Of a container that does not run any more, ``status`` is ``unhealthy``, as docker's.
        """
        try:
            content = read_bytes(f"{self.folder}/health")
        except (FileNotFoundError, NotADirectoryError):
            return None
        # For the few that are checked.
        from ..monitor import health

        found = health.parse(content)
        if found.status == health.UNHEALTHY or self.status().is_live:
            return found
        return health.Health(
            status=health.UNHEALTHY, failing_streak=found.failing_streak, log=found.log
        )

    def inspect(self) -> Json:
        """Docker's document about it."""
        from .inspect import inspect_container

        return inspect_container(self)

    # Running

    def start(
        self,
        stdio: tuple[int, int, int] | None = None,
        *,
        size: tuple[int, int] = (24, 80),
        with_launcher: bool = False,
    ) -> Attachment:
        """Run it.  ``stdio`` are the first client's descriptors; without them it is detached.

        With ``with_launcher`` it dies when this process does.  Returns when the
        program has been executed; raises `ExecFailed` or `LaunchFailed` when it
        could not be, with nothing left behind.
        """
        with self._lock():
            sweep.settle_locked(self._paths, self.id)
            self._need_at_rest()
            # Loads all that makes containers, which other verbs do without.
            from .launching import Launching

            launching = Launching.again(self._engine, self._record, self.options)
            return self._start_locked(launching, stdio, size, with_launcher)

    def start_made(
        self, launching: Launching, start: StartAs, stdio: tuple[int, int, int] | None
    ) -> Attachment:
        """Start a container that was made a moment ago, by the one who holds its lock."""
        return self._start_locked(launching, stdio, start.size, start.with_launcher)

    def _start_locked(
        self,
        launching: Launching,
        stdio: tuple[int, int, int] | None,
        size: tuple[int, int],
        with_launcher: bool,
    ) -> Attachment:
        try:
            launch = launching.start(stdio, size=size, with_launcher=with_launcher)
        except BaseException:
            if self.auto_remove:
                sweep.discard(self._paths, self.id, self._record)
                sweep.remove_volumes(self._paths, self._record)
            raise
        if not self.auto_remove:
            write_enforcement(self.folder, launching.enforcement)
        return Attachment(self, launch, launching.enforcement)

    def attach(
        self,
        stdio: tuple[int, int, int],
        *,
        stdin: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Client:
        """Join the streams of a running container to these descriptors, until `Attachment.close`.

        With ``stdin``, what can be read from the first one is its input, if it
        was made with ``interactive``.  A reader that is too slow misses output
        rather than hold up the container.  ``size`` (rows, columns) is told to
        its terminal.  Raises `WrongStatus` when it does not run or stands still.
        """
        from . import attaching

        return attaching.attach(self, stdio, stdin=stdin, size=size)

    def wait(self) -> ExitRecord:
        """Wait until it does not run, and say how its last run ended."""
        live = self._paths.live_container(self.id)
        while lock.is_held(f"{live}/alive"):
            try:
                with client.connect(live) as control:
                    record = control.wait()
                    control.wait_gone(_GOING_S)
            except MonitorLost:
                # Ended in between, or not listening yet.
                time.sleep(0.002)
                continue
            # It has told of the end, and holds its lock for a moment more.  Another start, by
            # somebody else, would hold it for longer.
            deadline = time.monotonic() + _GONE_S
            while lock.is_held(f"{live}/alive") and time.monotonic() < deadline:
                time.sleep(0.0005)
            return record
        return self.last_exit()

    def last_exit(self) -> ExitRecord:
        """The record of the last run.  `WrongStatus` when it never ran."""
        sweep.settle(self._paths, self.id)
        try:
            return exitrecord.parse(read_bytes(f"{self.folder}/exit"))
        except FileNotFoundError:
            if not os.path.isdir(self.folder):
                raise ContainerNotFound(self.name) from None
            raise WrongStatus(
                f"Container {self.id} has not run", container=self.id, status="created"
            ) from None

    def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to the container's first process, by the monitor's handle on it."""
        number = signal_number(signal)
        self._need_running(f"Cannot kill container: {self.name}: ")
        with self._control() as control:
            if number == 9:
                control.kill()
            else:
                control.signal(number)
        # A paused one goes on, and so to its end, as docker's.
        journal.thaw(self._paths, self.id)

    def stop(self, timeout_s: float | None = None) -> None:
        """Ask it to end, and make it after ``timeout_s`` (10 s unless it was told otherwise).

        A container that does not run is no error.
        """
        status = self.status()
        if not status.is_live:
            sweep.settle(self._paths, self.id)
            return
        if timeout_s is None:
            asked = self.options.stop_timeout
            timeout_s = DEFAULT_STOP_TIMEOUT_S if asked is None else float(asked)
        number = signal_number(self._engine.stop_signal(self._record, self.options))
        try:
            with self._control() as control:
                control.signal(number, stop=True)
                journal.thaw(self._paths, self.id)
                if control.wait_for_exit(timeout_s=timeout_s) is None:
                    control.kill()
                    control.wait_for_exit(timeout_s=10.0)
        except MonitorLost:
            pass
        self.rest(is_stopped=True)
        if self.status().is_live:
            sweep.end(self._paths, self.id)
            sweep.settle(self._paths, self.id, is_stopped=True)
            # In the place of a monitor that could not; see there.
            events.of_container(self._paths, self._record, "stop")

    def restart(self, timeout_s: float | None = None) -> None:
        """Stop it, if it runs, and start it again, with nobody attached."""
        self.stop(timeout_s)
        self.start().close()
        events.of_container(self._paths, self._record, "restart")

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove the container and its writable layer; with ``force`` a running one too.

        With ``volumes`` those without a name go too, unless another container has them.
        """
        if self.status().is_live:
            self._end_by_force(force)
        try:
            held = self._lock()
        except FileNotFoundError:
            return
        with held:
            if self.status().is_live:
                self._end_by_force(force)
            sweep.settle_locked(self._paths, self.id)
            sweep.discard(self._paths, self.id, self._record)
        if volumes:
            sweep.remove_volumes(self._paths, self._record)

    def pause(self) -> None:
        """Freeze all of its processes.  `WrongStatus` when it is paused or does not run."""
        from . import verbs

        verbs.pause(self)

    def unpause(self) -> None:
        """Let them go on.  `WrongStatus` when it is not paused."""
        from . import verbs

        verbs.unpause(self)

    def rename(self, name: str) -> None:
        """Give it another name.  `NameInUse` when another container has it."""
        from . import verbs

        self._record = verbs.rename(self, name)

    def top(self, ps_options: Iterable[str] = ()) -> ProcessTable:
        """Its processes, as this host's ``ps`` shows them; ``-ef`` unless options are given."""
        from . import watching

        return watching.top(self, tuple(ps_options))

    def stats(self) -> Sample:
        """What it has used so far, and its limits, at this moment."""
        from . import watching

        return watching.sample(self)

    def diff(self) -> tuple[Change, ...]:
        """What was added (``A``), changed (``C``) and deleted (``D``) in it, by path.

        Raises `HostLacks` when the disk of its writable layer cannot be mounted.
        """
        from . import writable

        return writable.diff(self)

    def commit(
        self,
        reference: str = "",
        *,
        author: str = "",
        message: str = "",
        changes: Iterable[str] = (),
        pause: bool = True,
    ) -> str:
        """Make an image of its image and what it changed; the new image's id.

        ``reference`` names the image.  ``changes`` are Dockerfile instructions for its
        configuration, which is the container's.  A running container is paused for the
        moment, so that the image is of one moment, unless ``pause`` is false.  Raises
        `InvalidReference`; `UsageError` for a container that has no image; `HostLacks`
        when the disk of its writable layer cannot be mounted; `ImageError` for what no
        image can hold; `StoreFull`.
        """
        from . import writable

        return writable.commit(
            self,
            reference,
            author=author,
            message=message,
            changes=tuple(changes),
            is_paused=pause,
        )

    def update(self, **limits: Any) -> None:
        """Change limits, of its present run too: memory, memory_swap, cpus, pids_limit, ...

        They are options of ``run``, by the same names; `sandbox.engine.updating` lists them.
        """
        from . import updating

        self._record, self._options = updating.update(self, limits), None

    def exec_start(
        self,
        command: Iterable[str],
        /,
        stdio: tuple[int, int, int] | None = None,
        *,
        size: tuple[int, int] = (24, 80),
        with_launcher: bool = False,
        **keywords: Unpack[ExecKeywords],
    ) -> Attachment:
        """Start one more process in it; ``stdio`` and ``with_launcher`` are as with `start`.

        Keywords: ``env``, ``user``, ``workdir``, ``privileged``, ``tty``,
        ``interactive`` and ``timeout``; what is not given is the container's.
        Raises `WrongStatus` when the container does not run, `ExecFailed` or
        `LaunchFailed` when the program could not be executed.
        """
        # Loads all that makes containers, which other verbs do without.
        from . import execing

        asked = dict(keywords)
        return execing.start(
            self._engine, self, command, asked, stdio, size=size, with_launcher=with_launcher
        )

    def exec_run(
        self,
        command: Iterable[str],
        /,
        *,
        stdin: bytes | None = None,
        **keywords: Unpack[ExecKeywords],
    ) -> ExecResult:
        """Run one more command in it, wait for its end, and return what it printed.

        Keywords are those of `exec_start`.  A command that is interrupted, or
        takes longer than ``timeout``, is killed with all of its session.
        """
        from . import execing

        return execing.run(self._engine, self, command, dict(keywords), stdin)

    # Its files

    def get(self, path: str, *, follow_link: bool = False) -> Iterator[bytes]:
        """A file or folder as a tar stream, in pieces of at most a MiB.

        The names in it begin with the last component of ``path``; ``path/.`` is the
        content of a folder.  A link is itself, or with ``follow_link`` what it leads
        to.  `NotFound` when it is not there.  It works in any state, as all of these
        do, and sees volumes and tmpfs where they are mounted.
        """
        from . import copying

        made = copying.stream_path(self, path, follow_link=follow_link)
        self._log("archive-path")
        return made

    def get_to(self, fd: int, path: str, *, follow_link: bool = False) -> Copied:
        """The same to an open descriptor, which is borrowed."""
        from . import copying

        made = copying.pack_path(self, path, fd, follow_link=follow_link)
        self._log("archive-path")
        return made

    def put(
        self,
        path: str,
        tar: int | bytes | Iterable[bytes],
        *,
        owner: tuple[int, int] | None = None,
    ) -> Copied:
        """Unpack a tar, compressed or not, into the folder ``path``.

        ``tar`` is an open descriptor, the bytes, or pieces of them.  Files belong to
        the ids that it says, or all to ``owner`` (user, group), as the container has
        them.  `NotFound` without the folder, `PathConflict` where a folder and a file
        have one name, `DamagedArchive`, `UnsafeArchive`.
        """
        from . import copying

        made = copying.unpack_into(
            self, path, (tar,) if isinstance(tar, bytes) else tar, owner=owner
        )
        self._log("extract-to-dir")
        return made

    def copy_in(
        self, source: str, path: str, *, follow_link: bool = False, archive: bool = False
    ) -> Copied:
        """Copy a file or folder of this machine to ``path``, by the rules of ``docker cp``.

        It belongs to the container's root, or with ``archive`` to the ids that it has here.
        """
        from . import copying

        made = copying.copy_in(self, source, path, follow_link=follow_link, archive=archive)
        self._log("extract-to-dir")
        return made

    def copy_out(
        self, path: str, destination: str, *, follow_link: bool = False, archive: bool = False
    ) -> Copied:
        """Copy ``path`` to this machine, by the rules of ``docker cp``.

        It belongs to the caller, without devices, attributes and set-id bits; with
        ``archive`` it keeps them, and its owners.
        """
        from . import copying

        made = copying.copy_out(self, path, destination, follow_link=follow_link, archive=archive)
        self._log("archive-path")
        return made

    def export(self, fd: int) -> Copied:
        """Write its whole root to a descriptor, as a tar that ``import`` takes.

        What is mounted in it, as volumes are, is an empty place.
        """
        from . import copying

        made = copying.export(self, fd)
        self._log("export")
        return made

    def read_bytes(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """The content of one regular file, links followed; `UsageError` when there is more."""
        from . import copying

        return copying.read(self, path, max_bytes=max_bytes)

    def write_bytes(
        self,
        path: str,
        data: bytes,
        *,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        """Make or replace one file, whose folder is there; a link at its end is followed."""
        from . import copying

        copying.write(self, path, data, mode=mode, owner=owner)

    def log_details(self) -> tuple[tuple[str, str], ...]:
        """The labels and variables that ``--log-opt labels=,env=`` names, sorted by name."""
        from .inspect import log_details

        return log_details(self)

    def logs(
        self,
        *,
        follow: bool = False,
        since_ns: int | None = None,
        until_ns: int | None = None,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        """What it printed, oldest first; with ``follow`` until its end.

        `UsageError` when it was made to keep no log.
        """
        from ..monitor import logs

        if self.options.log_driver == "none":
            raise UsageError("configured logging driver does not support reading")
        live = f"{self._paths.live_container(self.id)}/alive"
        return logs.read(
            self.log_path,
            follow=(lambda: lock.is_held(live)) if follow else None,
            since_ns=since_ns,
            until_ns=until_ns,
            tail=tail,
        )

    def ports(self) -> tuple[Port, ...]:
        """The ports that it offers while it runs: published ones, and those only exposed."""
        return self._engine.ports_of(self.id)

    def size(self) -> tuple[int, int]:
        """Bytes in the writable layer, and those with the image's added."""
        written = layer_bytes(self.folder)
        return written, written + self._engine.image_size(self._record)

    def report(self) -> tuple[str, str, Receipt, tuple[Enforced, ...]]:
        """Verdict, detail, receipt and enforcement of the last run."""
        record = self.last_exit()
        verdict, detail = exitrecord.verdict_of(record)
        receipt = exitrecord.receipt_of(record, layer_bytes=layer_bytes(self.folder))
        return verdict, detail, receipt, read_enforcement(self.folder)

    # How

    def _log(self, action: str) -> None:
        events.of_container(self._paths, self._record, action)

    def _lock(self) -> lock.Lock:
        try:
            return lock.take(f"{self.folder}/lock")
        except (FileNotFoundError, NotADirectoryError):
            raise ContainerNotFound(self.name) from None

    def _end_by_force(self, force: bool) -> None:
        if not force:
            raise WrongStatus(
                f"You cannot remove a running container {self.id}. Stop the container "
                "before attempting removal or force remove",
                container=self.id,
                status=RUNNING,
            )
        sweep.end(self._paths, self.id)

    def _control(self) -> client.Control:
        return client.connect(self._paths.live_container(self.id))

    def _need_running(self, prefix: str) -> None:
        status = self.status()
        if not status.is_live:
            raise WrongStatus(
                f"{prefix}Container {self.id} is not running",
                container=self.id,
                status=status.word or EXITED,
            )

    def _need_at_rest(self) -> None:
        status = self.status()
        if status.is_live:
            raise WrongStatus(
                f"container {self.id} is already {status.word}",
                container=self.id,
                status=status.word,
            )

    def rest(self, *, is_stopped: bool = False) -> None:
        """Wait for the monitor to be gone, a moment at most, and take back what it had."""
        live = f"{self._paths.live_container(self.id)}/alive"
        deadline = time.monotonic() + 2.0
        while lock.is_held(live) and time.monotonic() < deadline:
            time.sleep(0.001)
        sweep.settle(self._paths, self.id, is_stopped=is_stopped)


class Attachment:
    """One run of a container, seen by the process that started it."""

    def __init__(
        self, container: Container, launch: client.Launch, enforcement: tuple[Enforced, ...]
    ) -> None:
        self.container = container
        self.enforcement = enforcement
        self._launch = launch
        self._record: ExitRecord | None = None
        self.written_bytes: int | None = None

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def monitor_pid(self) -> int:
        """The process id of the monitor, which is a child of this process."""
        return self._launch.monitor_pid

    def fileno(self) -> int:
        """Readable when the run is over (or the monitor has anything else to say)."""
        return self._launch.fileno()

    def signal(self, signal: str | int) -> None:
        """Send a signal to the container's first process; too late is no error."""
        try:
            self._launch.signal(signal_number(signal))
        except MonitorLost:
            pass

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size."""
        try:
            self._launch.resize(rows, columns)
        except MonitorLost:
            pass

    def poll(self) -> ExitRecord | None:
        """The end, if it has come; for one who saw `fileno` become readable."""
        if self._record is None and not self._launch.is_over():
            return None
        return self.wait()

    def wait(self) -> ExitRecord:
        """Wait for the end; takes back what the run had, and removes an ``rm`` container."""
        if self._record is None:
            container = self.container
            try:
                self._record = self._launch.wait()
            except MonitorLost:
                self._launch.close()
                self._record = container.last_exit()
            self.written_bytes = self._finish()
        return self._record

    def close(self) -> None:
        """Let go of the run, which goes on; the second call does nothing."""
        self._launch.close()

    def detach(self) -> None:
        """Leave a run that was stayed with; it goes on."""
        self.close()
        events.of_container(self.container._paths, self.container.record, "detach")

    def abandon(self) -> None:
        """Let go of a run that ends with its launcher, and wait for that."""
        self.close()
        self.container.rest()

    def _finish(self) -> int | None:
        container = self.container
        paths = container._paths
        self._launch.close()
        try:
            held = lock.take(f"{container.folder}/lock")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with held:
            written = layer_bytes(container.folder)
            if container.auto_remove:
                # While the monitor removes the groups.
                sweep.empty(container.folder)
            if self._launch.wait_gone():
                # In good order: no group of the journal is left to undo.
                if has_networks(container._record):
                    entry = journal.read(paths, container.id)
                    if entry is not None:
                        journal.give_back(paths, container.id, entry)
                sweep.log_unmounts(paths, container._record)
                journal.close(paths, container.id)
                journal.clear_live(paths, container.id)
            else:
                sweep.settle_locked(paths, container.id)
            if container.auto_remove and os.path.isdir(container.folder):
                sweep.discard(paths, container.id, container._record)
        if container.auto_remove:
            sweep.remove_volumes(paths, container._record)
        return written


def has_networks(record: ContainerRecord) -> bool:
    """Whether it is started on networks that this engine keeps."""
    mode = record.options.get("network")
    return isinstance(mode, str) and is_network(mode)


def layer_bytes(folder: str) -> int:
    """Bytes of the files in the writable layer."""
    upper = f"{folder}/upper"
    try:
        if not os.listdir(upper):
            return 0
    except FileNotFoundError:
        return 0
    from ..native import tree_size

    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return tree_size(fd)[0]
    finally:
        os.close(fd)


def write_enforcement(folder: str, enforcement: tuple[Enforced, ...]) -> None:
    """Keep how the limits of the current run are enforced."""
    text = "".join(f"{each.limit} {each.by}\n" for each in enforcement)
    if text:
        replace_bytes(f"{folder}/enforcement", text.encode())
    else:
        remove_file(f"{folder}/enforcement")


def read_enforcement(folder: str) -> tuple[Enforced, ...]:
    """What `write_enforcement` kept."""
    try:
        text = read_bytes(f"{folder}/enforcement").decode("ascii", "replace")
    except FileNotFoundError:
        return ()
    pairs = (line.partition(" ") for line in text.splitlines())
    return tuple(Enforced(limit=limit, by=by) for limit, _, by in pairs if by)


def check_stop_signal(signal: str) -> None:
    """Refuse a signal that does not exist, in docker's words."""
    try:
        signal_number(signal)
    except UsageError:
        raise UsageError(f"Invalid signal: {signal}") from None
