"""Read and replace one document: atomic, durable where it matters, never fatal.

A document is replaced by writing a temporary file beside it and renaming.
Readers need no lock: they see the old one or the new one.  A document that
cannot be read as JSON is set aside (``<name>.damaged-<n>``) by `set_aside`, so
that one bad file never stops a command that is about others.
"""

from __future__ import annotations

import errno
import os

from .. import jsontext
from ..errors import DamagedDocument, StoreFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json


def read_document(path: str) -> dict[str, Json]:
    """The object in the file.  `FileNotFoundError`, or `DamagedDocument` naming the file."""
    value = jsontext.decode(read_bytes(path), what=path)
    if not isinstance(value, dict):
        raise DamagedDocument(what=path, problem="not a JSON object")
    return value


def read_bytes(path: str, *, dir_fd: int | None = None) -> bytes:
    """The whole of a small file, at most `jsontext.MAX_BYTES` and a byte."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        parts = []
        left = jsontext.MAX_BYTES + 1
        while left > 0:
            part = os.read(fd, min(left, 65536))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def replace_document(path: str, value: object, *, durable: bool = False) -> None:
    """Put ``value`` in the place of whatever the file holds."""
    replace_bytes(path, jsontext.encode(value), durable=durable)


def replace_bytes(path: str, data: bytes, *, durable: bool = False, mode: int = 0o600) -> None:
    """The same for bytes; with ``durable`` they survive a power cut from here on."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        try:
            _create(temporary, data, durable=durable, mode=mode)
        except FileExistsError:
            # A predecessor with this process id died here.
            os.unlink(temporary)
            _create(temporary, data, durable=durable, mode=mode)
        os.rename(temporary, path)
    except OSError as error:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        _refuse_full(error, path)
        raise
    if durable:
        sync_folder(os.path.dirname(path))


def create_bytes(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Make a file in a new folder, into which nobody looks yet and which goes if this fails.

    Raises `StoreFull` or `OSError`.
    """
    try:
        _create(path, data, durable=False, mode=mode)
    except OSError as error:
        _refuse_full(error, path)
        raise


def _create(path: str, data: bytes, *, durable: bool, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        if mode != 0o600:
            os.fchmod(fd, mode)  # whatever the caller's umask made of it
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _refuse_full(error: OSError, path: str) -> None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StoreFull(path) from error


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def set_aside(path: str) -> str:
    """Move a damaged document out of the way; returns where it is now."""
    number = 1
    while True:
        aside = f"{path}.damaged-{number}"
        if not os.path.lexists(aside):
            os.rename(path, aside)
            return aside
        number += 1


def remove_file(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
