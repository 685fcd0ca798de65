"""Stay with a run until its end: signals go to it, its exit code comes back.

Without a terminal the monitor has the real descriptors and nothing passes
through here; with one, `sandbox.cli.terminal` relays.
"""

from __future__ import annotations

import os
import select

from .errors import UNKNOWN_EXIT_CODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import TracebackType
    from typing import Any

    from ..engine.container import Attachment
    from ..engine.inspect import ExitRecord
else:
    import _signal  # the same, without enums

# Everything that a person or a supervisor sends; TSTP, TTIN and TTOU stay the shell's.
PROXIED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
)
WINDOW_CHANGED = _signal.SIGWINCH
# For a message that has arrived already; 0 would not look at all.


class Signals:
    """The signals that arrive while in scope, as bytes on a pipe."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self._before: list[tuple[int, Any]] = []

    def __enter__(self) -> Signals:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # nohup's wish is kept
                self._before.append((number, _signal.signal(number, _noted)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before:
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
        _signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Readable when a signal has arrived."""
        return self._reader

    def take(self) -> bytes:
        """The numbers of those that have arrived."""
        try:
            return os.read(self._reader, 64)
        except BlockingIOError:
            return b""


def _noted(_number: int, _frame: object) -> None:
    """Let the wake-up pipe tell; a handler must be there for that."""


def wait(attachment: Attachment, signals: Signals) -> ExitRecord:
    """Wait for the end of a run without a terminal, passing signals on."""
    poll = select.poll()
    poll.register(attachment.fileno(), select.POLLIN)
    poll.register(signals.fileno(), select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if signals.fileno() in ready:
            for number in signals.take():
                attachment.signal(number)
        if attachment.fileno() in ready:
            record = attachment.poll()
            if record is not None:
                return record


def exit_code(record: ExitRecord) -> int:
    """The exit code of this program after such a run."""
    if record.exit_code is not None:
        return record.exit_code
    if record.signal is not None:
        return 128 + record.signal
    return UNKNOWN_EXIT_CODE
