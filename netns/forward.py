"""Ask the host's nameservers what nobody here knows.

Each question goes out by a socket of its own, from a port that the kernel picks at random and
with a number of its own: an answer that does not fit in every respect is not looked at.  First by
UDP; by TCP if the answer did not fit into a datagram but the client can take it.  Whoever does not
answer in time, or will not, is followed by the next; who was silent is asked last for a while.
Questions that are outstanding are bounded, of all clients together and of each.
"""

from __future__ import annotations

import os
import socket
import time

from netns import dns, resolvconf
from netns.eventloop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netns.eventloop import Loop, Timer

MOST = 256
MOST_OF_CLIENT = 64
ROUNDS = 2
TRY_S = 1.5
TCP_TRY_S = 3.0
WHOLE_S = 8.0
SILENT_S = 30.0
_STRAYS = 100  # wrong answers that are read before a server counts as silent
_MAX_BYTES = 65535


class Nameservers:
    """The host's nameservers, as its resolv.conf has them at the moment."""

    def __init__(self, path: str, *, own: tuple[str, ...], port: int = 53) -> None:
        """Keep where to look; ``own`` addresses would be asking oneself."""
        self._path = path
        self._own = own
        self._port = port
        self._seen: tuple[int, ...] = ()
        self._servers: tuple[tuple[int, tuple[object, ...]], ...] = ()
        self._silent: dict[tuple[object, ...], float] = {}

    def current(self) -> list[tuple[int, tuple[object, ...]]]:
        """Family and address of each, in the order to ask."""
        try:
            status = os.stat(self._path)
            seen: tuple[int, ...] = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = (0,)
        if seen != self._seen:
            self._seen = seen
            self._silent.clear()
            # None at all means the host itself, see resolv.conf(5).
            names = resolvconf.of_host(self._path).nameservers or ("127.0.0.1",)
            found = [_parsed(name, self._port) for name in names if name not in self._own]
            known = [server for server in found if server is not None]
            self._servers = tuple(known[: resolvconf.MOST_SERVERS])
        now = time.monotonic()
        return sorted(self._servers, key=lambda server: self._silent.get(server[1], 0.0) > now)

    def was_silent(self, address: tuple[object, ...], *, is_silent: bool) -> None:
        """Ask it last for a while, or no longer."""
        if is_silent:
            self._silent[address] = time.monotonic() + SILENT_S
        else:
            self._silent.pop(address, None)


class Forwarder:
    """Questions on their way; every one of them is answered once, at the latest with a failure."""

    def __init__(self, loop: Loop, servers: Nameservers) -> None:
        self.loop = loop
        self.servers = servers
        self._asked: dict[tuple[object, bytes], _Asking] = {}
        self._of_client: dict[str, int] = {}

    def ask(
        self,
        query: dns.Query,
        client: tuple[str, int],
        answer: Callable[[bytes], None],
        *,
        size: int,
    ) -> None:
        """Ask for a client, who takes ``size`` bytes; ``answer`` has the client's number.

        The second try of a client that waits for the answer to its first is nothing new.
        """
        key = (client, query.key)
        if key in self._asked:
            return
        count = self._of_client.get(client[0], 0)
        if len(self._asked) >= MOST or count >= MOST_OF_CLIENT:
            answer(query.failed())
            return

        def done(reply: bytes) -> None:
            del self._asked[key]
            left = self._of_client.pop(client[0]) - 1
            if left:
                self._of_client[client[0]] = left
            answer(query.wire[:2] + reply[2:] if reply else query.failed())

        self._of_client[client[0]] = count + 1
        self._asked[key] = asking = _Asking(self, query, size, done)
        asking.go_on()

    @property
    def outstanding(self) -> int:
        """How many questions wait for an answer."""
        return len(self._asked)

    def close(self) -> None:
        """Answer nobody any more."""
        for asking in tuple(self._asked.values()):
            asking.drop()
        self._asked.clear()
        self._of_client.clear()


