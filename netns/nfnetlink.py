"""The kernel's netfilter, spoken to in messages packed by hand.

What is on the way of every start (published ports, tracked flows) goes by this and costs some
microseconds a message; whole rulesets go by the program nft (``netns.nftables``).

Imports nothing but compiled-in modules.
"""

from __future__ import annotations

import _socket
from errno import ENOBUFS

from netns import packed
from netns.errors import RulesUnavailable
from netns.packed import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x300, 0x10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NFTABLES, _GETGEN = 10, 16
_NETLINK_ROUTE, _RTM_GETADDR = 0, 22
_SO_SNDBUFFORCE = 32
_SMALL = 64 << 10  # what fits into any send buffer
_TYPE = 0x3FFF  # of an attribute, without its flags
_DUMPS = 20


class Refusal(Exception):
    """What the kernel answered to a message: its errno."""

    def __init__(self, errno: int) -> None:
        self.errno = errno
        super().__init__(errno)


class Wire:
    """One netlink socket in the namespace that the thread is in; netfilter's, if not told other."""

    def __init__(self, protocol: int = packed.NETLINK_NETFILTER) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        try:
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            raise RulesUnavailable("this kernel has no netfilter") from error
        self._sequence = 0

    def apply(self, messages: Sequence[bytes]) -> dict[int, int]:
        """Carry out all the messages in one transaction of nftables, or none of them.

        The answer is empty then, and else the errno of each message that was refused, by its
        place; -1 stands for the transaction itself.
        """
        if not messages:
            return {}
        first = self._sequence + 1
        last = first + len(messages) - 1
        self._sequence = last + 1
        parts = [_batch(_BATCH_BEGIN, first - 1)]
        for sequence, message in enumerate(messages, first):
            # One answer tells that the whole was done; a refused message answers anyhow.
            ack = packed.NLM_F_ACK if sequence == last else 0
            parts.append(packed.numbered(message, sequence, ack))
        self._send(b"".join((*parts, _batch(_BATCH_END, last + 1))))
        refused: dict[int, int] = {}
        is_done = False
        # All of it has happened when sending returns, and the answers are there.
        for type_, _, sequence, body in self._answers(_socket.MSG_DONTWAIT):
            if type_ == _NLMSG_ERROR:
                errno = _errno(body)
                if errno:
                    refused.setdefault(sequence - first, errno)
                is_done = is_done or sequence == last
        return refused if is_done or refused else {-1: ENOBUFS}

    def ask(self, message: bytes) -> bytes:
        """Ask one question; the body of the answer, or `Refusal`."""
        self._sequence += 1
        self._send(packed.numbered(message, self._sequence, 0))
        for type_, _, sequence, body in self._answers(0):
            if sequence == self._sequence:
                if type_ == _NLMSG_ERROR:
                    raise Refusal(_errno(body))
                return body
        return b""

    def do(self, message: bytes) -> None:
        """Have one thing done, or `Refusal`."""
        self._sequence += 1
        self._send(packed.numbered(message, self._sequence, packed.NLM_F_ACK))
        for type_, _, sequence, body in self._answers(0):
            if sequence == self._sequence and type_ == _NLMSG_ERROR:
                if _errno(body):
                    raise Refusal(_errno(body))
                return

    def dump(self, message: bytes) -> list[bytes]:
        """Ask for a list; the body of each entry, or `Refusal`."""
        for _ in range(_DUMPS):
            found = self._dump(message)
            if found is not None:
                break
        else:
            raise Refusal(ENOBUFS)
        return found

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _dump(self, message: bytes) -> list[bytes] | None:
        self._sequence += 1
        self._send(packed.numbered(message, self._sequence, _NLM_F_DUMP))
        found: list[bytes] = []
        is_whole = True
        for type_, flags, sequence, body in self._answers(0):
            if sequence != self._sequence:
                continue
            if flags & _NLM_F_DUMP_INTR:  # the list changed meanwhile
                is_whole = False
            if type_ == _NLMSG_ERROR:
                raise Refusal(_errno(body))
            if type_ == _NLMSG_DONE:
                break
            found.append(body)
        return found if is_whole else None

    def _send(self, data: bytes) -> None:
        if len(data) > _SMALL:
            # A transaction is one message of the socket; the right to it is there, or the
            # transaction would be refused anyhow.
            self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(data) + _SMALL)
        self._socket.send(data)

    def _answers(self, flags: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Type, flags, sequence number and body of what comes, until there is no more."""
        while True:
            try:
                data = self._socket.recv(1 << 17, flags)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:  # refusals beyond number, and the first are there
                    raise
                continue
            at = 0
            while at < len(data):
                length, type_, how, sequence, _ = HEADER.unpack_from(data, at)
                yield type_, how, sequence, data[at + HEADER.size : at + length]
                at += (length + 3) & ~3


def message(type_: int, flags: int, family: int, attributes: bytes) -> bytes:
    """A message of netfilter: subsystem and message, flags, family, attributes."""
    body = packed.NETFILTER.pack(family, 0, 0) + attributes
    return packed.head(type_, flags, body) + body


def attributes(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute; the type is without its flags."""
    while at + 4 <= len(data):
        length, type_ = packed.ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield type_ & _TYPE, data[at + 4 : at + length]
        at += (length + 3) & ~3


def body_attributes(body: bytes) -> dict[int, bytes]:
    """The attributes of a netfilter message's body, by their types."""
    return dict(attributes(body, packed.NETFILTER.size))


def has_nftables() -> bool:
    """Whether the kernel knows nftables, and lets the caller use it."""
    try:
        with Wire() as wire:
            wire.ask(message(_NFTABLES << 8 | _GETGEN, 0, 0, b""))
    except (RulesUnavailable, Refusal):
        return False
    return True


def own_addresses() -> set[bytes]:
    """Every address of the thread's namespace, of both families."""
    body = bytes(8)  # of all links and families
    with Wire(_NETLINK_ROUTE) as wire:
        found = wire.dump(packed.head(_RTM_GETADDR, 0, body) + body)
    return {value for one in found for type_, value in attributes(one, 8) if type_ in (1, 2)}


def _batch(type_: int, sequence: int) -> bytes:
    # The resource is the subsystem, in network order.
    body = packed.NETFILTER.pack(0, 0, _socket.htons(_NFTABLES))
    return packed.numbered(packed.head(type_, 0, body) + body, sequence, 0)


def _errno(body: bytes) -> int:
    errno: int = -packed.ERRNO.unpack_from(body)[0]
    return errno
