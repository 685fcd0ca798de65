"""Files into and out of a container: a tar stream between two handles, moved by the native core.

copy_in, copy_out   ``cp`` between this machine and a container
pack_path           a path of a container as a tar stream (``get``, ``cp CONTAINER:PATH -``)
unpack_into         a tar stream into a directory of a container (``put``, ``cp - CONTAINER:DIR``)
export              the whole root as a tar, without what is mounted in it
read, write         one file's bytes

Neither side's names lead anywhere else: a path of the container is resolved below
its root, and what is unpacked stays below the directory that it is unpacked into.
What a container's files could give to others here (devices, attributes, set-id
bits, owners) is left out of a copy out, unless it is asked for.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from contextlib import ExitStack, contextmanager
from threading import Thread

from ..errors import NotFound, PathConflict, SandboxError, UsageError, WrongStatus
from ..layer.unpack import faults_as_errors, unpack_copy, watched
from ..native import CopyRules, Progress, pack
from ..record import Record
from . import copypaths
from .copypaths import Destination, Source
from .rootview import RootView, is_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..layer.unpack import UnpackResult
    from .container import Container

CHUNK_BYTES = 1 << 20
DEFAULT_MAX_BYTES = 64 << 20
_O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_POLL_MS = 100
_ROOT = (0, 0)


class Copied(Record):
    """What was copied: bytes of the tar stream, where it went, and what was left out.

    ``path`` is the destination as it was found, absolute.  ``left_out`` counts sockets,
    and in a copy out that is not an archive also devices.
    """

    bytes: int
    path: str
    left_out: int = 0


class _Found(Record):
    """An entry of a container: the open directory that it is in, its name, and what it is.

    An empty ``name`` is the directory itself.
    """

    folder: int
    name: str
    mode: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


# In and out


def copy_in(
    container: Container,
    source: str,
    path: str,
    *,
    follow_link: bool = False,
    archive: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Copied:
    """Copy ``source`` of this machine to ``path`` in the container, by docker's rules.

    What is copied belongs to the container's root, or, with ``archive``, to the ids
    that it belongs to here, and keeps its extended attributes.
    """
    # What is wrong with the destination is said first, as docker does.
    with RootView.of(container, writable=True) as view, ExitStack() as opened:
        destination = _destination(view, path)
        what, folder, entry = _host_source(source, follow_link=follow_link, opened=opened)
        placement = copypaths.place(what, destination)
        target = _open_target(view, placement.folder, opened)
        owner = None if archive else _ROOT
        done, left_out = _through_pipe(
            lambda out, counts: (
                pack(
                    folder,
                    out,
                    entry=_entry(entry),
                    name=_name(placement.name),
                    with_kernels=False,
                    with_holes=True,
                    progress=counts,
                ).passed_over
            ),
            lambda stream: _unpack(view, stream, target, placement.folder, owner, progress),
        )
    return Copied(bytes=done.size, path=destination.path, left_out=left_out + done.passed_over)


def copy_out(
    container: Container,
    path: str,
    destination: str,
    *,
    follow_link: bool = False,
    archive: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Copied:
    """Copy ``path`` of the container to ``destination`` on this machine, by docker's rules.

    What is copied belongs to the caller; with ``archive`` it keeps owners, attributes
    and set-id bits, and devices are copied too.
    """
    asked = copypaths.on_host(destination)
    _check_output(asked)
    with RootView.of(container, writable=False) as view, ExitStack() as opened:
        found, name = _source(view, path, opened, follow_link=follow_link)
        what = Source(name=name, is_directory=found.is_directory)
        placement = copypaths.place(what, _host_destination(asked))
        target = os.open(placement.folder, _O_FOLDER)
        opened.callback(os.close, target)
        rules = CopyRules(is_stripped=not archive)
        with _conflicts_named(placement.folder):
            done, left_out = _through_pipe(
                lambda out, counts: _pack(
                    view, found, out, placement.name, counts, with_holes=True
                ),
                lambda stream: unpack_copy(
                    stream,
                    target,
                    rules,
                    is_rootless=not archive or os.geteuid() != 0,
                    progress=progress,
                ),
            )
    return Copied(bytes=done.size, path=asked, left_out=left_out + done.passed_over)


def pack_path(container: Container, path: str, out: int, *, follow_link: bool = False) -> Copied:
    """Write ``path`` of the container to ``out`` as a tar, named by its last component."""
    with RootView.of(container, writable=False) as view, ExitStack() as opened:
        found, name = _source(view, path, opened, follow_link=follow_link)
        counts = Progress()
        with faults_as_errors(out):
            packed = watched(lambda: _pack(view, found, out, name, counts), counts, None)
        return Copied(bytes=counts.read, path=path, left_out=packed)


def stream_path(container: Container, path: str, *, follow_link: bool = False) -> Iterator[bytes]:
    """The same tar in pieces of at most `CHUNK_BYTES`; leaving it early ends the work."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            pack_path(container, path, writer, follow_link=follow_link)
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(writer)

    thread = Thread(target=work, name="pack")
    thread.start()
    try:
        while chunk := os.read(reader, CHUNK_BYTES):
            yield chunk
    finally:
        os.close(reader)
        thread.join()
    if failed:
        raise failed[0]


