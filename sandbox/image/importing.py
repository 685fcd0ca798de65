"""Make an image of one layer from a tar of a root file system: ``docker import``."""

from __future__ import annotations

import os
import time

from ..oci import reference
from ..oci.imageconfig import History, ImageConfig, ImageDocument
from . import changes as config_changes
from . import layout
from .ingest import LayerInput, ingest
from .sources import Part
from .staging import Staging, full_store
from .streams import CHUNK, DecompressedStream, FileStream, compression, opened, write_all
from .tarmembers import members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ingest import Progress
    from .store import ImageStore


def import_rootfs(
    store: ImageStore,
    fd: int,
    name: str = "",
    *,
    changes: Iterable[str] = (),
    message: str = "",
    progress: Progress | None = None,
) -> str:
    """Make an image of the tar read from ``fd`` (borrowed), and name it if there is a name.

    The tar may be compressed.  ``changes`` are Dockerfile instructions; ``message``
    becomes the comment.  Returns the image's id.
    """
    named = (reference.parse_name(name),) if name else ()
    config = config_changes.apply(ImageConfig(), changes)
    comment = message or "Imported from -"
    created = now()
    system, architecture, variant = layout.host_platform()

    def document(diff_ids: tuple[str, ...]) -> bytes:
        return ImageDocument(
            architecture=architecture,
            os=system,
            variant=variant,
            created=created,
            config=config,
            diff_ids=diff_ids,
            history=(History(created=created, comment=comment),),
        ).encode()

    store.make_folders()
    with full_store(store.paths.root), Staging.create(store.paths.staging) as staging:
        path = f"{staging.path}/rootfs"
        _keep(fd, path)
        _check_start(path)
        return ingest(
            store,
            document,
            [LayerInput(open=lambda: _part(path))],
            names=named,
            progress=progress,
        )


def _keep(fd: int, path: str) -> None:
    # As it comes, if a layer may come so; bzip2 and xz no layer may be.
    start, stream = opened(fd)
    kind = compression(start)
    source = DecompressedStream(stream, kind) if kind in ("bzip2", "xz") else stream
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while part := source.read(CHUNK):
            write_all(out, part)
    finally:
        os.close(out)


def _check_start(path: str) -> None:
    # What is no tar at all is said in docker's words, before anything is unpacked.
    with _part(path) as part:
        kind = compression(part.start(6))
        if kind not in ("", "gzip"):
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            stream = FileStream(fd)
            next(members(DecompressedStream(stream, kind) if kind else stream), None)
        finally:
            os.close(fd)


def _part(path: str) -> Part:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return Part("layer", fd, start=0, size=os.fstat(fd).st_size)


def now() -> str:
    """This moment, as image documents have it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"
