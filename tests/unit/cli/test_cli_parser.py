"""docker's flag grammar, and its words for what does not fit."""

from __future__ import annotations

import pytest

from sandbox.cli.errors import ArgumentCountError, FlagError
from sandbox.cli.parser import HelpAsked, check_count, parse
from sandbox.cli.table import command

FLAGS = (
    ("detach", "d", "", "x"),
    ("interactive", "i", "", "x"),
    ("tty", "t", "", "x"),
    ("publish", "p", "list", "x"),
    ("memory", "m", "bytes", "x"),
    ("last", "n", "int", "x"),
    ("report", "", 'string[="text"]', "x"),
    ("network", "", "string", "x"),
    ("net", "", "string", ""),
)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["-dit"], {"detach": True, "interactive": True, "tty": True}),
        (["-p80:80"], {"publish": ["80:80"]}),
        (["-p=80:80"], {"publish": ["80:80"]}),
        (["-p", "80:80", "--publish", "81:81"], {"publish": ["80:80", "81:81"]}),
        (["-dp80:80"], {"detach": True, "publish": ["80:80"]}),
        (["-dp", "80:80"], {"detach": True, "publish": ["80:80"]}),
        (["--memory=64m"], {"memory": "64m"}),
        (["--memory", "64m"], {"memory": "64m"}),
        (["-m", "-1"], {"memory": "-1"}),
        (["--tty=false"], {"tty": False}),
        (["-t=false"], {"tty": False}),
        (["-n", "-1"], {"last": -1}),
        (["--report"], {"report": "text"}),
        (["--report=json"], {"report": "json"}),
        (["--net", "none"], {"network": "none"}),
        (["--memory="], {"memory": ""}),
    ],
)
def test_flags_are_read_as_docker_reads_them(
    arguments: list[str], options: dict[str, object]
) -> None:
    assert parse(FLAGS, arguments) == (options, [])


def test_options_may_follow_positionals() -> None:
    assert parse(FLAGS, ["a", "-d", "b"]) == ({"detach": True}, ["a", "b"])


def test_options_end_at_the_image() -> None:
    arguments = ["-d", "busybox", "sh", "-c", "x", "--rm"]

    assert parse(FLAGS, arguments, options_first=True) == ({"detach": True}, arguments[1:])


def test_two_dashes_end_the_options() -> None:
    assert parse(FLAGS, ["--", "-d"]) == ({}, ["-d"])


def test_a_dash_is_a_positional() -> None:
    assert parse(FLAGS, ["-", "-d"]) == ({"detach": True}, ["-"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["--nosuch=1"], "unknown flag: --nosuch"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-dx"], "unknown shorthand flag: 'x' in -dx"),
        (["--memory"], "flag needs an argument: --memory"),
        (["-m"], "flag needs an argument: 'm' in -m"),
        (["-dm"], "flag needs an argument: 'm' in -dm"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["-n", "x"],
            'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": '
            "invalid syntax",
        ),
        (
            ["--tty=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: '
            'parsing "maybe": invalid syntax',
        ),
    ],
)
def test_what_does_not_fit_is_said_in_dockers_words(arguments: list[str], sentence: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(FLAGS, arguments)

    assert caught.value.message == sentence


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_asked_for_anywhere(word: str) -> None:
    with pytest.raises(HelpAsked):
        parse(FLAGS, ["x", word])


def test_h_of_run_is_the_host_name() -> None:
    entry = command("run")

    options, _ = parse(entry.flags, ["-h", "web", "busybox"], options_first=True)

    assert options == {"hostname": "web"}


@pytest.mark.parametrize(
    ("verb", "count", "sentence"),
    [
        ("run", 0, "'sandbox run' requires at least 1 argument"),
        ("logs", 2, "'sandbox logs' requires 1 argument"),
        ("tag", 1, "'sandbox tag' requires 2 arguments"),
        ("images", 2, "'sandbox images' requires at most 1 argument"),
        ("ps", 1, "'sandbox ps' accepts no arguments"),
    ],
)
def test_the_number_of_arguments_is_checked(verb: str, count: int, sentence: str) -> None:
    with pytest.raises(ArgumentCountError) as caught:
        check_count(command(verb), ["x"] * count)

    assert caught.value.message == sentence
