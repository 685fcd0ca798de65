"""The program at a real terminal: a pty whose other end is the test."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Store

DEADLINE_S = 20.0


class Screen:
    """The program at a terminal of its own."""

    def __init__(self, store: Store, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(33, 101)
        self.settings = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("sandbox")), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=store.environ,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._slave = slave
        self.seen = b""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text: bytes) -> bytes:
        """Read until the text is there; what came before it."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._master], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self._master, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before

    def size_inside(self) -> bytes:
        """What the shell says; its echo of the command may be drawn anew at any letter."""
        self.type(b'echo "<$(stty size)>"\r')
        return self.wait_for(b">\r\n").rpartition(b"<")[2]

    def wait(self) -> int:
        """Wait for the program's end, reading on."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._master], [], [], 0.02)[0]:
                self.seen += os.read(self._master, 65536)
        while select.select([self._master], [], [], 0)[0]:
            self.seen += os.read(self._master, 65536)
        return self.process.returncode

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._slave) == self.settings
