"""The resolver of one network: names from a folder, everything else from the host's nameservers.

    a name of an endpoint                       its addresses, any of them first
    a name of an endpoint, another type         no data, at once
    the same with the network's domain          the same
    an address of an endpoint                   its name
    any other name that looks like one of here  no such name, and nobody else is asked:
                                                a single label, the network's domain, its addresses
    all the rest                                the host's nameservers; no such name, if the
                                                network has no way out

Only who asks from the network's own subnets is answered.  An endpoint that is on further networks
(folders beside this network's) is told their names, too.  `serve` is the life of a process:
sockets come bound (``netns.listening``), and it returns when nobody is left.  Out of scope:
starting that process, locks.
"""

from __future__ import annotations

import ipaddress
import os
import random
import socket
import time

from netns import dns, resolvconf
from netns.eventloop import READ, WRITE, Loop
from netns.forward import Forwarder, Nameservers
from netns.names import Folder
from netns.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netns.eventloop import Timer

ENDPOINTS = "endpoints"
LOOK_S = 1.0  # how often somebody looks whether anybody is left
MOST_CONNECTIONS = 64
IDLE_S = 10.0
_AT_ONCE = 64  # datagrams of one socket before the others have their turn
_MAX_BACKLOG = 262144
# A network may well be called "net": names below these are the world's, unless they are known here.
PUBLIC = frozenset(
    "academy agency ai app art biz blog cloud club co com community company design dev digital"
    " edu email games gov group guide help host hosting inc info int io link live ltd me media"
    " mil mobi name net network news ninja one online org page pro run sale services shop site"
    " solutions space store studio support systems team tech technology today tools top tv"
    " video web website wiki work works world xyz zone".split()
)


class Domain(Record):
    """What one resolver answers for."""

    endpoints: str  # a folder, see `netns.names`
    beside: str = ""  # in `<beside>/*/endpoints` are those of other networks
    name: str = ""  # <endpoint>.<name> is the endpoint, too; empty: there is no domain
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    forwards: bool = True
    answers: bool = True  # False: it only forwards
    resolv_conf: str = resolvconf.HOST_FILE
    port: int = 53  # of the host's nameservers
    leave_after_s: float = 10.0


def serve(domain: Domain, sockets: Sequence[socket.socket], may_leave: Callable[[], bool]) -> None:
    """Answer until the folder has been empty for `leave_after_s` and ``may_leave`` agrees.

    The sockets are closed at the end.
    """
    server = Server(domain, sockets)
    try:
        empty_since = 0.0
        look_s = max(0.01, min(LOOK_S, domain.leave_after_s / 4))
        while True:
            server.loop.turn(look_s)
            now = time.monotonic()
            if not server.known.is_empty():
                empty_since = 0.0
            elif not empty_since:
                empty_since = now
            elif now - empty_since >= domain.leave_after_s and may_leave():
                return
    finally:
        server.close()


