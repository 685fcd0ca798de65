"""Help texts, from the table, laid out as docker's."""

from __future__ import annotations

from .table import COMMANDS, GLOBAL_FLAGS, NOUNS, PROGRAM, SUMMARIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .table import Command, Flag

_OTHER_NAMES = ("list", "ps")  # of ``ls``, below a noun
COMMON = ("run", "ps", "images", "load", "version", "info", "doctor")


def program() -> str:
    """``sandbox --help``."""
    parts = [
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND",
        "Run commands isolated in image roots, with limits, a verdict and a receipt; no daemon",
        "Examples:\n"
        f"  {PROGRAM} load -i image.tar\n"
        f"  {PROGRAM} run --rm -m 64m --cpus 0.5 busybox sh -c 'hostname; id'",
        "Common Commands:\n" + _rows((verb, COMMANDS[verb][1]) for verb in COMMON),
        "Management Commands:\n" + _rows(SUMMARIES.items()),
        "Commands:\n" + _rows((verb, COMMANDS[verb][1]) for verb in _others()),
        "Global Options:\n" + _options(GLOBAL_FLAGS),
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.",
    ]
    return "\n\n".join(parts) + "\n"


def _others() -> list[str]:
    """Neither the common ones nor those that are only below a noun."""
    return [verb for verb in sorted(COMMANDS) if " " not in verb and verb not in COMMON]


def noun(word: str) -> str:
    """``sandbox container --help``."""
    names = [name for name in NOUNS[word] if name not in _OTHER_NAMES]
    rows = [(name, COMMANDS[NOUNS[word][name]][1]) for name in sorted(names)]
    parts = [
        f"Usage:  {PROGRAM} {word} COMMAND",
        SUMMARIES[word],
        "Commands:\n" + _rows(rows),
        f"Run '{PROGRAM} {word} COMMAND --help' for more information on a command.",
    ]
    return "\n\n".join(parts) + "\n"


def of_command(command: Command) -> str:
    """``sandbox run --help``."""
    parts = [f"Usage:  {command.usage}", command.summary]
    others = _aliases(command)
    if len(others) > 1:
        parts.append("Aliases:\n  " + ", ".join(others))
    if command.examples:
        parts.append("Examples:\n" + "\n".join(f"  {line}" for line in command.examples))
    if any(flag[3] for flag in command.flags):
        parts.append("Options:\n" + _options(command.flags))
    return "\n\n".join(parts) + "\n"


def _aliases(command: Command) -> list[str]:
    made = [
        f"{PROGRAM} {word} {name}"
        for word, names in NOUNS.items()
        for name, verb in names.items()
        if verb == command.verb
    ]
    return list(dict.fromkeys([*made, f"{PROGRAM} {command.verb}"]))


def _options(flags: Iterable[Flag]) -> str:
    rows = []
    for long, short, kind, text in sorted(flags):
        if text:
            head = f"-{short}, --{long}" if short else f"    --{long}"
            rows.append((head + (f" {kind}" if kind and "[" not in kind else kind[6:]), text))
    return _rows(rows)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    listed = list(rows)
    width = max(len(head) for head, _ in listed) + 3
    return "\n".join(f"  {head.ljust(width)}{text}" for head, text in listed)
