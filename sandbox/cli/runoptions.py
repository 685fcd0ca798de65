"""From the flags of ``run`` and ``create`` to the engine's keywords: what only this program knows.

Files named by flags are read here, and what is for the command line alone is left out.
"""

from __future__ import annotations

import os

from ..errors import ImageNotFound, UsageError
from .errors import FlagError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from .main import Call

    T = TypeVar("T")

# For this program; the engine does not know them.
OWN = (
    "attach",
    "cidfile",
    "debug",
    "detach",
    "detach_keys",
    "env_file",
    "label_file",
    "pull",
    "quiet",
    "report",
    "report_file",
    "sig_proxy",
)
MAX_FILE = 1 << 20
STREAMS = ("stdin", "stdout", "stderr")


def keywords(options: dict[str, Any]) -> dict[str, Any]:
    """The engine's keywords; raises `UsageError` for what cannot go together."""
    made = {name: value for name, value in options.items() if name not in OWN}
    made.setdefault("network", default_network())
    if "env_file" in options:
        lines = [line for path in options["env_file"] for line in read_env_file(path)]
        made["env"] = [*lines, *made.get("env", ())]
    if "label_file" in options:
        lines = [line for path in options["label_file"] for line in read_lines(path)]
        made["label"] = [*lines, *made.get("label", ())]
    pull = options.get("pull", "missing")
    if pull not in ("always", "missing", "never"):
        raise UsageError(
            f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
        )
    if options.get("network") == "host" and (options.get("publish") or options.get("publish_all")):
        from . import output

        output.error("WARNING: Published ports are discarded when using host network mode")
    if options.get("detach") and options.get("attach"):
        raise UsageError("Conflicting options: -a and -d")
    return made


def default_network() -> str:
    """Where a container is when nobody says: SANDBOX_NETWORK, or docker's ``bridge``.

    Who is not root cannot make one, and gets none.
    """
    return os.environ.get("SANDBOX_NETWORK") or ("none" if os.geteuid() else "bridge")


def with_image(call: Call, image: str, act: Callable[[], T]) -> T:
    """Do what needs an image, which ``--pull`` says when to bring.

    Looked for by doing it: an image that is there costs nothing.
    """
    pull = call.options.get("pull", "missing")
    if pull == "never" or call.options.get("rootfs") or image == "host":
        return act()
    if pull == "missing":
        try:
            return act()
        except ImageNotFound:
            pass
    from .transfers import pull_for_run  # only when something is pulled

    pull_for_run(call, image, is_missing=pull == "missing")
    return act()


def streams(options: dict[str, Any]) -> set[str]:
    """The streams to be attached: all, unless ``--attach`` names some."""
    asked = options.get("attach", STREAMS)
    for word in asked:
        if word.lower() not in STREAMS:
            raise FlagError(
                f'invalid argument "{word}" for "-a, --attach" flag: '
                "valid streams are STDIN, STDOUT and STDERR"
            )
    return {word.lower() for word in asked}


def read_env_file(path: str) -> Iterable[str]:
    """``NAME=value`` lines; a name alone takes the caller's value, as with ``--env``."""
    for line in read_lines(path):
        name = line.partition("=")[0]
        if not name:
            raise UsageError(f"no variable name on line '{line}'")
        if " " in name or "\t" in name:
            raise UsageError(f"variable '{name}' contains whitespaces")
        yield line


def read_lines(path: str) -> list[str]:
    """The lines that are neither empty nor a comment."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"open {path}: {(error.strerror or '').lower()}") from error
    try:
        content = b""
        while piece := os.read(fd, MAX_FILE):
            content += piece
            if len(content) > MAX_FILE:
                raise UsageError(f"{path}: longer than {MAX_FILE} bytes")
    except IsADirectoryError:
        raise UsageError(f"read {path}: is a directory") from None
    finally:
        os.close(fd)
    try:
        lines = content.removeprefix(b"\xef\xbb\xbf").decode().splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8") from None
    kept = [line.lstrip() for line in lines]
    return [line for line in kept if line and not line.startswith("#")]


def check_cidfile(path: str) -> None:
    """Refuse a file that is there: docker's guard against a second run."""
    if os.path.lexists(path):
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        )
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise UsageError(f"failed to create the container ID file: no folder for {path}")


def write_cidfile(path: str, container_id: str) -> None:
    """Keep the id in the file, which must not be there."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"failed to create the container ID file: {error}") from error
    try:
        os.write(fd, container_id.encode())
    finally:
        os.close(fd)