class _Asking:
    """One question: whom it has been put to, and the best answer so far."""

    def __init__(
        self, forwarder: Forwarder, query: dns.Query, size: int, done: Callable[[bytes], None]
    ) -> None:
        self.query = query
        self.size = size
        self._loop: Loop = forwarder.loop
        self._servers = forwarder.servers
        self._done = done
        self._left = self._servers.current() * ROUNDS
        self._deadline = time.monotonic() + WHOLE_S
        self._kept = b""
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._wire = b""
        self._at: tuple[int, tuple[object, ...]] = (0, ())
        self._out = b""
        self._in = bytearray()
        self._strays = 0

    def go_on(self) -> None:
        """Put the question to the next one."""
        while True:
            self.drop()
            if not self._left or time.monotonic() >= self._deadline:
                self._done(self._kept)
                return
            self._at = self._left.pop(0)
            try:
                self._open(socket.SOCK_DGRAM, self._heard, TRY_S)
                assert self._socket is not None
                self._socket.send(self._wire)
            except OSError:
                continue  # no way to it, or no descriptor left
            return

    def drop(self) -> None:
        """Close what is open."""
        if self._timer is not None:
            self._timer.cancel()
        made, self._socket = self._socket, None
        if made is not None:
            self._loop.forget(made.fileno())
            made.close()

    def _open(self, kind: int, call: Callable[[], None], wait_s: float) -> None:
        family, address = self._at
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket = made
        self._wire = os.urandom(2) + self.query.wire[2:]
        self._strays = 0
        self._timer = self._loop.later(wait_s, self._was_silent)
        try:
            made.connect(address)
        except BlockingIOError:
            pass  # TCP; it becomes writable
        self._loop.watch(
            made.fileno(), call, events=READ if kind == socket.SOCK_DGRAM else READ | WRITE
        )

    def _was_silent(self) -> None:
        self._servers.was_silent(self._at[1], is_silent=True)
        self.go_on()

    def _heard(self) -> None:
        assert self._socket is not None
        try:
            reply = self._socket.recv(_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.go_on()  # nobody listens there
            return
        if not self._fits(reply):
            self._strays += 1
            if self._strays >= _STRAYS:
                self._was_silent()
            return
        self._servers.was_silent(self._at[1], is_silent=False)
        if dns.is_truncated(reply) and self.size > dns.PLAIN_SIZE:
            # It may have been cut to less than the client takes.
            self._kept = reply
            self._ask_by_tcp()
        else:
            self._take(reply)

    def _take(self, reply: bytes) -> None:
        if dns.is_refusal(reply):
            self._kept = self._kept or reply
            self.go_on()
            return
        self.drop()
        self._done(reply)

    def _ask_by_tcp(self) -> None:
        self.drop()
        try:
            self._open(socket.SOCK_STREAM, self._speak, TCP_TRY_S)
        except OSError:
            self.go_on()
            return
        self._out = len(self._wire).to_bytes(2, "big") + self._wire
        self._in = bytearray()

    def _speak(self) -> None:
        assert self._socket is not None
        try:
            if self._out:
                self._out = self._out[self._socket.send(self._out) :]
                if not self._out:
                    self._loop.watch(self._socket.fileno(), self._speak)
                return
            data = self._socket.recv(_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.go_on()
            return
        self._in += data
        length = int.from_bytes(self._in[:2], "big")
        if len(self._in) < 2 + length or len(self._in) < 2:
            return
        reply = bytes(self._in[2 : 2 + length])
        if self._fits(reply) and not dns.is_truncated(reply):
            self._take(reply)
        else:
            self.go_on()

    def _fits(self, reply: bytes) -> bool:
        return (
            len(reply) >= dns.HEADER_BYTES
            and reply[:2] == self._wire[:2]
            and self.query.is_answered_by(reply)
        )


def _parsed(name: str, port: int) -> tuple[int, tuple[object, ...]] | None:
    try:
        flags = socket.AI_NUMERICHOST
        found = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM, flags=flags)
    except (OSError, UnicodeError):
        return None  # a name, or nonsense: C libraries pass over it, too
    family, _, _, _, address = found[0]
    return family, address
