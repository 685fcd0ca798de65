from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.monitor import logs
from sandbox.monitor.logs import LogEntry, parse_line, read

EPOCH = 1_695_529_916


def line(text: bytes, *, stream: str = "stdout", tag: str = "F", at: int = 0) -> bytes:
    date = datetime.fromtimestamp(EPOCH + at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{date}.{at:09d}Z {stream} {tag} ".encode() + text + b"\n"


def texts(path: Path, **how: object) -> list[bytes]:
    return [entry.text for entry in read(str(path), **how)]  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def numbered(log: Path, *, files: int = 3, each: int = 10) -> list[bytes]:
    """Rotated files, oldest lines first."""
    everything = [b"%d" % i for i in range(files * each)]
    for index in range(files):
        name = f"{log}.{files - 1 - index}" if index < files - 1 else str(log)
        part = range(index * each, (index + 1) * each)
        Path(name).write_bytes(b"".join(line(everything[i], at=i) for i in part))
    return [text + b"\n" for text in everything]


def test_line_is_parsed() -> None:
    entry = parse_line(b"2026-11-23T07:06:48.927653377Z stderr P some text ")

    moment = datetime(2026, 11, 23, 7, 6, 48, tzinfo=UTC)
    assert entry == LogEntry(
        time_ns=int(moment.timestamp()) * 10**9 + 927653377,
        stream="stderr",
        text=b"some text ",
        partial=True,
    )


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2999, 12, 31)))  # noqa: DTZ001
def test_every_date_is_understood(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    entry = parse_line(moment.strftime("%Y-%m-%dT%H:%M:%S").encode() + b".000000001Z stdout F x")

    assert entry is not None
    assert entry.time_ns == int(moment.timestamp()) * 10**9 + 1


@given(st.binary(max_size=80))
def test_any_bytes_are_an_entry_or_nothing(data: bytes) -> None:
    entry = parse_line(data)

    assert entry is None or entry.text.startswith(data[40:])


def test_missing_log_is_empty(log: Path) -> None:
    assert texts(log) == []


def test_rotated_files_are_read_oldest_first(log: Path) -> None:
    everything = numbered(log)

    assert texts(log) == everything


@pytest.mark.parametrize("tail", [0, 1, 5, 10, 11, 20, 29, 30, 31, 1000])
def test_tail_is_the_last_lines(log: Path, tail: int) -> None:
    everything = numbered(log)

    assert texts(log, tail=tail) == everything[max(0, len(everything) - tail) :]


def test_tail_of_long_lines_crosses_blocks(log: Path) -> None:
    long = [bytes([65 + i]) * 100_000 for i in range(5)]
    log.write_bytes(b"".join(line(text) for text in long))

    assert texts(log, tail=2) == [text + b"\n" for text in long[-2:]]


def test_tail_counts_pieces_of_a_line_once(log: Path) -> None:
    log.write_bytes(
        line(b"first")
        + line(b"a", tag="P")
        + line(b"b", tag="P")
        + line(b"c")
        + line(b"open", tag="P")
    )

    assert texts(log, tail=1) == [b"open"]
    assert texts(log, tail=2) == [b"a", b"b", b"c\n", b"open"]


def test_since_and_until_are_inclusive(log: Path) -> None:
    log.write_bytes(b"".join(line(b"%d" % i, at=i) for i in range(10)))
    start, end = ((EPOCH + i) * 10**9 + i for i in (3, 5))

    assert texts(log, since_ns=start, until_ns=end) == [b"3\n", b"4\n", b"5\n"]


def test_half_lines_and_rubbish_are_left_out(log: Path) -> None:
    log.write_bytes(line(b"one") + b"rubbish\n\n" + line(b"two") + line(b"three")[:42])

    assert texts(log) == [b"one\n", b"two\n"]


def test_link_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(line(b"secret"))
    log.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        texts(log)


def test_words_of_the_monitor_have_a_stream_of_their_own(log: Path) -> None:
    log.write_bytes(line(b"[sandbox: 5 bytes not logged: no space]", stream="system"))

    assert [entry.stream for entry in read(str(log))] == [logs.SYSTEM]


class Writer:
    """Play the monitor: one step each time the reader asks whether it lives."""

    def __init__(self, log: Path, steps: list[object]) -> None:
        self.log = log
        self.steps = steps

    def __call__(self) -> bool:
        if not self.steps:
            return False
        step = self.steps.pop(0)
        if step == "rotate":
            for number in range(8, 0, -1):
                older = Path(f"{self.log}.{number}")
                if older.exists():
                    older.rename(f"{self.log}.{number + 1}")
            self.log.rename(f"{self.log}.1")
            self.log.touch()
        elif step == "truncate":
            self.log.write_bytes(b"")
        else:
            assert isinstance(step, bytes)
            with self.log.open("ab") as file:
                file.write(step)
        return True


def test_follow_sees_what_comes_and_ends_with_the_writer(log: Path) -> None:
    writer = Writer(log, [line(b"a"), line(b"b")[:30], line(b"b")[30:] + line(b"c")])

    assert texts(log, follow=writer, poll_s=0) == [b"a\n", b"b\n", b"c\n"]


def test_follow_goes_on_over_rotations(log: Path) -> None:
    log.write_bytes(line(b"0"))
    steps = [line(b"1"), "rotate", line(b"2"), line(b"3"), "rotate", line(b"4"), "rotate"]

    assert texts(log, follow=Writer(log, [*steps, line(b"5")]), poll_s=0) == [
        b"%d\n" % i for i in range(6)
    ]


def test_follow_catches_up_over_two_rotations_at_once(log: Path) -> None:
    class Fast(Writer):
        def __call__(self) -> bool:
            alive = False
            while self.steps:
                alive = super().__call__()
            return alive

    log.write_bytes(line(b"0"))
    writer = Fast(log, [line(b"1"), "rotate", line(b"2"), "rotate", line(b"3")])

    assert texts(log, follow=writer, poll_s=0) == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_follow_of_a_log_of_one_file_starts_anew_with_it(log: Path) -> None:
    log.write_bytes(line(b"a" * 100))

    seen = texts(log, follow=Writer(log, ["truncate", line(b"b")]), poll_s=0)

    assert seen == [b"a" * 100 + b"\n", b"b\n"]


def test_follow_ends_at_until(log: Path) -> None:
    log.write_bytes(line(b"before") + line(b"after", at=60))
    moment = (EPOCH + 30) * 10**9
    assert moment < time.time_ns(), "the clock of this host is wrong"

    # The writer never ends; the moment has passed.
    assert texts(log, follow=lambda: True, until_ns=moment, poll_s=0) == [b"before\n"]


def test_abandoned_reader_closes_its_files(log: Path) -> None:
    numbered(log)
    before = os.listdir("/proc/self/fd")

    entries = read(str(log))
    next(entries)
    entries.close()  # type: ignore[attr-defined]  # it is a generator

    assert os.listdir("/proc/self/fd") == before
