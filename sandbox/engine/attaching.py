"""Join the streams of a container that runs already: one more client of its monitor.

Any number of clients may be there, each with its own pace: one that does not
read misses output, and is told how much, but neither the container nor another
client waits for it.  Nothing of the run is the client's: it goes on without.
"""

from __future__ import annotations

import fcntl
import time

from ..errors import ContainerNotFound, MonitorLost, SandboxError, WrongStatus
from ..monitor import client, exitrecord
from ..state import events, lock
from .container import Attachment
from .signals import signal_number
from .status import EXITED, PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..monitor.exitrecord import ExitRecord
    from .container import Container
    from .status import Status

_PIPE_BYTES = 1 << 20  # how far a client may fall behind, where it reads a pipe
_AT_ONCE_S = 0.001
_PATIENCE_S = 2.0  # with a monitor that listens to nobody: it is ending, or has no place left


class Client(Attachment):
    """One client of a run, seen by the process that has joined; the run is not its own."""

    def __init__(self, container: Container, control: client.Control) -> None:
        self.container = container
        self.enforcement = ()
        self.written_bytes = None
        self._control = control
        self._record: ExitRecord | None = None

    @property
    def monitor_pid(self) -> int:
        """The process id of the monitor; `MonitorLost` when it is gone."""
        return int(self._control.status().get("monitor", "0"))

    def fileno(self) -> int:
        """Readable when the run is over."""
        return self._control.fileno()

    def signal(self, signal: str | int) -> None:
        """Send a signal to the container's first process; too late is no error."""
        try:
            self._control.signal(signal_number(signal))
        except (MonitorLost, WrongStatus):
            pass

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size; where there is none, nothing happens."""
        try:
            self._control.resize(rows, columns)
        except SandboxError:
            pass

    def poll(self) -> ExitRecord | None:
        """The end, if it has come."""
        try:
            if self._record is None and self._control.wait_for_exit(_AT_ONCE_S) is None:
                return None
        except MonitorLost:
            pass  # `wait` asks others
        return self.wait()

    def wait(self) -> ExitRecord:
        """Wait for the end of this run; a restart after it is another run."""
        if self._record is None:
            try:
                self._record = self._control.wait()
            except MonitorLost:
                self._record = self._asked_elsewhere()
            self.close()
            if self.container.options.restart == "no":
                # So that the next look at the container does not find it ending.
                self.container.rest()
        return self._record

    def close(self) -> None:
        """Leave; the run goes on.  The second call does nothing."""
        self._control.close()

    def abandon(self) -> None:
        """The same: the run is not ours to end."""
        self.close()

    def _asked_elsewhere(self) -> ExitRecord:
        self.container.rest()
        try:
            return self.container.last_exit()
        except (ContainerNotFound, WrongStatus):
            now = time.time_ns()
            return exitrecord.parse(exitrecord.lost(started_ns=now, finished_ns=now))


def attach(
    container: Container,
    stdio: tuple[int, int, int],
    *,
    stdin: bool,
    size: tuple[int, int] | None,
) -> Client:
    """Join; output that came before is in the log only."""
    check(container)
    for fd in stdio[1:]:
        _widen(fd)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _join(container, stdio, stdin=stdin, size=size)
        except MonitorLost:
            live = container._paths.live_container(container.id)
            if not lock.is_held(f"{live}/alive"):
                check(container)
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.005)


def check(container: Container) -> Status:
    """Its status; `WrongStatus` when it cannot be attached to."""
    status = container.status()
    if not status.is_live:
        words = "stopped container, start it first"
        status_word = status.word or EXITED
    elif status.word == PAUSED:
        words, status_word = "paused container, unpause it first", PAUSED
    else:
        return status
    raise _cannot(container, words, status_word)


def _join(
    container: Container,
    stdio: tuple[int, int, int],
    *,
    stdin: bool,
    size: tuple[int, int] | None,
) -> Client:
    control = client.connect(container._paths.live_container(container.id))
    joined = Client(container, control)
    try:
        if control.status().get("phase") == "resting":
            raise _cannot(container, "restarting container, wait until it is running", "restarting")
        control.attach(stdio, stdin=stdin, lossy=True)
    except MonitorLost:
        # The end may have come in this very moment, and with it how.
        if control.ended is not None:
            return joined
        joined.close()
        raise
    except BaseException:
        joined.close()
        raise
    events.of_container(container._paths, container.record, "attach")
    if size is not None:
        # A program draws its screen anew when the size changes, and only then.
        rows, columns = size
        joined.resize(rows + 1, columns + 1)
        joined.resize(rows, columns)
    return joined


def _cannot(container: Container, words: str, status: str) -> WrongStatus:
    return WrongStatus(f"You cannot attach to a {words}", container=container.id, status=status)


def _widen(fd: int) -> None:
    try:
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < _PIPE_BYTES:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return  # no pipe, or no more room for this user
