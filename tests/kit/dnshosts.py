"""Nameservers and clients of DNS in namespaces of a test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
from kit.nethosts import TIMEOUT_S, family_of

from netns import Namespace

Behaviour = Callable[[dns.message.Message, bool], "bytes | None"]


def ask(
    where: Namespace,
    server: str,
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
    port: int = 53,
    timeout_s: float = TIMEOUT_S,
    **options: object,
) -> dns.message.Message:
    """Ask a nameserver from a namespace, as dig(1) does."""
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    how = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with where.entered():
        made = socket.socket(family_of(server), how)
    with made:
        made.settimeout(timeout_s)
        made.connect((server, port))
        if not tcp:
            made.send(query.to_wire())
            return dns.message.from_wire(made.recv(65535))
        wire = query.to_wire()
        made.sendall(len(wire).to_bytes(2, "big") + wire)
        return dns.message.from_wire(message_from(made))


def message_from(stream: socket.socket) -> bytes:
    """One message of a connection."""
    length = int.from_bytes(exactly(stream, 2), "big")
    return exactly(stream, length)


def exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += part
    return data


def values(reply: dns.message.Message) -> list[str]:
    """What an answer's records say."""
    return [str(each) for rrset in reply.answer for each in rrset]


def code(reply: dns.message.Message) -> str:
    return dns.rcode.to_text(reply.rcode())


def answering(*addresses: str, cut: bool = False) -> Behaviour:
    """Every name has these addresses; with ``cut``, by TCP only."""

    def behave(query: dns.message.Message, stream: bool) -> bytes:
        reply = dns.message.make_response(query, recursion_available=True)
        if cut and not stream:
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        question = query.question[0]
        fits = {dns.rdatatype.A: ".", dns.rdatatype.AAAA: ":"}.get(question.rdtype, "")
        found = [each for each in addresses if fits in each]
        if found:
            reply.answer.append(
                dns.rrset.from_text_list(question.name, 60, "IN", question.rdtype, found)
            )
        return reply.to_wire(max_size=65535)

    return behave


def refusing(number: dns.rcode.Rcode) -> Behaviour:
    def behave(query: dns.message.Message, _stream: bool) -> bytes:
        reply = dns.message.make_response(query)
        reply.set_rcode(number)
        return reply.to_wire()

    return behave


def silent(_query: dns.message.Message, _stream: bool) -> None:
    return None


@dataclass
class Upstream:
    """A nameserver that does what it is told, and remembers what it was asked."""

    behave: Behaviour
    asked: list[str] = field(default_factory=list)
    by_tcp: int = 0
    senders: list[tuple[str, int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


@contextmanager
def upstream(
    where: Namespace, address: str, behave: Behaviour, *, port: int = 53
) -> Iterator[Upstream]:
    """A nameserver in a namespace, for as long as the block."""
    made = Upstream(behave)
    with where.entered():
        datagrams = socket.socket(family_of(address), socket.SOCK_DGRAM)
        streams = socket.socket(family_of(address), socket.SOCK_STREAM)
    streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    datagrams.bind((address, port))
    streams.bind((address, port))
    streams.listen()
    over = threading.Event()

    def note(wire: bytes, client: tuple[str, int], stream: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        made.asked.append(str(query.question[0].name))
        made.senders.append(client[:2])
        made.ids.append(query.id)
        made.by_tcp += stream
        return made.behave(query, stream)

    def by_datagram() -> None:
        while not over.is_set():
            try:
                wire, client = datagrams.recvfrom(65535)
            except TimeoutError:
                continue
            if not wire:
                return
            reply = note(wire, client, False)
            if reply is not None:
                datagrams.sendto(reply, client)

    def by_stream() -> None:
        while not over.is_set():
            try:
                connection, client = streams.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(TIMEOUT_S)
                try:
                    reply = note(message_from(connection), client, True)
                    if reply is not None:
                        connection.sendall(len(reply).to_bytes(2, "big") + reply)
                except (EOFError, OSError):
                    continue

    threads = [threading.Thread(target=each) for each in (by_datagram, by_stream)]
    for each in (datagrams, streams):
        each.settimeout(0.05)
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        over.set()
        for thread in threads:
            thread.join()
        datagrams.close()
        streams.close()