class Known:
    """Who has which name: of this network first, then of the others that the client is on."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._own = Folder(domain.endpoints)
        self._others: dict[str, Folder] = {}
        self._suffix = f".{domain.name.lower()}" if domain.name else ""
        self._parents: tuple[object, frozenset[str]] = (None, frozenset())

    def is_empty(self) -> bool:
        """Nobody is on the network."""
        return self._own.is_empty()

    def addresses(self, name: str, client: str) -> list[str] | None:
        """Those of a name, the first a different one each time; None if nobody has it."""
        for folder in self._folders(client):
            found = folder.named(name)
            if not found and self._suffix and name.endswith(self._suffix):
                found = folder.named(name.removesuffix(self._suffix))
            if found:
                # Not in turn: clients ask for both families in even measure, and a turn is lost
                # on each that there is not.
                first = random.randrange(len(found))  # noqa: S311 - a choice, no secret
                turned = found[first:] + found[:first]
                return list(dict.fromkeys(a for named in turned for a in named.addresses))
        return None

    def names(self, address: str, client: str) -> list[str] | None:
        """The name of an address; None if nobody has it."""
        for folder in self._folders(client):
            named = folder.at(address)
            if named is not None and named.names:
                return [named.names[0] + self._suffix]
        return None

    def has_below(self, name: str) -> bool:
        """Whether a longer name ends with this one: so there is such a name, without anything."""
        by_name = self._own.names()
        if self._parents[0] is not by_name:
            parents = set()
            for known in by_name:
                rest = known.partition(".")[2]
                while rest:
                    parents.add(rest)
                    rest = rest.partition(".")[2]
            self._parents = (by_name, frozenset(parents))
        return name in self._parents[1] or f".{name}" == self._suffix

    def _folders(self, client: str) -> Iterator[Folder]:
        yield self._own
        named = self._own.at(client)
        if named is None or not self._domain.beside:
            return
        try:
            networks = sorted(os.listdir(self._domain.beside))
        except OSError:
            return
        for network in networks:
            path = f"{self._domain.beside}/{network}/{ENDPOINTS}"
            if path != self._own.path and os.path.exists(f"{path}/{named.owner}"):
                if path not in self._others:
                    self._others[path] = Folder(path)
                yield self._others[path]
        for path in [path for path in self._others if not os.path.isdir(path)]:
            del self._others[path]


class Server:
    """The sockets of a resolver, and what is done with what comes in."""

    def __init__(self, domain: Domain, sockets: Sequence[socket.socket]) -> None:
        self.domain = domain
        self.loop = Loop()
        self.known = Known(domain)
        self._subnets = [ipaddress.ip_network(subnet) for subnet in domain.subnets]
        servers = Nameservers(domain.resolv_conf, own=domain.gateways, port=domain.port)
        self.forwarder = Forwarder(self.loop, servers)
        self._sockets = list(sockets)
        self._connections: dict[int, _Connection] = {}
        for each in self._sockets:
            each.setblocking(False)
            is_stream = each.type == socket.SOCK_STREAM
            call = self._accepting(each) if is_stream else self._receiving(each)
            self.loop.watch(each.fileno(), call)

    def close(self) -> None:
        """Close every socket; may be called twice."""
        self.forwarder.close()
        for connection in tuple(self._connections.values()):
            connection.close()
        while self._sockets:
            self._sockets.pop().close()
        self.loop.close()

    def answer(
        self, wire: bytes, client: tuple[str, int], reply: Callable[[bytes], None], *, stream: bool
    ) -> None:
        """Answer one message, now or later; some are not worth an answer."""
        try:
            query = dns.parse(wire)
        except dns.BadQuery as error:
            if error.reply:
                reply(error.reply)
            return
        size = 65535 if stream else 0
        here = self._of_here(query, client[0], size) if self.domain.answers else b""
        if here:
            reply(here)
        elif not self.domain.forwards:
            reply(query.no_such_name())
        else:
            most = size or query.size
            self.forwarder.ask(
                *(query, client),
                lambda found: reply(found if len(found) <= most else query.truncated()),
                size=most,
            )

    def is_client(self, address: str) -> bool:
        """Whether somebody on this network asks."""
        try:
            number = ipaddress.ip_address(address)
        except ValueError:
            return False  # with a zone: of a link, not of a subnet
        return any(number in subnet for subnet in self._subnets)

    def _of_here(self, query: dns.Query, client: str, size: int) -> bytes:
        found = self.known.addresses(query.name, client)
        if found is not None:
            return query.addresses(found, size=size)
        if query.reverse:
            names = self.known.names(query.reverse, client)
            if names is not None:
                return query.pointers(names, size=size)
            return query.no_such_name() if self.is_client(query.reverse) else b""
        if query.name and self.known.has_below(query.name):
            return query.no_data()
        return query.no_such_name() if self._looks_like_ours(query) else b""

    def _looks_like_ours(self, query: dns.Query) -> bool:
        own = self.domain.name.lower()
        if query.labels == 1:
            # Whoever wants to know about a top level domain does not ask for its address.
            return query.wants_addresses or query.name == own
        # Of two letters are the countries'.
        is_public = own in PUBLIC or (len(own) == 2 and own.isalpha())
        return bool(own) and not is_public and query.name.endswith(f".{own}")

    def _receiving(self, each: socket.socket) -> Callable[[], None]:
        def receive() -> None:
            for _ in range(_AT_ONCE):
                try:
                    wire, client = each.recvfrom(dns.MAX_QUERY_BYTES)
                except OSError:
                    return  # nothing more, or news of a client that did not wait
                if self.is_client(client[0]):
                    self.answer(wire, client[:2], self._sending(each, client), stream=False)

        return receive

    @staticmethod
    def _sending(each: socket.socket, client: tuple[object, ...]) -> Callable[[bytes], None]:
        def send(wire: bytes) -> None:
            try:
                each.sendto(wire, client)
            except OSError:
                return  # gone, or its queue is full: it asks again

        return send

    def _accepting(self, each: socket.socket) -> Callable[[], None]:
        def accept() -> None:
            try:
                made, client = each.accept()
            except OSError:
                return  # nobody any more, or no descriptor left
            if not self.is_client(client[0]):
                made.close()
                return
            if len(self._connections) >= MOST_CONNECTIONS:
                next(iter(self._connections.values())).close()  # the oldest
            self._connections[made.fileno()] = _Connection(self, made, client[:2])

        return accept

    def gone(self, fd: int) -> None:
        """A connection was closed."""
        self._connections.pop(fd, None)


class _Connection:
    """One client by TCP: any number of questions, each behind its length."""

    def __init__(self, server: Server, made: socket.socket, client: tuple[str, int]) -> None:
        self._server = server
        self._socket = made
        self._client = client
        self._in = bytearray()
        self._out = bytearray()
        self._timer: Timer | None = None
        made.setblocking(False)
        server.loop.watch(made.fileno(), self._read)
        self._wait()

    def close(self) -> None:
        """Close it; may be called twice."""
        fd = self._socket.fileno()
        if fd < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._server.loop.forget(fd)
        self._socket.close()
        self._server.gone(fd)

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._server.loop.later(IDLE_S, self.close)

    def _read(self) -> None:
        if self._out and not self._write():
            return
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._in += data
        while len(self._in) >= 2 and self._socket.fileno() >= 0:
            length = int.from_bytes(self._in[:2], "big")
            if length > dns.MAX_QUERY_BYTES:
                self.close()
                return
            if len(self._in) < 2 + length:
                return  # and it has IDLE_S, in all, for the rest
            wire = bytes(self._in[2 : 2 + length])
            del self._in[: 2 + length]
            self._wait()
            self._server.answer(wire, self._client, self._reply, stream=True)

    def _reply(self, wire: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        if len(self._out) > _MAX_BACKLOG:
            self.close()  # asks, and does not read
            return
        self._out += len(wire).to_bytes(2, "big") + wire
        self._write()

    def _write(self) -> bool:
        try:
            del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return False
        fd = self._socket.fileno()
        self._server.loop.watch(fd, self._read, events=READ | WRITE if self._out else READ)
        return True
