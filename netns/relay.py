"""A relay for ports that rules cannot send on: a process of its own, beside the service.

It is for hosts without nftables, and for an address of the host whose family the other end does not
have (``::1``, say).  Whoever is served by it has the host's address, not its own: where nftables
can publish the port, that is better and costs nothing.

`start` starts it with the sockets of `netns.ports.reserve`, and one end of a pipe: it lives until
nobody holds the other end any more, or is killed.  It is one thread with an epoll loop.  Of a
TCP connection it keeps at most `CHUNK` bytes for each direction; an end of one direction is passed
on as such, and so is a reset.  Of UDP it keeps a flow for each client, which ends after `IDLE_S`
seconds of silence, and at most `MOST_FLOWS` of them, the one that was silent longest going first.

After it has its sockets it is nobody (65534), and can neither read nor start anything of value.
"""

from __future__ import annotations

import _socket
import os
import select
import sys
import time
from errno import EAGAIN, ECONNABORTED, EINPROGRESS, EINTR

from netns import model
from netns.errors import NetnsError
from netns.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from netns.model import PortMapping

    Handler: TypeAlias = Callable[[int], None]

CHUNK = 256 << 10
IDLE_S = 90.0
MOST_FLOWS = 4096
_BACKLOG = 4096
_PAUSE_S = 0.1  # for accepting, when there are no more descriptors
_NOBODY = 65534
_DATAGRAM = 65535
_PATIENCE_S = 10.0
_IN, _OUT, _BROKEN = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR
_NOT_NOW = {EAGAIN, EINPROGRESS, EINTR}
_IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IP_PKTINFO = 49, 50, 8
_RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, no time


class Started(Record):
    """A relay that serves; ``pid`` is the caller's child, which he reaps when it has ended."""

    pid: int


