"""Take an image into the store: all of it, verified, or nothing.

Blobs and layers are made in a staging folder.  Only when every digest, size and
DiffID is what the documents say are they renamed into the store, blobs and layers
first, then the image's document, then its names.  What goes wrong before that
costs the staging folder; what dies in between is taken back by the next sweep.

Layers are unpacked by two threads: the native unpacker gives up the interpreter's
lock, and more threads than two have no more to win on one disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

from .. import jsontext
from ..errors import DamagedArchive, DigestMismatch, ImageNotFound, StoreError
from ..layer.chain import chain_id
from ..layer.compression import inflate
from ..layer.unpack import unpack_layer
from ..layer.whiteout import OPAQUE_XATTR, OPAQUE_XATTR_ROOTLESS
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci import imageconfig
from ..oci.descriptor import Descriptor
from ..oci.manifest import Manifest
from ..paths import Paths
from ..record import Record, replace
from .flow import together
from .implied import settle_implied
from .staging import Staging, Turn, full_store, spread
from .store import (
    VERSION,
    Image,
    ImageStore,
    Layer,
    blobs_of,
    image_document,
    rename_name,
    stage_name,
    sync_folder,
)
from .streams import MAGIC_LENGTH, compression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from ..jsontext import Json
    from ..oci.imageconfig import ImageDocument
    from ..oci.reference import Reference
    from .sources import Part

    Progress = Callable[[str, int, int], None]

    class Open(Protocol):
        """Opens one layer's bytes, as often as they are needed."""

        def __call__(self) -> Part:
            """The bytes, which the caller closes."""


THREADS = 2
WRITE_BACK_INTERVAL_S = 0.15


class LayerInput(Record):
    """One layer to be taken in.  ``digest`` is empty and ``size`` -1 where nobody stated them."""

    open: Open
    digest: str = ""
    size: int = -1
    media_type: str = descriptors.OCI_LAYER


class _Staged(Record):
    """A layer that is ready in staging, or in the store already (``folder`` empty)."""

    layer: Layer
    folder: str
    blob: str
    implied: tuple[str, ...] = ()


def ingest(
    store: ImageStore,
    config: bytes | Callable[[tuple[str, ...]], bytes],
    layers: Sequence[LayerInput],
    *,
    names: Sequence[Reference] = (),
    manifest: bytes = b"",
    manifest_media_type: str = descriptors.OCI_MANIFEST,
    progress: Progress | None = None,
    threads: int = THREADS,
    cancel: Callable[[], None] | None = None,
) -> str:
    """Take in one image and name it; its id.

    ``config`` is the document, or makes it from the DiffIDs, once those are known.
    ``manifest`` is kept as it came; where there is none, one is made.  Raises
    `DigestMismatch`, `DamagedArchive`, `DamagedDocument` or `StoreFull`, and has then
    changed nothing.  ``cancel`` is called when other layers need not go on.
    """
    if isinstance(config, bytes):
        stated = imageconfig.parse(config).diff_ids
        if len(stated) != len(layers):
            raise DamagedArchive(
                f"invalid manifest, layers length mismatch: expected {len(stated)}, "
                f"got {len(layers)}"
            )
        turn = digests.hex_of(digests.of_bytes(config))
    else:
        turn = os.urandom(32).hex()
    store.make_folders()
    spread(store.paths.staging)
    store.sweep_staging()  # a dead one's half image may be the space that is missing
    with full_store(store.paths.root):
        try:
            with (
                store.locked(shared=True),
                Staging.create(store.paths.staging) as staging,
                Turn(store.paths.staging, turn),
            ):
                work = _Ingest(store, staging, progress, threads, cancel)
                image_id = work.take(config, layers, names, manifest, manifest_media_type)
        except BaseException:
            # What a commit that failed half-way left behind.
            store.sweep_staging()
            raise
    if work.has_replaced:
        store.sweep_staging()
    return image_id


