"""Tables, sizes, ages and JSON as docker prints them."""

from __future__ import annotations

import pytest

from sandbox.cli import output, times
from sandbox.cli.containerrows import container_command
from sandbox.cli.imageview import glob

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (999, "999B"),
        (1000, "1kB"),
        (682_700, "683kB"),
        (1_986_070, "1.99MB"),
        (999_600, "1MB"),
        (123_400_000, "123MB"),
        (5_300_000_000, "5.3GB"),
    ],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_virtual_size_has_four_digits() -> None:
    assert output.size(682_712, digits=4) == "682.7kB"


def test_memory_is_in_powers_of_1024() -> None:
    assert output.binary_size(25_275_984_281) == "23.54GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (2 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_spans_are_in_dockers_words(seconds: float, text: str) -> None:
    assert times.duration(seconds) == text


def test_columns_are_ten_wide_at_least_and_three_apart() -> None:
    rows = [["ID", "PORTS", "NAMES"], ["123456789012", "", "a"]]

    assert output.table(rows) == ("ID             PORTS     NAMES\n123456789012             a\n")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2013-01-02T13:23:37.5Z", 1357133017_500000000),
        ("2013-01-02T13:23:37+01:00", 1357129417_000000000),
        ("2013-01-02", 1357084800_000000000),
        ("2026-11-23T07:07:18.123456789Z", 1795417638_123456789),
        ("bogus", 0),
        ("2013-13-02", 0),
    ],
)
def test_times_are_read(text: str, nanoseconds: int) -> None:
    assert times.parse_timestamp(text) == nanoseconds


def test_a_time_in_a_log_has_all_nine_digits() -> None:
    assert times.log_time(1357133017_500000000) == "2013-01-02T13:23:37.500000000Z"


@pytest.mark.parametrize("text", ["1357133017.5", "2013-01-02T13:23:37.5Z"])
def test_a_moment_is_seconds_or_a_date(text: str) -> None:
    assert times.moment(text) == 1357133017_500000000


def test_a_moment_may_be_a_span_before_now() -> None:
    before, given = times.moment("1h0m1s"), times.moment("1h")

    assert 0 < given - before < 60_000_000_000


def test_what_is_no_moment_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="bogus"):
        times.moment("bogus")


def test_a_command_is_quoted_and_cut() -> None:
    words = container_command(("sh", "-c", "echo start; echo err"))

    assert words == "sh -c 'echo start; echo err'"
    assert output.quote(output.ellipsis(words, 20)) == '"sh -c \'echo start; …"'


def test_strings_are_quoted_as_go_quotes_them() -> None:
    assert output.quote('a"b\\\n\t\x01é\x7f') == '"a\\"b\\\\\\n\\t\\x01é\\x7f"'


def test_json_escapes_what_go_escapes() -> None:
    assert output.json({"a": "<é>&\n"}) == '{"a":"\\u003cé\\u003e\\u0026\\n"}'


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("a*", "alpine", True),
        ("a*", "a/b", False),
        ("*/b", "a/b", True),
        ("a*:3*", "alpine:3.10", True),
        ("b?sybox", "busybox", True),
        ("[ab]lpine", "alpine", True),
        ("[^ab]lpine", "alpine", False),
        ("[a-c]*", "busybox", True),
        ("", "x", False),
    ],
)
def test_patterns_match_as_with_go(pattern: str, text: str, fits: bool) -> None:
    assert glob(pattern, text) is fits