def start(mappings: Sequence[PortMapping], sockets: Sequence[socket], watch: int) -> Started:
    """Start a relay for reserved ports; all of them are served when this returns.

    ``watch`` is the end of a pipe for reading.  Neither it nor the sockets are closed here.
    """
    import subprocess  # a process is started, which costs more than that

    passed = [watch, *(one.fileno() for one in sockets)]
    words = [
        f"{one.fileno()}/{mapping.protocol}/{mapping.address}/{mapping.port}"
        for mapping, one in zip(mappings, sockets, strict=True)
    ]
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = "import sys;sys.path.append(sys.argv[1]);from netns.relay import main;main(sys.argv[2:])"
    ours, its = os.pipe2(os.O_CLOEXEC)
    try:
        child = subprocess.Popen(
            (sys.executable, "-ISc", code, top, str(watch), str(its), *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(*passed, its),
            cwd="/",
            env={},
            start_new_session=True,
        )
        os.close(its)
        its = -1
        ready, _, _ = select.select([ours], [], [], _PATIENCE_S)
        said = os.read(ours, 4096) if ready else b"it does not answer"
    finally:
        os.close(ours)
        if its >= 0:
            os.close(its)
    if said != b"ready":
        child.kill()
        child.wait()
        reason = said.decode(errors="replace").strip() or "it ended at once"
        raise NetnsError(f"cannot relay ports: {reason}")
    pid = child.pid
    child.returncode = 0  # whoever reaps it, it is not subprocess
    return Started(pid=pid)


def main(arguments: Sequence[str]) -> None:
    """Be the relay: the descriptor to watch, the one to report to, a word for each port."""
    watch, report = int(arguments[0]), int(arguments[1])
    loop = Loop()
    try:
        _raise_limit()
        for word in arguments[2:]:
            fd, protocol, address, port = word.split("/")
            listener = _socket.socket(fileno=int(fd))
            listener.setblocking(False)
            os.set_inheritable(int(fd), False)
            if protocol == "udp":
                Datagrams(loop, listener, (address, int(port)))
            else:
                Streams(loop, listener, (address, int(port)))
        _be_nobody()
    except (OSError, ValueError) as error:
        os.write(report, str(error).encode()[:4000])
        sys.exit(1)
    os.write(report, b"ready")
    os.close(report)
    loop.run(watch)


class Loop:
    """Who is to be told of which descriptor, and when."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def want(self, fd: int, mask: int, handler: Handler) -> None:
        """Tell the handler of these events; of none at all, not even of an end, for a mask of 0."""
        known = self._masks.get(fd, 0)
        if mask == known:
            return
        if not mask:
            self._epoll.unregister(fd)
            del self._masks[fd]
            return
        if known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._masks[fd] = mask
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Tell nobody any more; before the descriptor is closed."""
        if self._masks.pop(fd, 0):
            self._epoll.unregister(fd)
        self._handlers.pop(fd, None)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something once, in so many seconds."""
        self._timers.append((time.monotonic() + seconds, act))

    def run(self, watch: int) -> None:
        """Serve until the other end of ``watch`` is closed everywhere."""
        self._epoll.register(watch, 0)  # an end is always told
        while True:
            now = time.monotonic()
            due = [act for at, act in self._timers if at <= now]
            self._timers = [(at, act) for at, act in self._timers if at > now]
            for act in due:
                act()
            left = min((at for at, _ in self._timers), default=now - 1) - time.monotonic()
            for fd, events in self._epoll.poll(max(left, 0.001) if self._timers else -1):
                if fd == watch:
                    return
                # One event may end what another of the same round is about.
                handler = self._handlers.get(fd) if fd in self._masks else None
                if handler is not None:
                    handler(events)


class Streams:
    """A listening socket, and where its connections lead."""

    def __init__(self, loop: Loop, listener: socket, target: tuple[str, int]) -> None:
        """Listen; the socket was reserved with no backlog and without SO_REUSEADDR."""
        self._loop, self._listener, self._target = loop, listener, target
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.listen(_BACKLOG)
        self._accept()

    def _accept(self) -> None:
        self._loop.want(self._listener.fileno(), _IN, self._ready)

    def _ready(self, _events: int) -> None:
        for _ in range(64):
            try:
                fd, _address = self._listener._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno == ECONNABORTED:
                    continue
                if error.errno not in _NOT_NOW:
                    self._loop.want(self._listener.fileno(), 0, self._ready)
                    self._loop.later(_PAUSE_S, self._accept)
                return
            client = _socket.socket(fileno=fd)
            client.setblocking(False)
            try:
                Connection(self._loop, client, self._target)
            except OSError:
                _reset(client)


class Connection:
    """Two sockets, and what is on its way from each to the other: 0 is the client's."""

    def __init__(self, loop: Loop, client: socket, target: tuple[str, int]) -> None:
        """Connect to the target; what the client sends waits for that."""
        self._loop = loop
        server = _socket.socket(_family(target[0]), _stream())
        try:
            server.setblocking(False)
            for each in (client, server):
                each.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                each.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            error = server.connect_ex(target)
            if error not in _NOT_NOW | {0}:
                raise OSError(error, os.strerror(error))
        except BaseException:
            server.close()
            raise
        self._sockets = (client, server)
        self._waiting: list[memoryview] = [memoryview(b"")] * 2  # to be sent to each
        self._has_ended = [False, False]  # nothing more comes from each
        self._is_shut = [False, False]  # each was told that nothing more comes
        self._is_connecting = True
        self._handlers: tuple[Handler, Handler] = (
            lambda events: self._ready(0, events),
            lambda events: self._ready(1, events),
        )
        self._want()

    def _want(self) -> None:
        for each in (0, 1):
            mask = 0
            if not (self._is_connecting or self._has_ended[each] or self._waiting[1 - each]):
                mask |= _IN
            if self._waiting[each] or (each and self._is_connecting):
                mask |= _OUT
            self._loop.want(self._sockets[each].fileno(), mask, self._handlers[each])

    def _ready(self, each: int, events: int) -> None:
        try:
            if self._is_connecting and each:
                error = self._sockets[1].getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self._is_connecting = False
            elif events & _BROKEN and not events & _IN:
                raise ConnectionResetError
            if events & _OUT:
                self._send(each)
            if events & (_IN | select.EPOLLHUP) and not self._waiting[1 - each]:
                self._receive(each)
        except OSError:
            self._close(_reset)
            return
        if all(self._is_shut):
            self._close(_close)
        else:
            self._want()

    def _receive(self, each: int) -> None:
        if self._has_ended[each] or self._is_connecting:
            return
        try:
            data = self._sockets[each].recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        self._has_ended[each] = not data
        self._waiting[1 - each] = memoryview(data)
        self._send(1 - each)

    def _send(self, each: int) -> None:
        waiting = self._waiting[each]
        if waiting:
            try:
                waiting = waiting[self._sockets[each].send(waiting) :]
            except (BlockingIOError, InterruptedError):
                return
            self._waiting[each] = waiting
        if not waiting and self._has_ended[1 - each] and not self._is_shut[each]:
            self._sockets[each].shutdown(_socket.SHUT_WR)
            self._is_shut[each] = True

    def _close(self, how: Callable[[socket], None]) -> None:
        for each in self._sockets:
            self._loop.forget(each.fileno())
            how(each)


class Datagrams:
    """A UDP socket of the host; each client has a socket of its own to the target."""

    def __init__(self, loop: Loop, outer: socket, target: tuple[str, int]) -> None:
        """Serve; answers leave from the address that the client has sent to."""
        self._loop, self._outer, self._target = loop, outer, target
        self._is_ipv6 = outer.family == _socket.AF_INET6
        # From the one that was silent longest to the one that was heard last.
        self._flows: dict[object, Flow] = {}
        level = _socket.IPPROTO_IPV6 if self._is_ipv6 else _socket.IPPROTO_IP
        outer.setsockopt(level, _IPV6_RECVPKTINFO if self._is_ipv6 else _IP_PKTINFO, 1)
        loop.want(outer.fileno(), _IN, self._ready)

    def _ready(self, _events: int) -> None:
        for _ in range(64):
            try:
                data, extra, _, client = self._outer.recvmsg(_DATAGRAM, 128)
            except OSError:
                return
            here = b"".join(item for _, kind, item in extra if kind in (_IP_PKTINFO, _IPV6_PKTINFO))
            flow = self._flow(client, here)
            if flow is not None:
                try:
                    flow.socket.send(data)
                except OSError:
                    continue  # lost, as datagrams are

    def _flow(self, client: tuple[object, ...], here: bytes) -> Flow | None:
        key = (client, here)
        flow = self._flows.pop(key, None)
        if flow is None:
            if len(self._flows) >= MOST_FLOWS:
                self._end(next(iter(self._flows)))
            try:
                flow = Flow(self._target, client, here)
            except OSError:
                return None
            self._loop.want(flow.socket.fileno(), _IN, lambda _: self._answer(key))
            if not self._flows:
                self._loop.later(IDLE_S, self._sweep)
        flow.heard = time.monotonic()
        self._flows[key] = flow
        return flow

    def _answer(self, key: object) -> None:
        flow = self._flows.get(key)
        for _ in range(64):
            if flow is None:
                return
            try:
                data = flow.socket.recv(_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # Nobody listens there; the client is not told, as by any router.
                self._end(key)
                return
            flow.heard = time.monotonic()
            self._flows[key] = self._flows.pop(key)
            try:
                self._outer.sendmsg([data], self._from(flow.here), 0, flow.client)
            except OSError:
                continue

    def _from(self, here: bytes) -> list[tuple[int, int, bytes]]:
        if self._is_ipv6:
            return [(_socket.IPPROTO_IPV6, _IPV6_PKTINFO, here)]
        # struct in_pktinfo: the link, the address to send from, the one that was sent to.
        return [(_socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + here[8:12] + bytes(4))]

    def _sweep(self) -> None:
        silent = time.monotonic() - IDLE_S
        for key in [key for key, flow in self._flows.items() if flow.heard <= silent]:
            self._end(key)
        if self._flows:
            self._loop.later(IDLE_S, self._sweep)

    def _end(self, key: object) -> None:
        flow = self._flows.pop(key)
        self._loop.forget(flow.socket.fileno())
        flow.socket.close()


class Flow:
    """One client of a UDP port; ``here`` is where it sends to, as the kernel tells it."""

    def __init__(self, target: tuple[str, int], client: tuple[object, ...], here: bytes) -> None:
        self.client, self.here, self.heard = client, here, 0.0
        kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
        self.socket = _socket.socket(_family(target[0]), kind)
        try:
            self.socket.setblocking(False)
            self.socket.connect(target)
        except BaseException:
            self.socket.close()
            raise


def _family(address: str) -> int:
    return int(_socket.AF_INET6 if model.is_ipv6(address) else _socket.AF_INET)


def _stream() -> int:
    return int(_socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)


def _reset(one: socket) -> None:
    """Close so that the other side sees a reset, as it would without a relay between."""
    one.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
    one.close()


def _close(one: socket) -> None:
    one.close()


def _raise_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _be_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
