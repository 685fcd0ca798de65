"""Read arguments by docker's flag grammar, from the table.

``-dit``, ``-p80:80``, ``-p=80:80``, ``-p 80:80``, ``--x=y``, ``--x y``,
``--flag=false``; ``--`` ends the options, and so does the first positional of
a command that runs something (`options_first`).  Values stay as they were
typed, except that switches are bool and numbers int; flags that may be
repeated are lists.  A flag that was not given is not in the result.
"""

from __future__ import annotations

from .errors import ArgumentCountError, FlagError, invalid
from .table import OPTIONAL_WORDS, REPEATED, SPELLINGS, UNBOUNDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from .table import Command, Flag

    Options: TypeAlias = dict[str, Any]

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_NUMBERS = ("int", "uint", "uint16")


class HelpAsked(Exception):
    """``--help`` was among the options."""


def parse(
    flags: Sequence[Flag], arguments: Sequence[str], *, options_first: bool = False
) -> tuple[Options, list[str]]:
    """Options by keyword (the long name with underscores), and the positionals."""
    reader = _Reader(flags)
    positionals: list[str] = []
    at = 0
    while at < len(arguments):
        text = arguments[at]
        at += 1
        if text == "--":
            positionals += arguments[at:]
            break
        if text.startswith("--"):
            at += reader.long(text, arguments[at] if at < len(arguments) else None)
        elif text.startswith("-") and text != "-":
            at += reader.short(text, arguments[at] if at < len(arguments) else None)
        else:
            positionals.append(text)
            if options_first:
                positionals += arguments[at:]
                break
    return reader.options, positionals


def check_count(command: Command, positionals: Sequence[str]) -> None:
    """Refuse too few or too many arguments, in docker's words."""
    count, fewest, most = len(positionals), command.fewest, command.most
    if fewest <= count and (most == UNBOUNDED or count <= most):
        return
    if most == 0:
        raise ArgumentCountError(f"'{command.path}' accepts no arguments")
    if fewest == most:
        amount = f"{fewest} argument{'s' if fewest != 1 else ''}"
    elif count < fewest:
        amount = f"at least {fewest} argument{'s' if fewest != 1 else ''}"
    else:
        amount = f"at most {most} argument{'s' if most != 1 else ''}"
    raise ArgumentCountError(f"'{command.path}' requires {amount}")


class _Reader:
    def __init__(self, flags: Sequence[Flag]) -> None:
        self.options: Options = {}
        self._by_long = {flag[0]: flag for flag in flags}
        self._by_short = {flag[1]: flag for flag in flags if flag[1]}

    def long(self, text: str, following: str | None) -> int:
        """Take ``--name`` or ``--name=value``; how many of the following were used."""
        name, equals, value = text[2:].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {text}")
        flag = self._by_long.get(name)
        if flag is None:
            if name == "help":
                raise HelpAsked
            raise FlagError(f"unknown flag: --{name}")
        if equals:
            self._put(flag, value)
            return 0
        if following is not None and following in OPTIONAL_WORDS.get(name, ()):
            # The value of such a flag may be left out, so only its own words are taken for one.
            self._put(flag, following)
            return 1
        if self._put_without_value(flag):
            return 0
        if following is None:
            raise FlagError(f"flag needs an argument: --{name}")
        self._put(flag, following)
        return 1

    def short(self, text: str, following: str | None) -> int:
        """Take a group of letters, the last of which may have a value."""
        letters = text[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._by_short.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpAsked
                raise FlagError(f"unknown shorthand flag: '{letter}' in {text}")
            if letters.startswith("="):
                self._put(flag, letters[1:])
                return 0
            if self._put_without_value(flag):
                continue
            if letters:
                self._put(flag, letters)
                return 0
            if following is None:
                raise FlagError(f"flag needs an argument: '{letter}' in {text}")
            self._put(flag, following)
            return 1
        return 0

    def _put_without_value(self, flag: Flag) -> bool:
        kind = flag[2]
        if not kind:
            self.options[keyword(flag)] = True
            return True
        if "[" in kind:
            self.options[keyword(flag)] = kind.split('"')[1]
            return True
        return False

    def _put(self, flag: Flag, value: str) -> None:
        kind, name = flag[2], keyword(flag)
        if kind in REPEATED:
            self.options.setdefault(name, []).append(value)
        elif not kind:
            if value not in _TRUE and value not in _FALSE:
                raise invalid(flag, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
            self.options[name] = value in _TRUE
        elif kind in _NUMBERS:
            self.options[name] = _number(flag, value)
        else:
            self.options[name] = value


def keyword(flag: Flag) -> str:
    """The option's name in Python."""
    return SPELLINGS.get(flag[0], flag[0]).replace("-", "_")


def _number(flag: Flag, value: str) -> int:
    text = value.replace("+", "-", 1) if value.startswith("+") else value
    unsigned = flag[2].startswith("u")
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (unsigned and text.startswith("-")):
        function = "ParseUint" if unsigned else "ParseInt"
        raise invalid(flag, value, f'strconv.{function}: parsing "{value}": invalid syntax')
    return int(value)
