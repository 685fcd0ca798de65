"""What is checked: options over the image's word, and what cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.engine.health import check_argv, healthcheck_of
from sandbox.engine.options import (
    InvalidOption,
    options_document,
    options_from_document,
    parse_options,
)
from sandbox.errors import UsageError
from sandbox.oci.imageconfig import Healthcheck, ImageConfig

S = 1_000_000_000
IMAGE = Healthcheck(
    test=("CMD", "look"),
    interval_ns=7 * S,
    timeout_ns=8 * S,
    start_period_ns=9 * S,
    start_interval_ns=10 * S,
    retries=11,
)


def asked(keywords: dict[str, Any], image: Healthcheck | None = None) -> Healthcheck | None:
    options = parse_options("busybox", ["true"], keywords)
    return healthcheck_of(options, ImageConfig(healthcheck=image))


def test_nothing_is_checked_unless_somebody_says_so() -> None:
    assert asked({}) is None
    assert asked({"health_cmd": "", "health_retries": 0, "health_interval": "0s"}) is None
    assert asked({}, IMAGE) == IMAGE


def test_what_is_asked_for_wins_one_by_one() -> None:
    assert asked({"health_cmd": "x y"}, IMAGE) == Healthcheck(
        test=("CMD-SHELL", "x y"),
        interval_ns=7 * S,
        timeout_ns=8 * S,
        start_period_ns=9 * S,
        start_interval_ns=10 * S,
        retries=11,
    )
    assert asked(
        {
            "health_interval": "1m30s",
            "health_timeout": 0.5,
            "health_retries": "2",
            "health_start_period": "1h",
            "health_start_interval": "1ms",
        },
        IMAGE,
    ) == Healthcheck(
        test=("CMD", "look"),
        interval_ns=90 * S,
        timeout_ns=S // 2,
        start_period_ns=3600 * S,
        start_interval_ns=S // 1000,
        retries=2,
    )


def test_no_healthcheck_leaves_nothing_of_the_image() -> None:
    found = asked({"no_healthcheck": True}, IMAGE)

    assert found == Healthcheck(test=("NONE",))
    assert check_argv(found, ()) == ()


@pytest.mark.parametrize(
    ("test", "shell", "argv"),
    [
        ((), (), ()),
        (("NONE",), (), ()),
        (("NONE", "x"), (), ()),
        (("CMD",), (), ()),
        (("CMD", "a", "b c"), (), ("a", "b c")),
        (("CMD-SHELL", "a b"), (), ("/bin/sh", "-c", "a b")),
        (
            ("CMD-SHELL", "a b"),
            ("/bin/ash", "-eo", "x", "-c"),
            ("/bin/ash", "-eo", "x", "-c", "a b"),
        ),
        (("SOMETHING", "a"), (), ()),
    ],
)
def test_the_first_word_says_how_the_others_run(
    test: tuple[str, ...], shell: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    assert check_argv(Healthcheck(test=test), shell) == argv


def test_a_list_of_words_needs_no_shell() -> None:
    found = asked({"health_cmd": ["test", "-e", "/a b"]})

    assert found == Healthcheck(test=("CMD", "test", "-e", "/a b"))


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        (
            {"no_healthcheck": True, "health_cmd": "x"},
            "--no-healthcheck conflicts with --health-* options",
        ),
        (
            {"no_healthcheck": True, "health_retries": 1},
            "--no-healthcheck conflicts with --health-* options",
        ),
        ({"health_interval": "-1s"}, "--health-interval cannot be negative"),
        ({"health_timeout": -2}, "--health-timeout cannot be negative"),
        ({"health_start_period": "-1m"}, "--health-start-period cannot be negative"),
        ({"health_start_interval": "-1m"}, "--health-start-interval cannot be negative"),
        ({"health_retries": -1}, "--health-retries cannot be negative"),
        ({"health_interval": "1us"}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"health_timeout": "999us"}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"health_start_period": "1ns"}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"health_start_interval": "1ns"}, "StartInterval in Healthcheck cannot be less than 1ms"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_docker_s_words(
    keywords: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options("busybox", ["true"], keywords)

    assert caught.value.message == text


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("health_interval", 'time: invalid duration "x"'),
        ("health_retries", 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
def test_a_value_that_is_no_number_is_an_invalid_argument(option: str, problem: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_options("busybox", ["true"], {option: "x"})

    assert (caught.value.option, caught.value.problem) == (option, problem)


def test_options_come_back_from_the_document() -> None:
    options = parse_options(
        "busybox", ["true"], {"health_cmd": "x", "health_interval": "2s", "health_retries": 4}
    )

    assert options_from_document(options_document(options)) == options
