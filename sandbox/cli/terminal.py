"""A terminal in front of a container: raw mode, relaying, the window's size, the detach keys.

The monitor owns the pty; it gets the ends of two pipes, and this process
carries bytes between those and the real terminal.  Raw mode is left on every
way out.  Out of scope: what the keys mean inside.
"""

from __future__ import annotations

import os
import select

from ..errors import UsageError
from .foreground import WINDOW_CHANGED
from .output import write_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from ..engine.container import Attachment
    from ..engine.inspect import ExitRecord
    from .foreground import Signals

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CHUNK = 1 << 16
_DRAIN_MS = 1000


class Relay:
    """Two pipes for the monitor, and the loop that serves them.  Closed on leaving the scope."""

    def __init__(
        self, *, interactive: bool, detach_keys: str = DEFAULT_DETACH_KEYS, proxy: bool = True
    ) -> None:
        self._keys = DetachKeys(detach_keys)
        self._interactive = interactive
        self._proxy = proxy
        self.left_by = 0
        self._open: list[int] = []

    def __enter__(self) -> Relay:
        if self._interactive:
            self._their_in, self._in = self._pipe()
            os.set_blocking(self._in, False)
        else:
            self._their_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._open.append(self._their_in)
            self._in = -1
        self._out, self._their_out = self._pipe()
        os.set_blocking(self._out, False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in self._open:
            os.close(fd)

    @property
    def stdio(self) -> tuple[int, int, int]:
        """The monitor's ends."""
        return self._their_in, self._their_out, self._their_out

    def serve(self, attachment: Attachment, signals: Signals) -> ExitRecord | None:
        """Carry bytes until the end of the run; None when the person detached.

        Where signals are not passed on, one of them is a reason to leave, too:
        ``left_by`` is then its number.
        """
        # The monitor has its own copies: with ours closed the end of the output is seen.
        self._close(self._their_in)
        self._close(self._their_out)
        pending = b""
        terminal = 0 if self._interactive else -1
        while True:
            poll = select.poll()
            poll.register(attachment.fileno(), select.POLLIN)
            poll.register(signals.fileno(), select.POLLIN)
            if self._out >= 0:
                poll.register(self._out, select.POLLIN)
            if pending:
                poll.register(self._in, select.POLLOUT)
            elif terminal >= 0:
                poll.register(terminal, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if signals.fileno() in ready:
                for number in signals.take():
                    if number == WINDOW_CHANGED:
                        attachment.resize(*window_size())
                    elif self._proxy:
                        attachment.signal(number)
                    else:
                        self.left_by = number
                        return None
            if self._out in ready:
                self._carry_output()
            if self._in in ready:
                pending = self._feed(pending)
            if terminal in ready:
                typed = _read(terminal)
                if typed == b"":
                    terminal = -1
                    self._close(self._in)
                elif typed:
                    passed, is_detached = self._keys.feed(typed)
                    pending = self._feed(passed)
                    if is_detached:
                        return None
            if attachment.fileno() in ready:
                record = attachment.poll()
                if record is not None:
                    self._drain()
                    return record

    def _drain(self) -> None:
        poll = select.poll()
        while self._out >= 0:
            poll.register(self._out, select.POLLIN)
            if not poll.poll(_DRAIN_MS):
                break
            self._carry_output()

    def _carry_output(self) -> None:
        data = _read(self._out)
        if data:
            write_bytes(data)
        elif data is not None:
            self._close(self._out)
            self._out = -1

    def _feed(self, data: bytes) -> bytes:
        if self._in not in self._open:
            return b""
        try:
            return data[os.write(self._in, data) :] if data else b""
        except BlockingIOError:
            return data
        except BrokenPipeError:
            return b""

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self._open += ends
        return ends

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)


class DetachKeys:
    """Finds a sequence of keys in what is typed, and holds back its beginning."""

    def __init__(self, text: str) -> None:
        self._sequence = parse_keys(text)
        self._matched = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the whole sequence was typed."""
        passed = bytearray()
        for byte in typed:
            if self._sequence and byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    self._matched = 0
                    return bytes(passed), True
                continue
            passed += self._sequence[: self._matched]
            self._matched = int(bool(self._sequence) and byte == self._sequence[0])
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as bytes; the empty text turns detaching off."""
    keys = bytearray()
    for part in text.split(",") if text else ():
        letter = part.removeprefix("ctrl-")
        if part.startswith("ctrl-") and len(letter) == 1 and letter in "@[\\]^_":
            keys.append(b"\x00\x1b\x1c\x1d\x1e\x1f"["@[\\]^_".index(letter)])
        elif part.startswith("ctrl-") and len(letter) == 1 and "a" <= letter <= "z":
            keys.append(ord(letter) - 96)
        elif part == "DEL":
            keys.append(127)
        elif len(part) == 1 and part.isascii():
            keys.append(ord(part))
        else:
            raise UsageError(f"invalid detach keys ({text}): Unknown character: '{part}'")
    return bytes(keys)


class RawMode:
    """The terminal on a descriptor, raw while in scope."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def __enter__(self) -> RawMode:
        import termios

        self._before = termios.tcgetattr(self._fd)
        raw = list(self._before)
        # cfmakeraw(3)
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6] = list(raw[6])
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import termios

        if self._before is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            except termios.error:
                return  # the terminal is gone


def window_size() -> tuple[int, int]:
    """Rows and columns of the terminal that is looked at."""
    for fd in (1, 0, 2):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if columns and rows:
            return rows, columns
    return 24, 80


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # a terminal that was hung up
