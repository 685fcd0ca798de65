"""Completion: short scripts for the shells, which ask the program itself (``__complete``).

So the words come from the table, and names from the store, read as ``ps -q``
reads it.
"""

from __future__ import annotations

from ..errors import SandboxError
from .table import COMMANDS, GLOBAL_FLAGS, NOUNS, SPELLINGS, command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .table import Flag

_FILES = ":files"  # the shell completes file names by itself

_VALUES = {
    "restart": ("no", "on-failure", "always", "unless-stopped"),
    "pull": ("missing", "never"),
    "log-driver": ("file", "none"),
    "type": ("container", "image", "network", "volume"),
    "report": ("text", "json"),
    "signal": ("HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"),
    "format": ("json", "table"),
}
_FILE_FLAGS = ("input", "env-file", "label-file", "cidfile", "report-file", "root", "run")

BASH = """\
_sandbox() {
    local IFS=$'\\n' words
    words=$(sandbox __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [ "$words" = :files ]; then
        COMPREPLY=($(compgen -f -- "$2"))
        compopt -o filenames
    else
        COMPREPLY=($(compgen -W "$words" -- "$2"))
    fi
}
complete -F _sandbox sandbox
"""

ZSH = """\
#compdef sandbox
_sandbox() {
    local -a words_found
    words_found=("${(@f)$(sandbox __complete "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)}")
    if [[ "$words_found" == :files ]]; then
        _files
    else
        compadd -- $words_found
    fi
}
compdef _sandbox sandbox
"""

FISH = """\
function __sandbox_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (sandbox __complete $words[2..-1] 2>/dev/null)
    if test "$found" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c sandbox -f -a '(__sandbox_complete)'
"""


def script(shell: str) -> str | None:
    """The script of a shell; None for a shell that is not known."""
    return {"bash": BASH, "zsh": ZSH, "fish": FISH}.get(shell)


def complete(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word (which may be empty)."""
    *before, last = words or ("",)
    found = _candidates(before, last)
    if found == [_FILES]:
        return found
    return sorted({word for word in found if word.startswith(last)})


def _candidates(before: Sequence[str], last: str) -> list[str]:
    verb, noun, rest = _place(before)
    if verb is None:
        if noun:
            return list(NOUNS[noun])
        verbs = (word for word in COMMANDS if " " not in word)
        return _long(GLOBAL_FLAGS) if last.startswith("-") else [*verbs, *NOUNS]
    entry = command(verb)
    waiting = _waiting(entry.flags, rest)
    if waiting is not None:
        if SPELLINGS.get(waiting[0], waiting[0]) == "network":
            return _named("network")
        return (
            [_FILES]
            if waiting[0] in _FILE_FLAGS
            else list(_VALUES.get(SPELLINGS.get(waiting[0], waiting[0]), ()))
        )
    if last.startswith("-"):
        return _long(entry.flags)
    kind = entry.arguments
    if kind == "network container":
        kind = kind.split()[min(_positionals(entry.flags, rest), 1)]
    if kind.endswith(" command"):
        kind = "" if _positionals(entry.flags, rest) else kind.partition(" ")[0]
    return _named(kind)


def _place(words: Sequence[str]) -> tuple[str | None, str, list[str]]:
    rest = list(words)
    while rest and rest[0].startswith("-"):
        takes_value = rest[0] in ("--root", "--run")
        rest = rest[2 if takes_value else 1 :]
    if not rest:
        return None, "", []
    if rest[0] in COMMANDS:
        return rest[0], "", rest[1:]
    if rest[0] in NOUNS:
        if len(rest) > 1 and rest[1] in NOUNS[rest[0]]:
            return NOUNS[rest[0]][rest[1]], rest[0], rest[2:]
        return None, rest[0], []
    return None, "", []


def _waiting(flags: Sequence[Flag], rest: Sequence[str]) -> Flag | None:
    """The flag whose value comes next."""
    if not rest or "=" in rest[-1]:
        return None
    last = rest[-1]
    for flag in flags:
        takes_value = bool(flag[2]) and "[" not in flag[2]
        is_meant = last == f"--{flag[0]}" or (
            flag[1] and last.startswith("-") and not last.startswith("--") and last[-1] == flag[1]
        )
        if takes_value and is_meant:
            return flag
    return None


def _positionals(flags: Sequence[Flag], rest: Sequence[str]) -> int:
    return sum(
        not word.startswith("-") and _waiting(flags, rest[:at]) is None
        for at, word in enumerate(rest)
    )


def _long(flags: Sequence[Flag]) -> list[str]:
    return [f"--{flag[0]}" for flag in flags if flag[3]] + ["--help"]


def _named(kind: str) -> list[str]:
    if kind == "shell":
        return ["bash", "zsh", "fish"]
    if kind == "file":
        return [_FILES]
    if not kind:
        return []
    from ..engine.engine import Engine

    engine = Engine()
    found: list[str] = []
    try:
        if kind in ("container", "running", "object"):
            found += [each.name for each in engine.containers(all=kind != "running")]
        if kind in ("network", "object"):
            found += [each.name for each in engine.networks()]
        if kind in ("volume", "object"):
            found += [each.name for each in engine.volumes()]
        if kind in ("image", "object"):
            found += [name for image in engine.images() for name in image.names]
    except (SandboxError, OSError):
        return found
    return found
