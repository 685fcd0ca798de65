"""What goes wrong on a command line, and the exit code and text of every error.

    125  the engine could not run the container, and every bad flag
    126  the program could not be executed        127  it was not found
    1    any other verb's failure, and a wrong number of arguments

docker's wording, without its "Error response from daemon: ", for there is none.
"""

from __future__ import annotations

from errno import EACCES, ENOSPC, EPERM
from posix import geteuid

from ..errors import ExecFailed, SandboxError, StoreFull, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .table import Command, Flag

RUNS = ("run", "create")
FAILURE = 1
ENGINE_FAILURE = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
UNKNOWN_EXIT_CODE = 255


class FlagError(UsageError):
    """A flag that is unknown, or whose value cannot be read."""


class ArgumentCountError(UsageError):
    """Too few or too many arguments."""


class Failure(SandboxError):
    """A command's own failure: the whole text, and the exit code."""

    def __init__(self, message: str, *, code: int = FAILURE, hint: str = "") -> None:
        self.code = code
        super().__init__(message, hint=hint)


def exit_code(error: SandboxError, verb: str) -> int:
    """The exit code of a command that failed with ``error``."""
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, FlagError) or _option_of(error):
        return ENGINE_FAILURE
    if isinstance(error, ArgumentCountError) or verb not in RUNS:
        return FAILURE
    if isinstance(error, ExecFailed):
        return NOT_FOUND if error.reason == "not_found" else NOT_EXECUTABLE
    return ENGINE_FAILURE


def text(error: SandboxError, command: Command | None) -> str:
    """What is printed to stderr, hint and all."""
    if command is not None:
        error = _with_flag(error, command)
    message = error.message
    if isinstance(error, ArgumentCountError) or (command is not None and _is_run(error, command)):
        message = f"{command.path.split()[0] if command else 'sandbox'}: {message}"
    lines = [message]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    if command is not None:
        if isinstance(error, (FlagError, ArgumentCountError)):
            lines += ["", f"Usage:  {command.usage}"]
        if isinstance(error, ArgumentCountError) and command.fewest:
            lines += ["", f"See '{command.path} --help' for more information"]
        elif isinstance(error, (FlagError, ArgumentCountError)) or _is_run(error, command):
            lines += ["", f"Run '{command.path} --help' for more information"]
    return "\n".join(lines) + "\n"


def host_error(error: OSError) -> SandboxError:
    """The sentence for a system call that failed where nothing foresaw it."""
    if error.errno == ENOSPC:
        return StoreFull(str(error.filename or "the disk"))
    said = (error.strerror or str(error) or type(error).__name__).lower()
    about = f": {error.filename}" if error.filename else ""
    is_rights = error.errno in (EACCES, EPERM) and geteuid() != 0
    hint = "run it as root, or choose your own folders with --root and --run" if is_rights else ""
    return SandboxError(f"{said}{about}", hint=hint)


def invalid(flag: Flag, value: object, problem: str) -> FlagError:
    """A value that the flag does not take."""
    from .table import shown

    return FlagError(f'invalid argument "{value}" for "{shown(flag)}" flag: {problem}')


def _is_run(error: SandboxError, command: Command) -> bool:
    return command.verb in RUNS and not isinstance(error, (Failure, FlagError))


def _option_of(error: SandboxError) -> str:
    """The option that a value was bad for; empty when it is about something else."""
    option = getattr(error, "option", None)
    return option if isinstance(error, UsageError) and isinstance(option, str) else ""


def _with_flag(error: SandboxError, command: Command) -> SandboxError:
    # The engine names an option; here it gets its flag's name, and of a
    # repeated flag the value that the problem is about.
    option = _option_of(error)
    if not option:
        return error
    long = option.replace("_", "-")
    value = getattr(error, "value", "")
    problem = str(getattr(error, "problem", error))
    if isinstance(value, (list, tuple)):
        value = next((item for item in value if str(item) in problem), value[-1] if value else "")
    for flag in command.flags:
        if flag[0] == long:
            return invalid(flag, value, problem)
    return error
