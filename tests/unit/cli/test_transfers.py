"""What pull and push draw on a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from sandbox.cli.transfers import BAR, Rows, bar


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 100, "[>" + " " * BAR + "]"),
        (50, 100, "[" + "=" * 25 + ">" + " " * 25 + "]"),
        (100, 100, "[" + "=" * BAR + ">]"),
        (300, 100, "[" + "=" * BAR + ">]"),
        (0, 0, "[" + "=" * BAR + ">]"),
    ],
)
def test_a_bar_fills_and_never_changes_its_width(done: int, total: int, shown: str) -> None:
    assert bar(done, total) == shown
    assert len(shown) == BAR + 3


@pytest.mark.parametrize("columns", [40, 200])
def test_a_row_is_redrawn_in_place_and_never_wider_than_the_terminal(columns: int) -> None:
    reader, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        rows = Rows(fd=terminal)
        rows("0123456789ab", "Pulling fs layer", 0, 10)
        rows("ba9876543210", "Pulling fs layer", 0, 10)
        rows("0123456789ab", "Download complete", 10, 10)
        rows("ffffffffffff", "Downloading", 5_000_000, 10_000_000)
        rows("-", "end", 0, 0)
        said = ""
        while "-: end\r\n" not in said:  # a terminal gives a line at a time
            said += os.read(reader, 10_000).decode()
    finally:
        os.close(reader)
        os.close(terminal)

    assert "\x1b[2A\r\x1b[2K0123456789ab: Download complete\x1b[2B\r" in said
    last = said.splitlines()[-2].rpartition("\r")[2]
    assert len(last) < columns
    if columns == 200:
        assert last.endswith("]  5MB/10MB")
    assert last.startswith("ffffffffffff: Downloading [====")
