"""The table is whole: every command has its module, its help, and flags that the engine knows."""

from __future__ import annotations

import importlib

import pytest

from sandbox.cli import help as texts
from sandbox.cli.parser import keyword
from sandbox.cli.runoptions import OWN
from sandbox.cli.table import COMMANDS, NOUNS, PROGRAM, command
from sandbox.engine.options import _PARSERS


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_has_its_module(verb: str) -> None:
    name = "import_" if verb == "import" else verb.replace(" ", "_")

    module = importlib.import_module(f"sandbox.cli.commands.{name}")

    assert callable(module.run)


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_of_every_command_has_an_example(verb: str) -> None:
    entry = command(verb)

    text = texts.of_command(entry)

    assert text.startswith(f"Usage:  {PROGRAM} {verb} ")
    assert "\nExamples:\n" in text
    assert any(f"{PROGRAM} {verb}" in example for example in entry.examples)


@pytest.mark.parametrize("verb", COMMANDS)
def test_no_flag_is_there_twice(verb: str) -> None:
    flags = COMMANDS[verb][5]
    longs = [flag[0] for flag in flags]
    shorts = [flag[1] for flag in flags if flag[1]]

    assert len(longs) == len(set(longs))
    assert len(shorts) == len(set(shorts))


def test_every_flag_of_run_is_an_option_of_the_engine_or_our_own() -> None:
    known = {*_PARSERS, "mount"}
    asked = {keyword(flag) for flag in COMMANDS["run"][5]} - set(OWN)

    assert asked == known


def test_create_has_no_flag_that_run_lacks() -> None:
    assert set(COMMANDS["create"][5]) <= set(COMMANDS["run"][5])


def test_every_noun_leads_to_a_command() -> None:
    assert {verb for names in NOUNS.values() for verb in names.values()} <= set(COMMANDS)


def test_the_options_of_a_help_text_are_aligned() -> None:
    text = texts.of_command(command("ps"))

    assert (
        "Options:\n"
        "  -a, --all             Show all containers (default shows just running)\n"
        "  -f, --filter filter   Filter output based on conditions provided\n"
    ) in text


def test_a_hidden_flag_is_not_in_the_help() -> None:
    assert "--net " not in texts.of_command(command("run"))


def test_a_noun_names_each_command_once() -> None:
    text = texts.noun("container")

    assert "\n  ls " in text
    assert text.count("List containers") == 1
