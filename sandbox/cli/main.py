"""The program ``sandbox``: global options, the command, and what happens when it fails.

A command is a module of ``sandbox.cli.commands`` with ``run(call) -> int``,
imported when it is called.  This module is on the way of every command, so it
imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from ..errors import SandboxError
from .errors import ENGINE_FAILURE, FAILURE, FlagError, exit_code, host_error, text
from .parser import HelpAsked, check_count, parse
from .table import COMMANDS, GLOBAL_FLAGS, NOUNS, PROGRAM, Command, command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.engine import Engine
    from ..paths import Paths
    from .parser import Options

INTERRUPTED = 130
BROKEN_PIPE = 141


class Call:
    """One call of one command: its options, its arguments and the engine."""

    def __init__(
        self, command: Command, options: Options, arguments: list[str], settings: Options
    ) -> None:
        self.command = command
        self.options = options
        self.arguments = arguments
        self.settings = settings
        self._engine: Engine | None = None

    @property
    def debug(self) -> bool:
        """``--debug`` was said."""
        return bool(self.settings.get("debug") or self.options.get("debug"))

    @property
    def paths(self) -> Paths:
        """Where the chosen store is."""
        from ..paths import Paths  # not for `--help` and `--version`

        return Paths.choose(self.settings.get("root") or None, self.settings.get("run") or None)

    @property
    def engine(self) -> Engine:
        """The engine of the chosen store, made at first use."""
        if self._engine is None:
            from ..engine.engine import Engine  # the most of a command's start

            self._engine = Engine(
                root=self.settings.get("root") or None, run=self.settings.get("run") or None
            )
            if self.debug:
                from . import output

                self._engine.debug = output.error
        return self._engine

    def names(self, *, running: bool) -> list[str]:
        """The containers that are meant: those named, or all that the filters let through.

        With ``running``, only those that run are chosen.
        """
        if not is_choosing(self.options):
            return self.arguments
        from .selecting import chosen_ids

        return chosen_ids(self, running=running)

    def each(
        self, act: Callable[[str], None], names: list[str] | None = None, *, prefix: str = ""
    ) -> int:
        """Do it for every argument, or name; say what failed and go on.  The exit code."""
        from . import output

        code = 0
        for argument in self.arguments if names is None else names:
            try:
                act(argument)
            except SandboxError as error:
                output.error(prefix + error.message)
                if error.hint:
                    output.error(f"hint: {error.hint}")
                code = FAILURE
        return code


def is_choosing(options: Options) -> bool:
    """A filter, or a policy, stands in for names."""
    return "filter" in options or "ancestor" in options or "restart_policy" in options


def main(arguments: list[str]) -> int:
    """Run the program; the exit code."""
    _fill_stdio()
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read from us has gone; there is nobody to tell.
        _silence_stdout()
        return BROKEN_PIPE


def _fill_stdio() -> None:
    # Were one of the three closed, what we open next would be it, and the container's too.
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < 3:
        pass
    os.close(fd)


def _main(arguments: list[str]) -> int:
    debug = False
    chosen: Command | None = None
    try:
        try:
            settings, rest = parse(GLOBAL_FLAGS, arguments, options_first=True)
        except HelpAsked:
            settings, rest = {"help": True}, []
        except FlagError as error:
            raise _global(error) from error
        debug = bool(settings.get("debug"))
        if settings.get("version"):
            return _version()
        if settings.get("help") or not rest:
            return _help(rest)
        if rest[0] in ("help", "__complete"):
            return _help(rest[1:]) if rest[0] == "help" else _complete(rest[1:])
        chosen, words = _choose(rest)
        if chosen is None:
            return _help(rest[:1])
        try:
            options, positionals = parse(chosen.flags, words, options_first=chosen.options_first)
        except HelpAsked:
            return _command_help(chosen)
        debug = debug or bool(options.get("debug"))
        if positionals or not is_choosing(options):
            check_count(chosen, positionals)
        module = __import__(
            f"{__package__}.commands.{_module(chosen.verb)}", fromlist=("run",), level=0
        )
        return int(module.run(Call(chosen, options, positionals, settings)))
    except SandboxError as error:
        _say(text(error, chosen))
        return exit_code(error, chosen.verb if chosen else "")
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        if debug:
            raise
        # The host's own complaint, where nobody had a better sentence.
        problem = host_error(error)
        _say(text(problem, chosen))
        return exit_code(problem, chosen.verb if chosen else "")
    except Exception as error:
        # The only place that catches everything: a bug, or a host in a state that
        # nothing foresaw.  One line, unless more was asked for.
        if debug or os.environ.get("SANDBOX_DEBUG"):
            raise
        _say(f"{PROGRAM}: internal error: {type(error).__name__}: {error}\n")
        _say("hint: `--debug` before the command shows where it happened\n")
        return ENGINE_FAILURE


def _choose(words: list[str]) -> tuple[Command | None, list[str]]:
    first, rest = words[0], words[1:]
    if first in COMMANDS:
        return command(first), rest
    if first not in NOUNS:
        raise _unknown(PROGRAM, first)
    if not rest or rest[0] in ("--help", "-h"):
        return None, []
    verb = NOUNS[first].get(rest[0])
    if verb is None:
        raise _unknown(f"{PROGRAM} {first}", rest[0])
    return command(verb, first, rest[0]), rest[1:]


def _unknown(path: str, word: str) -> SandboxError:
    from .errors import Failure

    return Failure(
        f"{PROGRAM}: unknown command: {path} {word}\n\nRun '{path} --help' for more information"
    )


def _global(error: FlagError) -> SandboxError:
    from .errors import Failure

    return Failure(
        f"{error}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]\n\n"
        f"Run '{PROGRAM} --help' for more information",
        code=ENGINE_FAILURE,
    )


def _module(verb: str) -> str:
    return "import_" if verb == "import" else verb.replace(" ", "_")


def _version() -> int:
    from .host import version

    _print(f"{PROGRAM} version {version()}\n")
    return 0


def _help(words: list[str]) -> int:
    from . import help as texts  # cold: only when somebody asks

    if words and words[0] in NOUNS and len(words) == 1:
        _print(texts.noun(words[0]))
    elif words:
        chosen, _ = _choose(words)
        assert chosen is not None
        return _command_help(chosen)
    else:
        _print(texts.program())
    return 0


def _command_help(chosen: Command) -> int:
    from . import help as texts  # cold: only when somebody asks

    _print(texts.of_command(chosen))
    return 0


def _complete(words: list[str]) -> int:
    from .completion import complete  # cold: only for shells

    _print("".join(f"{word}\n" for word in complete(words)))
    return 0


def _print(text: str) -> None:
    from .output import write

    write(text)


def _say(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        return  # no stderr: the exit code says it


def _silence_stdout() -> None:
    # So that the interpreter's own flush at the end has nothing to complain of.
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ else 1)
        os.close(null)
    except OSError:
        return