def unpack_anew(
    image: Image, layers: Sequence[LayerInput], staging: Staging, *, threads: int = THREADS
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Unpack all layers of an image into staging, verified, and take nothing in.

    Returns their trees, each with its implied folders (see ``implied``).
    """
    # A store that has nothing, so that nothing is taken for known.
    nothing = ImageStore(Paths(root=f"{staging.path}/nothing", run=staging.path))
    work = _Ingest(nothing, staging, None, threads, None)
    staged = work._stage_all(layers, tuple(layer.diff_id for layer in image.layer_records))
    return tuple((f"{item.folder}/tree", item.implied) for item in staged)


class _Ingest:
    """One image on its way in."""

    def __init__(
        self,
        store: ImageStore,
        staging: Staging,
        progress: Progress | None,
        threads: int,
        cancel: Callable[[], None] | None,
    ) -> None:
        self.store = store
        self.staging = staging
        self._threads = threads
        self._cancel = cancel
        self._progress = progress
        self._is_cancelled = False
        self.has_replaced = False

    def take(
        self,
        config: bytes | Callable[[tuple[str, ...]], bytes],
        layers: Sequence[LayerInput],
        names: Sequence[Reference],
        manifest: bytes,
        manifest_media_type: str,
    ) -> str:
        """Stage and commit, unless the whole image is there already; its id."""
        if isinstance(config, bytes):
            image_id = digests.of_bytes(config)
            if _is_whole(self.store, image_id, manifest):
                for name in names:
                    rename_name(self.store, stage_name(self.staging, name, image_id), name)
                if self.store.holds(image_id):
                    return image_id
            staged = self._stage_all(layers, imageconfig.parse(config).diff_ids)
        else:
            staged = self._stage_all(layers, ("",) * len(layers))
            config = config(tuple(item.layer.diff_id for item in staged))
            image_id = digests.of_bytes(config)
        if not manifest:
            manifest = _made_manifest(config, image_id, staged)
        document = imageconfig.parse(config)
        image = _image(document, config, image_id, manifest, manifest_media_type, staged)
        self._commit(image, staged, names, config, manifest)
        return image_id

    def _stage_all(
        self, layers: Sequence[LayerInput], diff_ids: Sequence[str]
    ) -> tuple[_Staged, ...]:
        # Copy and unpack what the store does not have, all of it verified.  A DiffID that
        # nobody stated is empty.
        jobs = [
            partial(self._stage, number, layer, diff_id, chain)
            for number, (layer, diff_id, chain) in enumerate(
                zip(layers, diff_ids, _chain_ids(diff_ids), strict=True)
            )
        ]
        with _written_back(self.staging.path):
            staged = together(jobs, threads=self._threads, stop=self._stop)
        staged = _chained(staged)
        settle_implied(
            [
                (
                    f"{item.folder}/tree"
                    if item.folder
                    else self.store.layer_path(item.layer.chain_id),
                    item.implied,
                )
                for item in staged
            ]
        )
        return staged

    def _stop(self) -> None:
        self._is_cancelled = True
        if self._cancel is not None:
            self._cancel()

    def _stage(self, number: int, given: LayerInput, diff_id: str, chain: str) -> _Staged:
        known = _known_layer(self.store, chain, diff_id) if chain else None
        if known is not None and given.digest and self._has_blob(given.digest, given.size):
            return _Staged(
                layer=_layer_of(known, chain, given.digest, given.size, given.media_type),
                folder="",
                blob="",
            )
        blob = f"{self.staging.path}/blob-{number}"
        with given.open() as part:
            if given.size not in (-1, part.size):
                raise DamagedArchive(
                    f"layer {given.digest}: {part.size} bytes, expected {given.size}"
                )
            kind = compression(part.start(MAGIC_LENGTH))
            if kind not in ("", "gzip", "zstd"):
                raise DamagedArchive(f"unsupported layer compression: {kind}")
            fd = os.open(blob, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with part.kept_in(fd) as stream:
                    if known is not None:
                        return self._staged_again(stream, blob, given, known, chain, kind)
                    return self._unpacked(stream, blob, part.size, given, diff_id, chain, kind)
            finally:
                os.close(fd)

    def _staged_again(
        self, fd: int, blob: str, given: LayerInput, known: _Known, chain: str, kind: str
    ) -> _Staged:
        # The tree is here; the blob is not, or not in this compression.  It must still be
        # the same layer: it is what a push or a save would send.
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            found = inflate(fd, null, compression=kind or "none")
        finally:
            os.close(null)
        _same(given.digest, found.digest, what="layer")
        _same(known.diff_id, found.plain_digest, what="layer DiffID")
        layer = _layer_of(known, chain, found.digest, found.size, _media_type(given, kind))
        return _Staged(layer=layer, folder="", blob=blob)

    def _unpacked(
        self,
        fd: int,
        blob: str,
        size: int,
        given: LayerInput,
        diff_id: str,
        chain: str,
        kind: str,
    ) -> _Staged:
        folder = blob.replace("/blob-", "/layer-")
        os.mkdir(folder, 0o700)
        os.mkdir(f"{folder}/tree", 0o755)
        os.chmod(f"{folder}/tree", 0o755)  # noqa: S103 - it becomes "/", whatever the umask
        tree = os.open(f"{folder}/tree", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            rootless = os.geteuid() != 0
            found = unpack_layer(
                fd,
                tree,
                compression=kind or "none",
                expected_size=size,
                progress=lambda done: self._report(given.digest or diff_id, done, size),
                opaque_xattr=OPAQUE_XATTR_ROOTLESS if rootless else OPAQUE_XATTR,
                is_rootless=rootless,
            )
        finally:
            os.close(tree)
        _same(given.digest, found.digest, what="layer")
        _same(diff_id, found.diff_id, what="layer DiffID")
        layer = Layer(
            diff_id=found.diff_id,
            chain_id=chain,
            digest=found.digest,
            size=found.size,
            media_type=_media_type(given, kind),
            unpacked_bytes=found.unpacked_bytes,
        )
        self._report(given.digest or diff_id, size, size)
        return _Staged(layer=layer, folder=folder, blob=blob, implied=tuple(found.implied_dirs))

    def _commit(
        self,
        image: Image,
        staged: Sequence[_Staged],
        names: Sequence[Reference],
        config: bytes,
        manifest: bytes,
    ) -> None:
        store, staging = self.store, self.staging
        blobs = {item.layer.digest: item.blob for item in staged if item.blob}
        blobs[image.id] = staging.write("config", config)
        blobs[image.manifest_digest] = staging.write("manifest", manifest)
        document = staging.write("image", jsontext.encode(image_document(image)))
        new = [item for item in staged if item.folder]
        for item in new:
            self._write_layer_document(item)
        candidates = [f"layer {digests.hex_of(item.layer.chain_id)}" for item in new]
        # The same image may have come before with other blobs: another compression, another
        # manifest.  These take their place.
        old = _blobs_before(store, image.id) - blobs_of(image)
        candidates += [f"blob {digests.hex_of(digest)}" for digest in (*blobs, *sorted(old))]
        named = [(stage_name(staging, name, image.id), name) for name in names]
        staging.propose(candidates)
        _sync_file_system(staging.path)
        try:
            for digest, path in blobs.items():
                os.rename(path, store.blob_path(digest))
            for item in new:
                tree = store.layer_path(item.layer.chain_id)
                _rename_unless_there(item.folder, tree.removesuffix("/tree"))
            for folder in (f"{store.paths.blobs}/sha256", store.paths.layers):
                sync_folder(folder)
            os.rename(document, store.id_path(image.id))
            sync_folder(f"{store.paths.images}/ids")
            for path, name in named:
                rename_name(store, path, name)
        except BaseException:
            # Others may have found what is there already: the sweep weighs it when
            # nobody is loading.
            staging.leave()
            raise
        if old:
            self.has_replaced = True
            staging.leave()

    def _write_layer_document(self, item: _Staged) -> None:
        layer = item.layer
        document: Json = {
            "version": VERSION,
            "diffId": layer.diff_id,
            "chainId": layer.chain_id,
            "unpackedBytes": layer.unpacked_bytes,
        }
        folder = item.folder.rpartition("/")[2]
        self.staging.write(f"{folder}/layer.json", jsontext.encode(document))

    def _has_blob(self, digest: str, size: int) -> bool:
        try:
            status = os.stat(self.store.blob_path(digest))
        except FileNotFoundError:
            return False
        return size in (-1, status.st_size)

    def _report(self, what: str, done: int, total: int) -> None:
        # Called some ten times a second by each layer's thread; what it raises stops it.
        if self._is_cancelled:
            raise _Cancelled
        if self._progress is not None:
            self._progress(what, done, total)


class _Cancelled(Exception):
    """Another layer failed, or the caller was interrupted: nobody sees this one."""


def _is_whole(store: ImageStore, image_id: str, manifest: bytes) -> bool:
    image = _before(store, image_id)
    if image is None or (manifest and digests.of_bytes(manifest) != image.manifest_digest):
        return False
    return all(os.path.exists(store.blob_path(digest)) for digest in blobs_of(image))


def _before(store: ImageStore, image_id: str) -> Image | None:
    if not store.has(image_id):
        return None
    try:
        return store.resolve(image_id, all_names=False)
    except (ImageNotFound, StoreError):
        return None  # damaged: taking it in again mends it


def _blobs_before(store: ImageStore, image_id: str) -> set[str]:
    image = _before(store, image_id)
    return set() if image is None else blobs_of(image)


class _Known(Record):
    """What ``layer.json`` says of a layer in the store."""

    diff_id: str
    unpacked_bytes: int


def _known_layer(store: ImageStore, chain: str, diff_id: str) -> _Known | None:
    path = store.layer_path(chain).removesuffix("tree") + "layer.json"
    try:
        with open(path, "rb") as file:
            value = jsontext.decode(file.read(1 << 16), what=path)
    except FileNotFoundError:
        return None
    if not isinstance(value, dict) or value.get("diffId") != diff_id:
        raise StoreError(f"{path} is not of the layer {chain}")
    size = value.get("unpackedBytes")
    return _Known(diff_id=diff_id, unpacked_bytes=size if isinstance(size, int) else 0)


def _layer_of(known: _Known, chain: str, digest: str, size: int, media_type: str) -> Layer:
    return Layer(
        diff_id=known.diff_id,
        chain_id=chain,
        digest=digest,
        size=size,
        media_type=media_type,
        unpacked_bytes=known.unpacked_bytes,
    )


def _media_type(given: LayerInput, kind: str) -> str:
    # Where nobody stated a digest, nobody stated a media type either.
    if given.digest:
        return given.media_type
    return f"{descriptors.OCI_LAYER}+{kind}" if kind else descriptors.OCI_LAYER


def _chain_ids(diff_ids: Sequence[str]) -> list[str]:
    # Empty from the first DiffID on that is not known.
    chain_ids: list[str] = []
    for diff_id in diff_ids:
        parent = chain_ids[-1] if chain_ids else ""
        known = diff_id and (parent or not chain_ids)
        chain_ids.append(chain_id(parent, diff_id) if known else "")
    return chain_ids


def _chained(staged: Sequence[_Staged]) -> tuple[_Staged, ...]:
    chain_ids = _chain_ids([item.layer.diff_id for item in staged])
    return tuple(
        replace(item, layer=replace(item.layer, chain_id=chain))
        for item, chain in zip(staged, chain_ids, strict=True)
    )


def _made_manifest(config: bytes, image_id: str, staged: Sequence[_Staged]) -> bytes:
    return Manifest(
        media_type=descriptors.OCI_MANIFEST,
        config=Descriptor(media_type=descriptors.OCI_CONFIG, digest=image_id, size=len(config)),
        layers=tuple(
            Descriptor(
                media_type=item.layer.media_type, digest=item.layer.digest, size=item.layer.size
            )
            for item in staged
        ),
    ).encode()


def _image(
    document: ImageDocument,
    config: bytes,
    image_id: str,
    manifest: bytes,
    manifest_media_type: str,
    staged: Sequence[_Staged],
) -> Image:
    layers = tuple(item.layer for item in staged)
    return Image(
        id=image_id,
        names=(),
        digests=(),
        config=document.config,
        layers=(),
        created=document.created,
        size=sum(layer.unpacked_bytes for layer in layers),
        architecture=document.architecture,
        os=document.os,
        variant=document.variant,
        manifest_digest=digests.of_bytes(manifest),
        manifest_size=len(manifest),
        manifest_media_type=manifest_media_type,
        config_size=len(config),
        layer_records=layers,
    )


def _same(expected: str, actual: str, *, what: str) -> None:
    if expected and expected != actual:
        raise DigestMismatch(what=what, expected=expected, actual=actual)


def _rename_unless_there(folder: str, target: str) -> None:
    try:
        os.rename(folder, target)
    except OSError as error:
        # Another image brought the same layer meanwhile; ours goes with the staging folder.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


@contextmanager
def _written_back(path: str) -> Iterator[None]:
    # What is unpacked goes to the disk while the rest is, not all of it at the end.
    over = Event()

    def write_back() -> None:
        while not over.wait(WRITE_BACK_INTERVAL_S):
            try:
                _sync_file_system(path)
            except OSError:
                return  # the sync before the commit says it

    thread = Thread(target=write_back, name="write back")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sync_file_system(path: str) -> None:
    # One syncfs for some ten thousand files, where an fsync each would take minutes.
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