def unpack_into(
    container: Container,
    path: str,
    source: int | Iterable[bytes],
    *,
    owner: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Copied:
    """Unpack the tar in ``source``, a descriptor or pieces of it, into the directory ``path``.

    It may be compressed.  Files belong to the ids in the tar, or all to ``owner``.
    """

    def write_side(out: int, counts: Progress) -> int:
        if isinstance(source, int):
            return _relay(source, out, counts)
        for piece in source:
            _write_all(out, piece)
        return 0

    with RootView.of(container, writable=True) as view, ExitStack() as opened:
        destination = _destination(view, path)
        if not destination.is_directory:
            raise UsageError(f'destination "{container.name}:{path}" must be a directory')
        target = _open_target(view, destination.path, opened)
        done, _ = _through_pipe(
            write_side,
            lambda stream: _unpack(view, stream, target, destination.path, owner, progress),
        )
    return Copied(bytes=done.size, path=destination.path, left_out=done.passed_over)


def export(container: Container, out: int) -> Copied:
    """Write the whole root to ``out`` as a tar; what is mounted in it is an empty place."""
    with RootView.of(container, writable=False, with_mounts=False) as view:
        counts = Progress()
        with faults_as_errors(out):
            packed = watched(
                lambda: pack(
                    view.fd,
                    out,
                    is_one_mount=True,
                    uids=view.uids,
                    gids=view.gids,
                    progress=counts,
                ),
                counts,
                None,
            )
    return Copied(bytes=packed.bytes, path="/", left_out=packed.passed_over)


def read(container: Container, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """The content of one regular file, links followed; `UsageError` when there is more."""
    with RootView.of(container, writable=False) as view:
        fd = _open_regular(view, path)
        try:
            pieces, left = [], max_bytes + 1
            while left > 0 and (piece := os.read(fd, min(left, CHUNK_BYTES))):
                pieces.append(piece)
                left -= len(piece)
        finally:
            os.close(fd)
    if left <= 0:
        raise UsageError(f"{path} in container {container.name} has more than {max_bytes} bytes")
    return b"".join(pieces)


def write(
    container: Container,
    path: str,
    data: bytes,
    *,
    mode: int = 0o644,
    owner: tuple[int, int] = _ROOT,
) -> None:
    """Make or replace one file; its directory has to be there, and a link is followed."""
    if copypaths.says_directory(path):
        raise UsageError(f"{path} is not the path of a file")
    with RootView.of(container, writable=True) as view, ExitStack() as opened:
        destination = _destination(view, path)
        what = Source(name="file", is_directory=False)
        if destination.is_directory:
            raise PathConflict(
                destination.path,
                folder=copypaths.split_entry(destination.path)[0],
                is_directory=True,
            )
        placement = copypaths.place(what, destination)
        target = _open_target(view, placement.folder, opened)
        _through_pipe(
            lambda out, _counts: _write_file(out, placement.name, data, mode),
            lambda stream: _unpack(view, stream, target, placement.folder, owner),
        )


def _write_file(out: int, name: str, data: bytes, mode: int) -> int:
    # Cold: nothing else of a copy is written in Python.
    import tarfile
    import time

    head = tarfile.TarInfo(name)
    head.size, head.mode, head.mtime = len(data), mode & 0o7777, int(time.time())
    with open(out, "wb", closefd=False) as file:
        file.write(head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        file.write(data)
        file.write(bytes(-len(data) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
    return 0


# Paths of the container


def _missing(view: RootView, path: str) -> NotFound:
    container = view.container
    return NotFound(f"Could not find the file {path} in container {container.name}", name=path)


def _find(view: RootView, path: str, opened: ExitStack) -> _Found:
    """The entry itself: links are followed on the way to it, and in a path that ends in ``/``."""
    before, name = copypaths.split_last(path)
    name = "" if name == "." else name
    folder = view.open_folder(before or "/")
    opened.callback(os.close, folder)
    info = os.fstat(folder) if not name else os.lstat(name, dir_fd=folder)
    return _Found(folder=folder, name=name, mode=info.st_mode)


def _source(
    view: RootView, path: str, opened: ExitStack, *, follow_link: bool
) -> tuple[_Found, str]:
    asked = copypaths.in_container(path)
    real = copypaths.follow(asked, view.read_link)[0] if follow_link else asked
    try:
        found = _find(view, real, opened)
    except FileNotFoundError:
        raise _missing(view, path) from None
    except NotADirectoryError:
        raise UsageError(f"{path} in container {view.container.name}: not a directory") from None
    return found, copypaths.last_of(asked)


def _destination(view: RootView, path: str) -> Destination:
    """What is at the path: a link at its end is followed, also to what is not there."""
    real, _ = copypaths.follow(copypaths.in_container(path), view.read_link)
    with ExitStack() as opened:
        try:
            found = _find(view, real, opened)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            return Destination(path=real)
        if not found.is_directory and not stat.S_ISREG(found.mode):
            raise UsageError(
                f'destination "{view.container.name}:{path}" must be a directory or a '
                f"regular file: got a {_KINDS.get(stat.S_IFMT(found.mode), 'device')}"
            )
        return Destination(path=real, exists=True, is_directory=found.is_directory)


_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}


def _open_target(view: RootView, path: str, opened: ExitStack) -> int:
    """The directory that is unpacked into; refused in docker's words if it is read-only."""
    try:
        fd = view.open(path, _O_FOLDER)
    except FileNotFoundError:
        raise _missing(view, path) from None
    except NotADirectoryError:
        raise UsageError("extraction point is not a directory") from None
    opened.callback(os.close, fd)
    container = view.container
    if view.is_root_mount(fd):
        if container.options.read_only:
            raise _read_only(container, "container rootfs is marked read-only")
    elif os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        raise _read_only(container, "mounted volume is marked read-only")
    return fd


def _read_only(container: Container, words: str) -> WrongStatus:
    return WrongStatus(words, container=container.id, status=container.status().word)


def _open_regular(view: RootView, path: str) -> int:
    asked = copypaths.in_container(path)
    try:
        handle = view.open(asked, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(view, path) from None
    try:
        # A device or a fifo is never opened: that alone can have effects.
        if not is_regular(handle):
            raise UsageError(f"{path} in container {view.container.name} is not a regular file")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)


# Paths of this machine


def _host_source(source: str, *, follow_link: bool, opened: ExitStack) -> tuple[Source, int, str]:
    """What it is, its open directory, and its name in it; an empty name is the directory."""
    asked = copypaths.on_host(source)
    before, last = copypaths.split_last(asked)
    if follow_link:
        real = copypaths.keep_end(_real(asked), asked)
    else:
        real = f"{_real(before)}/{last}"
    try:
        info = os.lstat(real)
    except OSError as error:
        raise _no_host_path(real, error) from error
    is_directory = stat.S_ISDIR(info.st_mode)
    folder, name = copypaths.split_entry(real)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    called = copypaths.last_of(asked)
    entry = "" if name in (".", "/") else name
    return Source(name=called, is_directory=is_directory), fd, entry


def _real(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise _no_host_path(str(error.filename or path), error) from error


def _no_host_path(path: str, error: OSError) -> SandboxError:
    words = f"lstat {path}: {(error.strerror or str(error)).lower()}"
    return NotFound(words, name=path) if error.errno == errno.ENOENT else UsageError(words)


def _check_output(path: str) -> None:
    """Docker's check of a destination on this machine, before the container is asked."""
    folder = os.path.dirname(copypaths.clean(path))
    if not os.path.exists(folder):
        raise UsageError(f'invalid output path: directory "{folder}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"stat {path}: {(error.strerror or '').lower()}") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "device")
        raise UsageError(
            f'invalid output path: "{path}" must be a directory or a regular file: got a {kind}'
        )


def _host_destination(path: str) -> Destination:
    def read_link(at: str) -> str | None:
        try:
            return os.readlink(at)
        except OSError:
            return None

    real, _ = copypaths.follow(path, read_link)
    try:
        mode = os.lstat(real).st_mode
    except FileNotFoundError:
        return Destination(path=real)
    except NotADirectoryError:
        raise UsageError("not a directory") from None
    return Destination(path=real, exists=True, is_directory=stat.S_ISDIR(mode))


# Streams


def _entry(name: str) -> bytes | None:
    return os.fsencode(name) if name else None


def _name(name: str) -> bytes:
    # The content of a directory has no entry of its own, and neither has the root.
    return b"" if name in (".", "/") else os.fsencode(name)


def _pack(
    view: RootView,
    found: _Found,
    out: int,
    name: str,
    counts: Progress,
    *,
    with_holes: bool = False,
) -> int:
    return pack(
        found.folder,
        out,
        entry=_entry(found.name),
        name=_name(name),
        with_kernels=False,
        with_holes=with_holes,
        uids=view.uids,
        gids=view.gids,
        progress=counts,
    ).passed_over


def _unpack(
    view: RootView,
    stream: int,
    target: int,
    folder: str,
    owner: tuple[int, int] | None,
    progress: Callable[[int], None] | None = None,
) -> UnpackResult:
    rules = CopyRules(owner=owner, uids=view.uids, gids=view.gids)
    with _conflicts_named(folder):
        return unpack_copy(stream, target, rules, is_rootless=os.geteuid() != 0, progress=progress)


@contextmanager
def _conflicts_named(folder: str) -> Iterator[None]:
    try:
        yield
    except PathConflict as conflict:
        path = f"{folder.rstrip('/')}/{conflict.path}"
        raise PathConflict(path, folder=folder, is_directory=conflict.is_directory) from None


def _through_pipe(
    write_side: Callable[[int, Progress], int], read_side: Callable[[int], UnpackResult]
) -> tuple[UnpackResult, int]:
    """One side writes an archive, the other unpacks it; what the first left out is handed on.

    The error is that of the side that failed, not that of the other one for want of it.
    """
    counts = Progress()
    left_out: list[int] = []
    failed: list[BaseException] = []
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def work() -> None:
        try:
            with faults_as_errors(writer):
                left_out.append(write_side(writer, counts))
        except BaseException as error:
            failed.append(error)
        finally:
            os.close(writer)

    thread = Thread(target=work, name="pack")
    thread.start()
    try:
        try:
            result = read_side(reader)
        finally:
            counts.cancel()
            os.close(reader)
            thread.join()
    except SandboxError:
        if failed and not _is_consequence(failed[0]):
            raise failed[0] from None
        raise
    if failed:
        raise failed[0]
    return result, left_out[0]


def _is_consequence(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ECANCELED)


def _relay(source: int, out: int, counts: Progress) -> int:
    """Hand a stream on, without being stuck in it when nobody wants it any more."""
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    while not counts.is_cancelled:
        if not waiting.poll(_POLL_MS):
            continue
        try:
            moved = os.splice(source, out, CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Not every file can be spliced.
            moved = _write_all(out, os.read(source, CHUNK_BYTES))
        if moved == 0:
            break
    return 0


def _write_all(out: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
    return len(data)
