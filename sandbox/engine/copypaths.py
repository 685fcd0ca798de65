"""Where a copy goes and what it is called there: docker's rules for ``cp``, as text.

Nothing here looks at a file.  A path's last letters matter: ``dir/`` says that it is
a directory, ``dir/.`` means its content.
"""

from __future__ import annotations

import os

from ..errors import UsageError
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Source(Record):
    """What is copied.  ``name`` is what it is called unless the destination says otherwise.

    A ``name`` of ``.`` is the content of a directory.
    """

    name: str
    is_directory: bool


class Destination(Record):
    """What was found at the path that was asked for, links at its end followed."""

    path: str
    exists: bool = False
    is_directory: bool = False


class Placement(Record):
    """Into which directory it goes, and the name it gets there; ``.`` is its content only."""

    folder: str
    name: str


def split_argument(text: str) -> tuple[str, str]:
    """Container and path of ``CONTAINER:PATH``; no container for a path of this machine."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return "", text
    return container, path


def is_content(path: str) -> bool:
    """It ends in ``.``: the directory's content is meant."""
    return last_of(path) == "."


def says_directory(path: str) -> bool:
    """It can only be meant for a directory."""
    return path.endswith("/") or is_content(path)


def last_of(path: str) -> str:
    """The last component: ``.`` of nothing, ``/`` of the root."""
    stripped = path.rstrip("/")
    if not stripped:
        return "/" if path else "."
    return stripped.rpartition("/")[2]


def split_entry(path: str) -> tuple[str, str]:
    """The directory that an entry is in, and its name: ``/a/b/`` is ``/a`` and ``b``.

    ``/a/b/.`` is ``/a/b`` and ``.``.
    """
    if is_content(path):
        return clean(path), "."
    cleaned = clean(path)
    if cleaned == "/":
        return "/", "/"
    return clean(cleaned[: -len(last_of(cleaned))] or "."), last_of(cleaned)


def clean(path: str) -> str:
    """Without ``.``, ``..``, repeated and final slashes, as text."""
    cleaned = os.path.normpath(path)
    # POSIX leaves a meaning to two slashes in front that nobody uses.
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def keep_end(cleaned: str, path: str) -> str:
    """A cleaned path with the ``/`` or ``/.`` that ``path`` ends in."""
    if is_content(path) and not is_content(cleaned):
        cleaned = cleaned.rstrip("/") + "/."
    if path.endswith("/") and not cleaned.endswith("/"):
        cleaned += "/"
    return cleaned


def in_container(path: str) -> str:
    """A path as the container has it: absolute, from its root."""
    return keep_end(clean("/" + path), path)


def on_host(path: str) -> str:
    """A path of this machine: absolute, from the working directory."""
    return keep_end(clean(os.path.join(os.getcwd(), path)), path)


def place(source: Source, destination: Destination) -> Placement:
    """Docker's table: what goes where.  `UsageError` in its words when it cannot be."""
    path = destination.path
    if destination.exists and destination.is_directory:
        return Placement(folder=path, name=source.name)
    if destination.exists and source.is_directory:
        raise UsageError("cannot copy directory")
    if not destination.exists and not source.is_directory and says_directory(path):
        raise UsageError("no such directory")
    folder, name = split_entry(path)
    return Placement(folder=folder, name=name)


def follow(
    path: str, read_link: Callable[[str], str | None], *, most: int = 40
) -> tuple[str, bool]:
    """Where the links at the end of ``path`` lead; and whether it was one.

    ``read_link`` gives the text of a link, None for what is none or is not there.  The
    parts before are left as they are: the kernel resolves them.
    """
    was_link = False
    for _ in range(most):
        target = read_link(path)
        if target is None:
            return path, was_link
        was_link = True
        # Not cleaned: `..` behind a link is the parent of where the link leads.
        path = target if target.startswith("/") else f"{split_last(path)[0]}{target}"
    raise UsageError(f"too many symlinks in {path}")


def split_last(path: str) -> tuple[str, str]:
    """All up to the last slash with it, and what is behind it, as written."""
    folder, slash, name = path.rpartition("/")
    return folder + slash, name
