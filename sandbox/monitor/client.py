"""Start a monitor, find one again, speak to it.

Out of scope: the plan's content, the container's documents, what the lock file
means for a status.  A started monitor outlives this process; that it is alive
is seen by the lock on ``<run dir>/alive``, never by a process id.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from _socket import (
    AF_UNIX,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socketpair,
)
from _socket import socket as Socket  # noqa: N812 - a class, without the price of `socket`
from _struct import pack

from ..errors import HostLacks, MonitorLost, SandboxError, UsageError, WrongStatus
from . import children, exitrecord, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import TracebackType

    from .exitrecord import ExitRecord
    from .protocol import Message, Started
else:
    import _signal  # the same, without enums

_MFD_EXEC = 0x10  # not in os yet; Linux 6.3
_AT_ONCE_S = 0.001
_ANSWER_S = 10.0  # a monitor that takes longer is stuck: stopped, or swapped out for good
_KILLED_S = 1.0
_LOCK_FD = 5  # of every monitor: see native/launch.h
_RIGHTS_MAX = 253  # descriptors of one message, the kernel's bound
_FIRST_FREE = 10  # above every descriptor that the monitor is given

# The sealed copy of the monitor's executable, made once a process, by path.
_sealed: dict[str, int] = {}


def start(
    plan: bytes,
    *,
    run_dir: str,
    lock_fd: int,
    stdio: tuple[int, int, int],
    id: str,  # noqa: A002 - what it is called everywhere
    executable: str | None = None,
) -> Launch:
    """Start a monitor that carries out ``plan``; `spawn` and `Launch.send_plan` in one."""
    launch = spawn(run_dir=run_dir, lock_fd=lock_fd, stdio=stdio, id=id, executable=executable)
    launch.send_plan(plan)
    return launch


def spawn(
    *,
    run_dir: str,
    lock_fd: int,
    stdio: tuple[int, int, int],
    id: str,  # noqa: A002 - what it is called everywhere
    executable: str | None = None,
) -> Launch:
    """Start a monitor, which waits for its plan: what the plan needs can be made meanwhile.

    ``lock_fd`` is the held lock on ``<run_dir>/alive``; the monitor shares it,
    so close yours.  ``stdio`` are the first client's descriptors, or /dev/null;
    they are not kept here.  A launch that is closed without a plan ends its monitor.
    """
    children.reap()
    program = _sealed_executable(executable or _EXECUTABLE)
    opened: list[int] = []

    def above(fd: int) -> int:
        opened.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE))
        return opened[-1]

    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    plan_fd, feed = os.pipe2(os.O_CLOEXEC)
    opened.append(plan_fd)
    try:
        given = [above(fd) for fd in (*stdio, plan_fd, theirs.fileno(), lock_fd)]
        pid = os.posix_spawn(
            f"/proc/self/fd/{program}",
            ["sandbox-monitor", id],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(given)],
            setsid=True,
            setsigmask=(),
        )
    except BaseException:
        ours.close()
        os.close(feed)
        raise
    finally:
        theirs.close()
        for fd in opened:
            os.close(fd)
    return Launch(ours, pid, run_dir, feed)


class Launch:
    """A monitor and the process that started it; `close` lets go of it, and may be called twice."""

    def __init__(self, sock: Socket, pid: int, run_dir: str, feed: int = -1) -> None:
        self._feed = feed
        self.monitor_pid = pid
        self.run_dir = run_dir
        self._socket: Socket | None = sock
        self._started: Started | None = None
        self._record: ExitRecord | None = None
        self._is_gone = False

    def __enter__(self) -> Launch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when the monitor has something to say."""
        return _open(self._socket).fileno()

    def send_plan(self, plan: bytes, fds: tuple[int, ...] = ()) -> None:
        """Give the waiting monitor its plan.

        ``fds`` are descriptors that the monitor holds open until it ends, over
        restarts too: what is reserved by being open.  No process of the
        container has them.  They are not closed here.
        """
        if fds:
            from ..native.plan import op, with_settings  # containers with published ports alone

            plan = with_settings(plan, (op("keep", len(fds)),))
        try:
            # Before the plan is whole: the monitor does not wait for them.
            for start in range(0, len(fds), _RIGHTS_MAX):
                some = fds[start : start + _RIGHTS_MAX]
                rights = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(some)}i", *some))]
                _open(self._socket).sendmsg([b"\0"], rights, MSG_NOSIGNAL)
            view = memoryview(plan)
            while view:
                view = view[os.write(self._feed, view) :]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise MonitorLost(f"the monitor of {self.run_dir} did not take its plan") from error
        finally:
            self._close_feed()

    def _close_feed(self) -> None:
        feed, self._feed = self._feed, -1
        if feed >= 0:
            os.close(feed)

    def wait_started(self, timeout_s: float | None = None) -> Started:
        """Wait until the program is executed.

        Raises `ExecFailed` or `LaunchFailed` when it is not, `MonitorLost` when
        the monitor died, TimeoutError.
        """
        deadline = _deadline(timeout_s)
        while self._started is None and self._record is None:
            self._take(_receive(_open(self._socket), deadline))
        if self._record is not None and self._record.status == "failed":
            raise exitrecord.describe_failure(self._record)
        if self._started is None:
            raise MonitorLost(f"the monitor of {self.run_dir} did not say what it started")
        return self._started

    def wait(self, timeout_s: float | None = None) -> ExitRecord:
        """Wait until the container is over.  `MonitorLost` when nobody knows how."""
        deadline = _deadline(timeout_s)
        while self._record is None:
            # Read in a signal handler, the record may have come while we waited for it.
            self._take(_receive(_open(self._socket), deadline))
        return self._record

    def is_over(self) -> bool:
        """Whether `wait` would return, or raise, at once; reads what has come so far."""
        while self._record is None:
            try:
                self._take(_receive(_open(self._socket), time.monotonic() + _AT_ONCE_S))
            except TimeoutError:
                return False
            except MonitorLost:
                break
        return True

    def signal(self, number: int) -> None:
        """Send a signal to init.  Does not wait for an answer: good inside a signal handler."""
        self._send(protocol.signal(number))

    def kill(self) -> None:
        """Kill the whole container."""
        self._send(protocol.KILL)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size.  Does not wait for an answer."""
        self._send(protocol.resize(rows, columns))

    def close(self) -> None:
        """Let go.  By the plan's lifetime, the container goes on or dies."""
        self._close_feed()
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
            if not self._is_gone:
                children.let_go(self.monitor_pid)

    def wait_gone(self) -> bool:
        """Wait for the monitor's own end: then its lock is free.

        Returns whether it has removed all of the container's groups; the
        second call returns False.
        """
        if self._is_gone:
            return False
        children.forget(self.monitor_pid)
        self._is_gone = True
        try:
            return os.waitpid(self.monitor_pid, 0)[1] == 0
        except ChildProcessError:
            return False

    def _send(self, request: bytes) -> None:
        try:
            _open(self._socket).send(request, MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise MonitorLost(f"the monitor of {self.run_dir} is gone") from error

    def _take(self, message: Message | None) -> None:
        if message is None:
            if self._record is None:
                raise MonitorLost(f"the monitor of {self.run_dir} ended without a record")
        elif message.word == protocol.STARTED:
            self._started = protocol.parse_started(message.body)
        elif message.word in (protocol.EXITED, protocol.FAILED):
            self._record = exitrecord.parse(message.body)


def connect(run_dir: str) -> Control:
    """Speak to the monitor of a container.  `MonitorLost` when nobody listens."""
    sock = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    folder = -1
    try:
        # By way of the folder's descriptor: a socket's path has at most 107 bytes.
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A stuck monitor's queue fills up.
        sock.settimeout(_ANSWER_S)
        sock.connect(f"/proc/self/fd/{folder}/control")
        sock.settimeout(None)
    except OSError as error:
        sock.close()
        raise MonitorLost(f"no monitor listens in {run_dir}: {error.strerror or error}") from error
    finally:
        if folder >= 0:
            os.close(folder)
    return Control(sock, run_dir)


class Control:
    """A connection to a monitor; what was attached by it is detached when it closes.

    Every request raises `MonitorLost` when the monitor is gone or does not answer.
    """

    def __init__(self, sock: Socket, run_dir: str) -> None:
        self.run_dir = run_dir
        self._socket: Socket | None = sock
        self._record: ExitRecord | None = None

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when the container is over."""
        return _open(self._socket).fileno()

    @property
    def ended(self) -> ExitRecord | None:
        """The container's end, if the monitor has told of it by now."""
        return self._record

    def signal(self, number: int, *, stop: bool = False) -> None:
        """Send a signal to init; `WrongStatus` when it has ended.

        With ``stop``, it is meant to end the container: there is no restart,
        and having ended already is no error.
        """
        self._ask(protocol.signal(number, stop=stop))

    def kill(self, *, timeout_s: float | None = None) -> None:
        """Kill the whole container; having ended already is no error."""
        self._ask(protocol.KILL, timeout_s=timeout_s)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal's new size."""
        self._ask(protocol.resize(rows, columns))

    def restart_policy(self, policy: str, most: int) -> None:
        """Another restart policy; one that wants no restart ends a container that waits for one."""
        self._ask(protocol.restart(policy, most))

    def endpoints(self, plan: bytes) -> None:
        """Other links, for the runs that the restart policy makes from now on.

        ``plan`` has all of them: ``native.plan.encode`` of the endpoints and the operation
        "network".  `UsageError` for a container that has no networks.
        """
        fd = os.memfd_create("endpoints", os.MFD_CLOEXEC)
        try:
            view = memoryview(plan)
            while view:
                view = view[os.write(fd, view) :]
            os.lseek(fd, 0, os.SEEK_SET)
            self._ask(protocol.ENDPOINTS, (fd,))
        finally:
            os.close(fd)

    def close_stdin(self) -> None:
        """No more input for the container."""
        self._ask(protocol.CLOSE_STDIN)

    def attach(self, fds: tuple[int, int, int], *, stdin: bool, lossy: bool) -> None:
        """Join the container's streams to these descriptors, until this connection closes.

        A lossy client that is slow misses output; another one slows the container down.
        """
        flags = (protocol.ATTACH_STDIN if stdin else 0) | (protocol.ATTACH_LOSSY if lossy else 0)
        self._ask(protocol.attach(flags), fds)

    def status(self) -> dict[str, str]:
        """What the monitor is doing: ``phase``, ``pid`` and so on."""
        return protocol.facts(self._ask(protocol.STATUS).body)

    def wait(self) -> ExitRecord:
        """Wait until the container is over.  `MonitorLost` when the monitor dies before."""
        record = self.wait_for_exit()
        assert record is not None
        return record

    def wait_for_exit(self, timeout_s: float | None = None) -> ExitRecord | None:
        """The same, None after ``timeout_s``."""
        deadline = _deadline(timeout_s)
        while self._record is None:
            try:
                self._take(_receive(_open(self._socket), deadline))
            except TimeoutError:
                return None
        return self._record

    def wait_gone(self, timeout_s: float) -> None:
        """Wait until the monitor lets go of the connection: all that it does after is to end."""
        deadline = _deadline(timeout_s)
        try:
            while _receive(_open(self._socket), deadline) is not None:
                pass
        except TimeoutError:
            pass

    def close(self) -> None:
        """Close the connection; the second call does nothing."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _ask(
        self, request: bytes, fds: tuple[int, ...] = (), *, timeout_s: float | None = None
    ) -> Message:
        if self._record is not None:
            raise MonitorLost(f"the container of {self.run_dir} is over")
        sock = _open(self._socket)
        rights = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            sock.sendmsg([request], rights, MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise MonitorLost(f"the monitor of {self.run_dir} is gone") from error
        deadline = _deadline(_ANSWER_S if timeout_s is None else timeout_s)
        while True:
            try:
                message = _receive(sock, deadline)
            except TimeoutError:
                raise MonitorLost(f"the monitor of {self.run_dir} does not answer") from None
            self._take(message)
            if message is None:
                raise MonitorLost(f"the container of {self.run_dir} is over")
            if message.word == protocol.OK:
                return message
            if message.word == protocol.ERROR:
                raise self._error(message.line)

    def _take(self, message: Message | None) -> None:
        if message is None:
            if self._record is None:
                raise MonitorLost(f"the monitor of {self.run_dir} ended without a record")
        elif message.word in (protocol.EXITED, protocol.FAILED):
            self._record = exitrecord.parse(message.body)

    def _error(self, line: str) -> SandboxError:
        import errno  # on the way to an error only

        number = line.partition(" ")[0]
        code = int(number) if number.isdecimal() else 0
        if code == errno.ESRCH:
            container = os.path.basename(self.run_dir)
            return WrongStatus(
                f"Container {container} is not running", container=container, status="exited"
            )
        # The monitor's own libc may have other words.
        text = f"the monitor refused: {os.strerror(code).lower()}"
        return UsageError(text) if code == errno.EINVAL else SandboxError(text)


def kill_monitor(run_dir: str) -> None:
    """Kill a monitor that is stuck; it is known by the lock that it holds open."""
    try:
        with open(f"{run_dir}/started", "rb", buffering=0) as file:
            pid = protocol.facts(file.read(4096)).get("monitor", "")
        handle = os.pidfd_open(int(pid))
    except (OSError, ValueError):
        return
    try:
        # Looked at after the handle was opened: what is killed is what was looked at.
        held = os.stat(f"/proc/{pid}/fd/{_LOCK_FD}")
        ours = os.stat(f"{run_dir}/alive")
        if (held.st_dev, held.st_ino) == (ours.st_dev, ours.st_ino):
            _signal.pidfd_send_signal(handle, _signal.SIGKILL)
            select.select([handle], [], [], _KILLED_S)
    except OSError:
        return
    finally:
        os.close(handle)
    children.reap()


def is_alive(run_dir: str) -> bool:
    """A monitor holds the lock of this container."""
    try:
        fd = os.open(f"{run_dir}/alive", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


_EXECUTABLE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "native", "monitor")


def _sealed_executable(path: str) -> int:
    """A copy that nobody can write to, not even root in a container that finds it in /proc."""
    fd = _sealed.get(path)
    if fd is not None:
        return fd
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise HostLacks(
            f"the monitor's program is missing: {path}",
            hint="build it: pip install . (or scripts/build in a working copy)",
        ) from error
    try:
        fd = _make_sealed(source)
    finally:
        os.close(source)
    _sealed[path] = fd
    return fd


def _make_sealed(source: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        low = os.memfd_create("sandbox-monitor", flags | _MFD_EXEC)
    except OSError:
        low = os.memfd_create("sandbox-monitor", flags)
    try:
        rest = os.fstat(source).st_size
        while rest > 0:
            done = os.sendfile(low, source, None, rest)
            if done == 0:
                raise HostLacks("the monitor's program was cut short while it was read")
            rest -= done
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(low, fcntl.F_ADD_SEALS, seals)
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    finally:
        os.close(low)


def _open(sock: Socket | None) -> Socket:
    if sock is None:
        raise ValueError("the connection to the monitor is closed")
    return sock


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _receive(sock: Socket, deadline: float | None) -> Message | None:
    """The next message; None at the end.  TimeoutError after ``deadline``."""
    if deadline is not None:
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        sock.settimeout(rest)
    try:
        data = sock.recv(protocol.MAX_MESSAGE)
    except ConnectionResetError:
        # Said once when the monitor left a request unread; what it sent before is still there.
        data = sock.recv(protocol.MAX_MESSAGE)
    finally:
        if deadline is not None:
            sock.settimeout(None)
    return protocol.parse(data) if data else None
