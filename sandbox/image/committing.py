"""Make an image of another one and a layer above it: ``docker commit``.

The layer's bytes follow from its content alone: the tar is the packer's, and the gzip
header has neither name nor time.  An empty layer is none, as docker's: the image then
differs in its config and history only.
"""

from __future__ import annotations

import hashlib
import os
import zlib

from ..errors import ImageError
from ..layer.unpack import Bounds
from ..oci import imageconfig
from ..oci.imageconfig import History
from ..record import replace
from .importing import now
from .ingest import LayerInput, ingest
from .sources import Part
from .staging import Staging, full_store
from .streams import CHUNK, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..oci.imageconfig import ImageConfig
    from ..oci.reference import Reference
    from .ingest import Progress
    from .store import Image, ImageStore

# docker's: an image of more layers would not run there.
MAX_LAYERS = 125
# Half as fast as 1 and a tenth smaller; higher ones take twice as long for little more.
_LEVEL = 4


def commit_layer(
    store: ImageStore,
    parent: Image,
    write_layer: Callable[[int], bool],
    *,
    config: ImageConfig,
    names: Sequence[Reference] = (),
    author: str = "",
    message: str = "",
    created_by: str = "",
    progress: Progress | None = None,
) -> str:
    """Make the image and name it; its id.

    ``write_layer`` writes the layer's tar to a descriptor, and says whether there is
    anything in it.  Raises what `ingest` raises, and `ImageError` when there would be
    too many layers; then nothing has changed.
    """
    store.make_folders()
    store.sweep_staging()
    document = imageconfig.parse(store.read_blob(parent.id), what=f"image {parent.id}")
    layers = [
        replace(
            _input(store.blob_path(layer.digest)),
            digest=layer.digest,
            size=layer.size,
            media_type=layer.media_type,
        )
        for layer in parent.layer_records
    ]
    if len(layers) >= MAX_LAYERS:
        raise ImageError("max depth exceeded", hint="export the container and import it again")
    with full_store(store.paths.root), Staging.create(store.paths.staging) as staging:
        path = f"{staging.path}/tar"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        diff_ids = document.diff_ids
        try:
            is_empty = not write_layer(fd)
            if not is_empty:
                diff_id, packed = _compress(fd, f"{staging.path}/gzip")
                diff_ids = (*diff_ids, diff_id)
                layers.append(_input(_kept_of(path, packed)))
        finally:
            os.close(fd)
        created = now()
        step = History(
            created=created,
            created_by=created_by,
            comment=message,
            author=author,
            empty_layer=is_empty,
        )
        made = replace(
            document,
            created=created,
            author=author,
            config=config,
            diff_ids=diff_ids,
            history=(*document.history, step),
        )
        return ingest(store, made.encode(), layers, names=names, progress=progress)


def _compress(fd: int, path: str) -> tuple[str, str]:
    """The DiffID of a tar, and the path of the same tar compressed."""
    plain = hashlib.sha256()
    # wbits 31 writes a gzip header without a name or a time.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while part := os.pread(fd, CHUNK, at):
            at += len(part)
            plain.update(part)
            write_all(out, packer.compress(part))
        write_all(out, packer.flush())
    finally:
        os.close(out)
    return f"sha256:{plain.hexdigest()}", path


def _kept_of(tar: str, packed: str) -> str:
    """Which of the two the layer's blob becomes; the other one goes."""
    bounds = Bounds()
    plain, small = os.stat(tar).st_size, os.stat(packed).st_size
    # Gigabytes of zeros become so little that whoever unpacks them takes them for a bomb.
    is_bomb = plain > bounds.ratio_floor_bytes and plain > small * bounds.max_ratio
    kept, other = (tar, packed) if is_bomb else (packed, tar)
    os.unlink(other)
    return kept


def _input(path: str) -> LayerInput:
    def part() -> Part:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return Part("layer", fd, start=0, size=os.fstat(fd).st_size)

    return LayerInput(open=part)
