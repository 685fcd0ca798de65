"""Questions and answers of DNS as bytes; the door to dnspython.

A `Query` is one that has been checked whole: one question, nothing odd in it.  It makes every
answer to itself that a resolver needs, no longer than its client takes.  Out of scope: who has
which name (``netns.names``), sockets and asking others (``netns.resolver``, ``netns.forward``).

dnspython reads and writes the messages.  It costs 60 ms and 10 MiB, so this module is for the
resolver's own process.
"""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER_BYTES = 12
MAX_QUERY_BYTES = 4096
PLAIN_SIZE = 512  # what a client takes that says nothing else
OUR_SIZE = 1232  # goes through every network unfragmented
TTL_S = 5  # a container that starts again has another address

_QR, _TC = 0x80, 0x02
_SERVFAIL, _NOTIMP, _REFUSED = dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED
_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)
_REVERSE = (dns.reversename.ipv4_reverse_domain, dns.reversename.ipv6_reverse_domain)


class BadQuery(Exception):
    """Not a query that can be answered; ``reply`` is what its sender is told, maybe nothing."""

    def __init__(self, reply: bytes = b"") -> None:
        self.reply = reply
        super().__init__("not a query that can be answered")


class Query:
    """A question that somebody asked; use `parse`.

    ``name`` is in lower case without the dot at its end, ``reverse`` the address that it stands
    for if it is one of those, ``size`` the most bytes that its client takes in a datagram.
    """

    def __init__(self, wire: bytes, message: dns.message.Message, end: int) -> None:
        question = message.question[0]
        self.wire = wire
        self.name = question.name.to_text(omit_final_dot=True).lower()
        self.labels = len(question.name) - 1
        self.size = min(max(message.payload, PLAIN_SIZE), 65535)
        self.reverse = _reversed(question.name)
        self._message = message
        self._owner = question.name
        self._type = question.rdtype
        self._end = end

    @property
    def key(self) -> bytes:
        """The same for a client's second try: its number, and its question."""
        return self.wire[:2] + self.wire[HEADER_BYTES : self._end]

    @property
    def wants_addresses(self) -> bool:
        """It asks for addresses, of either family."""
        return self._type in _ADDRESS_TYPES

    @property
    def wants_pointer(self) -> bool:
        """It asks for the name of an address."""
        return self._type == dns.rdatatype.PTR

    def addresses(self, found: Iterable[str], *, size: int = 0) -> bytes:
        """The answer of a name that is there: those of the family asked for, maybe none."""
        records = []
        for kind in _ADDRESS_TYPES:
            if self._type in (kind, dns.rdatatype.ANY):
                fitting = [a for a in found if (":" in a) == (kind == dns.rdatatype.AAAA)]
                records += [(kind, fitting)] if fitting else []
        return self._answer(records, size=size)

    def pointers(self, found: Iterable[str], *, size: int = 0) -> bytes:
        """The answer of an address that is there: its names."""
        if self._type not in (dns.rdatatype.PTR, dns.rdatatype.ANY):
            return self._answer([], size=size)
        return self._answer([(dns.rdatatype.PTR, [f"{name}." for name in found])], size=size)

    def no_such_name(self) -> bytes:
        """There is nothing of that name, of any type."""
        return self._answer([], rcode=dns.rcode.NXDOMAIN)

    def no_data(self) -> bytes:
        """There is the name, but nothing of that type."""
        return self._answer([])

    def failed(self) -> bytes:
        """Nobody could be asked, or nobody answered."""
        return self._answer([], rcode=_SERVFAIL, is_ours=False)

    def truncated(self) -> bytes:
        """The answer is too long for a datagram."""
        reply = bytearray(self._answer([], is_ours=False))
        reply[2] |= _TC
        return bytes(reply)

    def is_answered_by(self, reply: bytes) -> bool:
        """Whether a message is an answer to this question; the number is not looked at."""
        asked = self.wire[HEADER_BYTES : self._end]
        said = reply[HEADER_BYTES : self._end]
        return (
            len(said) == len(asked)
            and bool(reply[2] & _QR)
            and reply[4:6] == b"\0\1"
            and said[:-4].lower() == asked[:-4].lower()
            and said[-4:] == asked[-4:]
        )

    def _answer(
        self,
        records: list[tuple[dns.rdatatype.RdataType, list[str]]],
        *,
        rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
        size: int = 0,
        is_ours: bool = True,
    ) -> bytes:
        reply = dns.message.make_response(
            self._message, recursion_available=True, our_payload=OUR_SIZE
        )
        if is_ours:
            reply.flags |= dns.flags.AA
        reply.set_rcode(rcode)
        for kind, values in records:
            rrset = dns.rrset.from_text_list(self._owner, TTL_S, dns.rdataclass.IN, kind, values)
            reply.answer.append(rrset)
        # Not shuffled: the order is the caller's.
        return reply.to_wire(
            max_size=size or min(self.size, OUR_SIZE), prefer_truncation=True, want_shuffle=False
        )


def parse(wire: bytes) -> Query:
    """Check a message whole.  Raises `BadQuery`, whatever it is."""
    if len(wire) < HEADER_BYTES or wire[2] & _QR:
        raise BadQuery  # an answer to an answer would go to and fro for ever
    if (wire[2] >> 3) & 0xF != dns.opcode.QUERY:
        raise BadQuery(_refusal(wire, _NOTIMP))
    if wire[4:10] != b"\0\1\0\0\0\0":
        raise BadQuery(_refusal(wire, dns.rcode.FORMERR))
    try:
        end = _end_of_question(wire)
        message = dns.message.from_wire(wire)
    except dns.exception.DNSException as error:
        raise BadQuery(_refusal(wire, dns.rcode.FORMERR)) from error
    except Exception as error:
        # Whatever a message finds in the library, it is not worth a resolver's life.
        raise BadQuery(_refusal(wire, dns.rcode.FORMERR)) from error
    question = message.question[0]
    if message.edns > 0:
        reply = dns.message.make_response(message, our_payload=OUR_SIZE)
        reply.set_rcode(dns.rcode.BADVERS)
        raise BadQuery(reply.to_wire())
    if question.rdclass != dns.rdataclass.IN or question.rdtype in (
        dns.rdatatype.AXFR,
        dns.rdatatype.IXFR,
    ):
        raise BadQuery(_refusal(wire, _REFUSED))
    return Query(wire, message, end)


def is_truncated(reply: bytes) -> bool:
    """There is more of the answer than the message holds."""
    return bool(reply[2] & _TC)


def is_refusal(reply: bytes) -> bool:
    """Whoever was asked could not, or would not, say; somebody else may."""
    return reply[3] & 0xF in (_SERVFAIL, _NOTIMP, _REFUSED)


def _reversed(name: dns.name.Name) -> str:
    if not any(name.is_subdomain(domain) for domain in _REVERSE):
        return ""
    try:
        return dns.reversename.to_address(name)
    except (dns.exception.DNSException, ValueError):
        return ""


def _end_of_question(wire: bytes) -> int:
    place = HEADER_BYTES
    while place < len(wire) and wire[place]:
        if wire[place] & 0xC0:
            raise dns.exception.FormError  # nothing stands before it that it could point to
        place += wire[place] + 1
    return place + 5


def _refusal(wire: bytes, code: dns.rcode.Rcode) -> bytes:
    # The header alone: what follows it is not to be trusted, or not understood.
    return wire[:2] + bytes((_QR | wire[2] & 0x79, code)) + bytes(8)
