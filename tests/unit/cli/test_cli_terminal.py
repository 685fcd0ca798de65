"""Keys that detach, and files named by flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.cli.runoptions import keywords
from sandbox.cli.terminal import DetachKeys, parse_keys
from sandbox.errors import UsageError


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@,a", b"\x00a"),
        ("ctrl-[", b"\x1b"),
        ("", b""),
    ],
)
def test_detach_keys_are_read(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="Unknown character: 'shift-p'"):
        parse_keys("shift-p")


def test_the_sequence_detaches_also_in_pieces() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")

    assert keys.feed(b"ls\x10") == (b"ls", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_a_beginning_that_goes_on_otherwise_is_passed_on() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")

    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"x") == (b"\x10x", False)


def test_a_repeated_first_key_still_begins_the_sequence() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")

    assert keys.feed(b"\x10\x10\x11") == (b"\x10", True)


def test_without_keys_everything_passes() -> None:
    assert DetachKeys("").feed(b"\x10\x11") == (b"\x10\x11", False)


def test_an_env_file_comes_before_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# no\n\nA=1\n  B=two words\nC\n")

    made = keywords({"env_file": [str(file)], "env": ["A=2"]})

    assert made["env"] == ["A=1", "B=two words", "C", "A=2"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a b=1", "variable 'a b' contains whitespaces"),
        ("=x", "no variable name on line '=x'"),
    ],
)
def test_a_bad_line_of_an_env_file_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "env"
    file.write_text(line + "\n")

    with pytest.raises(UsageError, match=sentence):
        keywords({"env_file": [str(file)]})


def test_a_missing_env_file_is_said_in_dockers_words() -> None:
    with pytest.raises(UsageError) as caught:
        keywords({"env_file": ["/nosuch"]})

    assert caught.value.message == "open /nosuch: no such file or directory"
