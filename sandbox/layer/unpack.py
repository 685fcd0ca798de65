"""A layer's bytes become a tree.

The work is in C (``native/unpack.c``, which also says how names are resolved and
what is refused): inflate, verify, and create by handle, with the interpreter's lock
released, so layers in several threads use several cores.  Nothing outside the target
is ever changed.  After an error the target holds half a tree, which is the caller's
to remove: unpack into a staging folder and rename.

Out of scope: comparing digests with what was expected, syncing, and the owner and
mode of directories that the layer uses without listing them (``implied_dirs``).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from threading import Thread

from .. import native
from ..errors import DamagedArchive, PathConflict, StoreFull, UnsafeArchive
from ..native import remove_tree
from ..record import Record
from .whiteout import OPAQUE_XATTR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, TypeVar

    Result = TypeVar("Result")

__all__ = ["Bounds", "UnpackResult", "remove_tree", "unpack_layer"]

_WATCH_INTERVAL_S = 0.1


class Bounds(Record):
    """What an archive may ask for before it is refused as `UnsafeArchive`."""

    max_entries: int = 2_000_000
    max_unpacked_bytes: int = 256 << 30  # of the tar, and of the files with their holes
    max_ratio: int = 200  # inflated to compressed bytes, checked beyond ratio_floor_bytes
    ratio_floor_bytes: int = 512 << 20
    max_path_bytes: int = 4095  # PATH_MAX with its NUL; a component has 255 at most
    max_pax_bytes: int = 1 << 20
    max_xattr_bytes: int = 65536  # XATTR_SIZE_MAX
    max_sparse_segments: int = 262_144

    def stream(self) -> native.StreamBounds:
        """The part that the inflater needs."""
        return native.StreamBounds(
            max_bytes=self.max_unpacked_bytes,
            max_ratio=self.max_ratio,
            ratio_floor=self.ratio_floor_bytes,
        )

    def tar(self) -> native.TarBounds:
        """The part that the archive's reader needs."""
        return native.TarBounds(
            max_entries=self.max_entries,
            max_path=self.max_path_bytes,
            max_pax=self.max_pax_bytes,
            max_xattr=self.max_xattr_bytes,
            max_segments=self.max_sparse_segments,
        )


class UnpackResult(Record):
    """A layer that is a tree now.

    ``digest`` and ``size`` are those of the bytes as they came, ``diff_id`` and
    ``tar_bytes`` those of the tar inside; ``unpacked_bytes`` is the content of its
    regular files.  ``implied_dirs`` were made for entries whose directory the layer
    does not list (0755, root's), with "" for the root: in a stack, a lower layer may know better.
    ``passed_over`` counts devices and attributes that this host or user cannot have.
    """

    digest: str
    size: int
    diff_id: str
    tar_bytes: int
    compression: str
    unpacked_bytes: int
    entries: int
    implied_dirs: tuple[str, ...]
    passed_over: int


def unpack_layer(
    fd: int,
    target_dir_fd: int,
    *,
    compression: str | None = None,
    expected_size: int | None = None,
    bounds: Bounds | None = None,
    progress: Callable[[int], None] | None = None,
    opaque_xattr: str = OPAQUE_XATTR,
    whiteouts: Literal["overlay", "apply"] = "overlay",
    is_rootless: bool = False,
) -> UnpackResult:
    """Unpack the layer in ``fd`` (a file or a pipe, read to its end) below ``target_dir_fd``.

    Both descriptors are borrowed.  ``compression`` None goes by the first bytes.
    Whiteouts become overlayfs' marks, or are applied to what the target holds; a folder
    of which nothing below shows is marked with ``opaque_xattr``.
    ``is_rootless`` ignores owners and passes over what only root may make.
    ``progress`` is called with the compressed bytes read so far, from this thread;
    when it raises, the unpacking stops.  Raises `DamagedArchive`, `UnsafeArchive`,
    `StoreFull`, `OSError`.
    """
    bounds = bounds or Bounds()
    counts = native.Progress()
    with faults_as_errors(target_dir_fd):
        done = watched(
            lambda: native.unpack(
                fd,
                target_dir_fd,
                compression=compression,
                expected_size=expected_size,
                stream=bounds.stream(),
                tar=bounds.tar(),
                opaque_xattr=opaque_xattr,
                is_applied=whiteouts == "apply",
                is_rootless=is_rootless,
                progress=counts,
            ),
            counts,
            progress,
        )
    return _result(done)


