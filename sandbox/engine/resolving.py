"""The life of a network's resolver: it starts with the first container, and leaves after the last.

In the network's run folder:

    endpoints/       who is on the network: `netns.names`
    resolver         a lock, held by the living resolver; its text is the resolver's pid
    resolver.gate    shared by whoever looks whether it lives, held alone by whoever starts
                     or ends it, or is about to leave
    resolver.log     what a resolver that failed had to say

Nobody can find one alive that is about to leave.  A starting container's endpoint is in the
folder before its launcher looks; who leaves looks into the folder with the gate closed, and the
gate stays closed until its sockets and its lock are free.  So either the launcher came first, and
is seen, or it waits at the gate and starts another one.

The sockets are bound by the launcher and passed on: no container waits for the resolver to be
loaded, and its first question waits in the socket.
"""

from __future__ import annotations

import fcntl
import os
import sys

from ..errors import HostLacks
from ..monitor import children
from ..state import lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LEAVE_AFTER_S = 10.0  # a container that starts again finds it there
_END_S = 5.0
_LOCK_FD = 3
_FIRST_SOCKET = 4
_FIRST_FREE = 64  # above every descriptor that a resolver is given


def ensure(
    folder: str,
    *,
    name: str,
    subnets: Iterable[tuple[str, str]],
    internal: bool,
    answers: bool = True,
    leave_after_s: float = LEAVE_AFTER_S,
) -> None:
    """See to it that the network whose run folder this is has a resolver.

    Called for each start, after the container's endpoint was written: a quick look if there is
    one.  ``subnets`` are pairs of a range and its gateway, where it listens.  Without
    ``answers`` it knows no names and only asks the host's nameservers.  `HostLacks` if a
    gateway's port 53 is somebody else's.
    """
    with _Gate(folder, fcntl.LOCK_SH):
        if lock.is_held(f"{folder}/resolver"):
            return
    with _Gate(folder, fcntl.LOCK_EX):
        held = lock.try_take(f"{folder}/resolver")
        if held is None:
            return  # another launcher was at the gate first
        with held:
            pairs = tuple(subnets)
            # A resolver on its way out has closed its sockets before it opened the gate.
            ways = f"{'a' if answers else '-'}{'-' if internal else 'f'}{leave_after_s}"
            _start(folder, held, name, pairs, ways)


def stop(folder: str) -> None:
    """End the resolver, and wait for its end; none is nothing to do.

    Whoever is on the network is without names from then on, until the next `ensure`.
    """
    if not os.path.exists(f"{folder}/resolver"):
        return
    with _Gate(folder, fcntl.LOCK_EX):
        if lock.is_held(f"{folder}/resolver"):
            _end(folder)


def is_alive(folder: str) -> bool:
    """The network has a resolver."""
    return lock.is_held(f"{folder}/resolver")


class _Gate:
    """The gate, held for a block: ``LOCK_SH`` or ``LOCK_EX``."""

    def __init__(self, folder: str, how: int) -> None:
        self._path = f"{folder}/resolver.gate"
        self._how = how

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, self._how)

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _start(
    folder: str,
    held: lock.Lock,
    name: str,
    subnets: tuple[tuple[str, str], ...],
    ways: str,
) -> None:
    # Once for a network's first container.
    from netns import NetnsError, listening

    try:
        sockets = listening.bind(tuple([gateway for _, gateway in subnets]))
    except NetnsError as error:
        raise HostLacks(
            f"network {name} cannot have a resolver of names: {error}", hint=error.hint
        ) from error
    opened: list[int] = []

    def above(fd: int) -> int:
        opened.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE))
        return opened[-1]

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        opened.append(nothing)
        log = os.open(f"{folder}/resolver.log", flags, 0o600)
        opened.append(log)
        given = [nothing, nothing, log, held.fd, *[each.fileno() for each in sockets]]
        given = [above(fd) for fd in given]
        pairs = [f"{cidr},{gateway}" for cidr, gateway in subnets]
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-ISc", _PROGRAM, folder, name, ways, " ".join(pairs), *_places()],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(given)],
            setsid=True,
            setsigmask=(),
            setsigdef=_ignored_signals(),
        )
    finally:
        for each in sockets:
            each.close()
        for fd in opened:
            os.close(fd)
    os.ftruncate(held.fd, 0)
    os.pwrite(held.fd, f"{pid}\n".encode(), 0)
    children.let_go(pid)


_PROGRAM = (
    "import sys;sys.path[:0]=sys.argv[5:];"
    "from sandbox.engine.resolving import serve;serve(*sys.argv[1:5])"
)


def _places() -> list[str]:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return list(dict.fromkeys([home, *[path for path in sys.path if path.startswith("/")]]))


def _ignored_signals() -> list[int]:
    import signal

    # Python ignores the first; nohup(1) and shells others.
    return [signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]


def serve(folder: str, name: str, ways: str, pairs: str) -> None:
    """Be the resolver; what a started one does, with its lock and its sockets from above."""
    import gc
    import socket

    from netns import resolver

    os.chdir("/")
    # Also if the launcher did not live to do it.
    os.pwrite(_LOCK_FD, f"{os.getpid()}\n".encode(), 0)
    subnets = [pair.partition(",")[::2] for pair in pairs.split()]
    sockets = [
        socket.socket(fileno=fd) for fd in range(_FIRST_SOCKET, _FIRST_SOCKET + 2 * len(subnets))
    ]
    domain = resolver.Domain(
        endpoints=f"{folder}/{resolver.ENDPOINTS}",
        beside=os.path.dirname(folder),
        name=name,
        subnets=tuple([cidr for cidr, _ in subnets]),
        gateways=tuple([gateway for _, gateway in subnets]),
        forwards=ways[1] == "f",
        answers=ways[0] == "a",
        leave_after_s=float(ways[2:]),
    )
    gc.freeze()  # what was loaded stays
    resolver.serve(domain, sockets, _leaving(folder))
    # Before the gate, of which the end of the process lets go; left to that, the kernel lets go of
    # the youngest first, and a launcher finds the lock held by one that does not listen any more.
    os.close(_LOCK_FD)


def _leaving(folder: str) -> Callable[[], bool]:
    """Whether one may leave: with the gate closed, and kept so, if nobody is on the network."""

    def may_leave() -> bool:
        from netns import names

        try:
            fd = os.open(f"{folder}/resolver.gate", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True  # the network is gone
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if names.owners(f"{folder}/endpoints"):
            os.close(fd)
            return False
        return True

    return may_leave


def _end(folder: str) -> None:
    import select
    import signal

    try:
        with open(f"{folder}/resolver", "rb", buffering=0) as file:
            pid = int(file.read(32))
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        # Looked at after the handle was opened: what is ended is what was looked at.
        held = os.stat(f"/proc/{pid}/fd/{_LOCK_FD}")
        ours = os.stat(f"{folder}/resolver")
        if (held.st_dev, held.st_ino) != (ours.st_dev, ours.st_ino):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], _END_S)[0]:
                break
    except OSError:
        return  # gone by itself
    finally:
        os.close(handle)
    children.reap()
