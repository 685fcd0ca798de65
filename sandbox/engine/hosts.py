"""Containers of the default network find each other by /etc/hosts, as docker's do.

Of each running container that its user gave a name, every other one on the network has a line
``address name`` in its file.  The file is bind-mounted into a running container, so it is changed
in place: a line is appended by one write, and taken out by one write of the same length, with
empty lines at its end that are cut off afterwards.  Whatever else is in the file, the container's
own lines among it, stays as it is.

``<network's run folder>/hosts.lock`` is held while the files are changed and while the container
itself is put into or taken out of the folder of endpoints: so nobody misses a line, and
nobody keeps one of a container that is gone.
"""

from __future__ import annotations

import fcntl
import os

from ..state.document import remove_file, replace_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.names import Named

    from ..paths import Paths

MOST = 1024  # endpoints that are looked at
MAX_BYTES = 1 << 20  # a larger file is its container's own affair


def join(
    paths: Paths, folder: str, container_id: str, text: str, *, is_running: bool = False
) -> None:
    """Write a container's file, ``text`` and a line for each other that runs, and tell those.

    ``folder`` is the network's run folder; the container's endpoint is in it already.
    """
    path = f"{paths.container(container_id)}/hosts"
    with _Held(folder):
        own, others = _endpoints(folder, container_id)
        lines = "".join([lines_of(other) for other in others])
        write(path, text + lines, is_running=is_running)
        if own is not None and lines_of(own):
            for other in others:
                _change(paths, other.owner, add=lines_of(own))


def leave(paths: Paths, folder: str, container_id: str) -> None:
    """Take a container out of the others' files, and its endpoint out of the folder.

    Broken off between the two, it can be done again.
    """
    from netns import names

    endpoints = f"{folder}/endpoints"
    own = names.read(endpoints, container_id)
    if own is None or not lines_of(own):
        # The usual case, of which nobody has a line.
        remove_file(f"{endpoints}/{container_id}")
        return
    with _Held(folder):
        for other in _endpoints(folder, container_id)[1]:
            _change(paths, other.owner, remove=lines_of(own))
        remove_file(f"{endpoints}/{container_id}")


def write(path: str, text: str, *, is_running: bool) -> None:
    """Write a container's file under /etc anew, in place if it runs: as one write for a reader."""
    data = text.encode()
    if not is_running:
        replace_bytes(path, data, mode=0o644)
        return
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _put(fd, data, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def lines_of(named: Named) -> str:
    """What the others have of an endpoint: nothing, unless it has a name beside its id."""
    if not named.names or named.names[0] == named.owner[:12]:
        return ""
    return "".join([f"{address}\t{named.names[0]}\n" for address in named.addresses])


class _Held:
    """The lock, for a block."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/hosts.lock"

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Not on the files themselves: a container could hold those for ever.
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _endpoints(folder: str, container_id: str) -> tuple[Named | None, list[Named]]:
    from netns import names

    path = f"{folder}/endpoints"
    others = [
        named
        for owner in names.owners(path)[:MOST]
        if owner != container_id and (named := names.read(path, owner)) is not None
    ]
    return names.read(path, container_id), others


def _change(paths: Paths, container_id: str, *, add: str = "", remove: str = "") -> None:
    try:
        # The container may have put anything in its place but a file of the host's.
        fd = os.open(
            f"{paths.container(container_id)}/hosts", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:
        return  # being removed
    try:
        size = os.fstat(fd).st_size
        if size > MAX_BYTES:
            return
        before = os.pread(fd, size, 0)
        if add:
            _append(fd, before, add.encode().splitlines(keepends=True))
        else:
            _take_out(fd, before, remove.encode().splitlines(keepends=True))
    except OSError:
        return  # a full disk; it is not for others to fail by
    finally:
        os.close(fd)


def _append(fd: int, before: bytes, lines: list[bytes]) -> None:
    # It may have found them by itself, between this endpoint's file and the lock.
    there = before.splitlines(keepends=True)
    missing = [line for line in lines if line not in there]
    if not missing:
        return
    start = b"" if not before or before.endswith(b"\n") else b"\n"
    os.pwrite(fd, start + b"".join(missing), len(before))


def _take_out(fd: int, before: bytes, lines: list[bytes]) -> None:
    kept = [line for line in before.splitlines(keepends=True) if line not in lines]
    after = b"".join(kept)
    if len(after) != len(before):
        _put(fd, after, len(before))


def _put(fd: int, data: bytes, size: int) -> None:
    # Empty lines are nothing to a reader; half of an old line would be something.
    os.pwrite(fd, data + b"\n" * min(size - len(data), MAX_BYTES), 0)
    os.ftruncate(fd, len(data))
