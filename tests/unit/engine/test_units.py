"""Sizes, durations and signals as people write them."""

import pytest

from sandbox.engine.signals import signal_number
from sandbox.engine.units import parse_duration, parse_size
from sandbox.errors import UsageError
from sandbox.monitor.exitrecord import signal_name


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("10", 10),
        ("1k", 1024),
        ("64M", 64 << 20),
        ("1.5g", 3 << 29),
        ("2KiB", 2048),
        ("3mb", 3 << 20),
        ("7b", 7),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "abc", "-1", "1x", "m", "1 m", "1mm", "nan", "99999999999p"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("1.5", 1.5), ("300ms", 0.3), ("1m30s", 90), ("2h", 7200)]
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "5y", "-1", "s", "1e99"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("signal", "number"),
    [("TERM", 15), ("SIGKILL", 9), ("int", 2), (9, 9), ("RTMIN+1", 35), ("RTMAX", 64)],
)
def test_signal(signal: str | int, number: int) -> None:
    assert signal_number(signal) == number


@pytest.mark.parametrize("signal", ["BOGUS", "0", "65", "", "RTMIN+99", "-9"])
def test_what_is_no_signal(signal: str) -> None:
    with pytest.raises(UsageError, match="Invalid signal"):
        signal_number(signal)


def test_signal_names() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(40) == "signal 40"
