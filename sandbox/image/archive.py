"""Load image archives: ``docker save`` archives, OCI archives and OCI layout folders.

An archive may be compressed as a whole, and may come through a pipe.  From a plain
tar in a regular file only what is needed is read; anything else is read once, its
members kept in staging until the documents say what they are.
"""

from __future__ import annotations

import os
from functools import partial

from .. import jsontext
from ..errors import DamagedArchive, InvalidReference
from ..oci import digest as digests
from ..oci import imageconfig, reference
from ..record import Record
from . import layout
from .ingest import LayerInput, ingest
from .sources import FolderSource, SpooledSource, TarSource
from .staging import Staging, full_store
from .streams import (
    DecompressedStream,
    FileStream,
    compression,
    inflate_into,
    is_seekable,
    opened,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json
    from ..oci.reference import Reference
    from .ingest import Progress
    from .sources import Source
    from .store import ImageStore

MANIFEST = "manifest.json"
MAX_MANIFEST = 4 << 20
MAX_IMAGES = 1000


class Loaded(Record):
    """One image that was loaded; ``names`` as docker shows them, perhaps none."""

    names: tuple[str, ...]
    image_id: str


def load(
    store: ImageStore, source: int | str, *, progress: Progress | None = None
) -> tuple[Loaded, ...]:
    """Load every image of an archive, given as a descriptor (borrowed) or a path.

    Images are taken in one by one, each whole or not at all; an error ends the load.
    """
    if isinstance(source, int):
        return _load_stream(store, source, progress)
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = (os.strerror(error.errno or 0)).lower()
        raise DamagedArchive(f"open {source}: {reason}") from error
    try:
        if os.path.isdir(source):
            folder = FolderSource(source)
            try:
                return _load_source(store, folder, progress)
            finally:
                folder.close()
        return _load_stream(store, fd, progress)
    finally:
        os.close(fd)


def _load_stream(store: ImageStore, fd: int, progress: Progress | None) -> tuple[Loaded, ...]:
    start, stream = opened(fd)
    kind = compression(start)
    if not kind and is_seekable(fd):
        return _load_source(store, TarSource(fd, stream), progress)
    store.make_folders()
    with full_store(store.paths.root), Staging.create(store.paths.staging) as staging:
        if kind in ("gzip", "zstd"):
            tar = os.open(f"{staging.path}/tar", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                inflate_into(stream, tar, kind)
                return _load_source(store, TarSource(tar, FileStream(tar)), progress)
            finally:
                os.close(tar)
        unpacked = DecompressedStream(stream, kind) if kind else stream
        return _load_source(store, SpooledSource(unpacked, staging.path), progress)


def _load_source(
    store: ImageStore, source: Source, progress: Progress | None
) -> tuple[Loaded, ...]:
    if source.has(layout.MARKER) and source.has(layout.INDEX):
        return _load_layout(store, source, progress)
    if source.has(MANIFEST):
        return _load_docker(store, source, progress)
    raise DamagedArchive(
        f"neither {MANIFEST} nor {layout.MARKER} is there: not an image archive",
        hint="a root file system in a tar is brought in by `sandbox import`",
    )


def _load_layout(
    store: ImageStore, source: Source, progress: Progress | None
) -> tuple[Loaded, ...]:
    loaded = []
    named = _docker_names(source)
    for image in layout.images(source):
        config = layout.document(source, image.manifest.config, limit=imageconfig.MAX_BYTES)
        image_id = image.manifest.config.digest
        names = image.names or named.get(image_id, ())
        ingest(
            store,
            config,
            [
                LayerInput(
                    open=partial(layout.blob, source, layer),
                    digest=layer.digest,
                    size=layer.size,
                    media_type=layer.media_type,
                )
                for layer in image.manifest.layers
            ],
            names=names,
            manifest=image.content,
            manifest_media_type=image.manifest.media_type,
            progress=progress,
        )
        loaded.append(_loaded(image_id, names))
    return tuple(loaded)


def _load_docker(
    store: ImageStore, source: Source, progress: Progress | None
) -> tuple[Loaded, ...]:
    loaded = []
    for item in _docker_items(source):
        with source.open(item.config) as part:
            config = part.content(limit=imageconfig.MAX_BYTES)
        _check_config_name(item.config, config)
        image_id = ingest(
            store,
            config,
            [LayerInput(open=partial(source.open, name)) for name in item.layers],
            names=item.names,
            progress=progress,
        )
        loaded.append(_loaded(image_id, item.names))
    return tuple(loaded)


class _DockerItem(Record):
    """One image of ``manifest.json``."""

    config: str
    names: tuple[Reference, ...]
    layers: tuple[str, ...]


def _docker_items(source: Source) -> tuple[_DockerItem, ...]:
    with source.open(MANIFEST) as part:
        content = part.content(limit=MAX_MANIFEST)
    value = jsontext.decode(content, what=MANIFEST, max_bytes=MAX_MANIFEST)
    if not isinstance(value, list) or not value or len(value) > MAX_IMAGES:
        raise DamagedArchive(f"{MANIFEST} is not a list of images")
    return tuple(_docker_item(item) for item in value)


def _docker_item(value: Json) -> _DockerItem:
    if not isinstance(value, dict):
        raise DamagedArchive(f"{MANIFEST}: an image is not an object")
    config = value.get("Config")
    if not isinstance(config, str) or not config:
        raise DamagedArchive(f"{MANIFEST}: Config is not a name")
    names = []
    for text in _texts(value, "RepoTags"):
        try:
            names.append(reference.parse_name(text))
        except InvalidReference as error:
            raise DamagedArchive(f"{MANIFEST}: {error} ({text!r})") from error
    return _DockerItem(config=config, names=tuple(names), layers=_texts(value, "Layers"))


def _texts(value: dict[str, Json], key: str) -> tuple[str, ...]:
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise DamagedArchive(f"{MANIFEST}: {key} is not a list of strings")
    made = []
    for text in found:
        if not isinstance(text, str):
            raise DamagedArchive(f"{MANIFEST}: {key} is not a list of strings")
        made.append(text)
    return tuple(made)


def _docker_names(source: Source) -> dict[str, tuple[Reference, ...]]:
    # A recent `docker save` writes both kinds at once, and some tools put the names in
    # the older one only.
    if not source.has(MANIFEST):
        return {}
    named = {}
    for item in _docker_items(source):
        stem = item.config.rpartition("/")[2].removesuffix(".json")
        if digests.is_hex(stem):
            named[f"sha256:{stem}"] = item.names
    return named


def _check_config_name(name: str, content: bytes) -> None:
    stem = name.rpartition("/")[2].removesuffix(".json")
    if digests.is_hex(stem):
        digests.verify(content, f"sha256:{stem}", what=name)


def _loaded(image_id: str, names: tuple[Reference, ...]) -> Loaded:
    return Loaded(names=tuple(name.familiar for name in names), image_id=image_id)