def _result(done: native.Unpacked) -> UnpackResult:
    return UnpackResult(
        digest=done.sums.digest,
        size=done.sums.size,
        diff_id=done.sums.plain_digest,
        tar_bytes=done.sums.plain_size,
        compression=done.sums.compression,
        unpacked_bytes=done.content_bytes,
        entries=done.entries,
        implied_dirs=done.implied,
        passed_over=done.passed_over,
    )


# A copy is bounded by the disk it goes to: neither side's trees are an image's.
COPY_BOUNDS = Bounds(max_entries=1 << 40, max_unpacked_bytes=1 << 62, max_ratio=1 << 20)


def unpack_copy(
    fd: int,
    target_dir_fd: int,
    rules: native.CopyRules,
    *,
    compression: str | None = None,
    is_rootless: bool = False,
    progress: Callable[[int], None] | None = None,
) -> UnpackResult:
    """Unpack files from the tar in ``fd`` below ``target_dir_fd``, into what is there already.

    The tree may be changed by others meanwhile, who cannot lead it outside of the
    target by that.  Directories are merged; `PathConflict` where one would replace
    what is none, or be replaced by it.  For the rest as `unpack_layer`.
    """
    counts = native.Progress()
    with faults_as_errors(target_dir_fd):
        done = watched(
            lambda: native.unpack(
                fd,
                target_dir_fd,
                compression=compression,
                expected_size=None,
                stream=COPY_BOUNDS.stream(),
                tar=COPY_BOUNDS.tar(),
                opaque_xattr=OPAQUE_XATTR,
                is_applied=False,
                is_rootless=is_rootless,
                progress=counts,
                copy=rules,
            ),
            counts,
            progress,
        )
    return _result(done)


def watched(
    work: Callable[[], Result],
    counts: native.Progress,
    progress: Callable[[int], None] | None,
) -> Result:
    """Do ``work`` in a thread, so that this one can report, and can be interrupted."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="unpack")
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_WATCH_INTERVAL_S)
            if progress is not None:
                progress(counts.read)
    except BaseException:
        counts.cancel()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def faults_as_errors(target_fd: int) -> Iterator[None]:
    """Say in this engine's words what the C said in its own."""
    try:
        yield
    except native.Fault as fault:
        raise _error(fault, target_fd) from fault


def _error(fault: native.Fault, target_fd: int) -> Exception:
    if fault.kind == native.UNSAFE and fault.errno in (errno.EISDIR, errno.ENOTDIR):
        return PathConflict(
            fault.entry.rstrip("/"), folder="", is_directory=fault.errno == errno.EISDIR
        )
    if fault.kind == native.UNSAFE:
        return UnsafeArchive(entry=fault.entry, problem=fault.problem)
    if fault.kind == native.DAMAGED:
        where = f" (in {fault.entry!r})" if fault.entry else ""
        return DamagedArchive(f"damaged archive: {fault.problem}{where}")
    if fault.kind == native.SYSTEM and fault.call == "write" and fault.errno in FULL:
        return StoreFull(path_of(target_fd))
    if fault.kind == native.SYSTEM and fault.errno in FULL and "xattr" not in fault.call:
        return StoreFull(path_of(target_fd))
    return OSError(fault.errno, f"{fault.call}: {os.strerror(fault.errno)}", fault.entry)


FULL = (errno.ENOSPC, errno.EDQUOT)


def path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "the store"
