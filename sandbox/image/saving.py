"""Save images as one archive that both kinds of readers take: OCI's and docker's.

    oci-layout, index.json     the OCI image layout: each name with its manifest
    blobs/sha256/<hex>         manifests, configs and layers, byte for byte as they came
    manifest.json              docker's list of images: config, names and layers, by the same files

So every digest survives.  What is in the archive depends on the images alone: the order is
that of the names of its files, and its times are 0.

Sources: OCI image-spec v1.1, image-layout.md; docker's image specification v1.3.
"""

from __future__ import annotations

import io
import os
import tarfile

from .. import jsontext
from ..errors import ImageNotFound, InvalidReference
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci import reference
from ..oci.descriptor import Descriptor, Platform
from ..oci.manifest import Index
from ..record import Record
from . import layout
from .store import blobs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from ..oci.reference import Reference
    from .store import Image, ImageStore

    Progress = Callable[[str, int, int], None]


class Chosen(Record):
    """An image, and the names that it is saved with."""

    image: Image
    names: tuple[Reference, ...]


def save(
    store: ImageStore,
    names: Iterable[str],
    out: BinaryIO,
    *,
    progress: Progress | None = None,
) -> tuple[Chosen, ...]:
    """Write the images of these names, ids or repositories (all of their tags).

    Raises `ImageNotFound` before a byte is written.
    """
    # Shared, as by those who load: nobody removes what is being read.
    with store.locked(shared=True):
        chosen = choose(store, names)
        blobs = sorted({digest for each in chosen for digest in blobs_of(each.image)})
        index = Index(
            media_type=descriptors.OCI_INDEX,
            manifests=tuple(item for each in chosen for item in _descriptors(each)),
        )
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add_folder(tar, "blobs")
            _add_folder(tar, "blobs/sha256")
            for digest in blobs:
                _add_blob(tar, store, digest, progress)
            _add(tar, layout.INDEX, index.encode())
            _add(tar, "manifest.json", jsontext.encode([_docker(each) for each in chosen]))
            _add(tar, layout.MARKER, jsontext.encode({"imageLayoutVersion": "1.0.0"}))
    return chosen


def choose(store: ImageStore, names: Iterable[str]) -> tuple[Chosen, ...]:
    """What the arguments mean, each image once, in the order in which they name it."""
    found: dict[str, list[Reference]] = {}
    for text in names:
        image_id, tagged = _meant(store, text)
        for each, name in tagged:
            known = found.setdefault(each, [])
            if name not in known:
                known.append(name)
        if image_id:
            found.setdefault(image_id, [])
    return tuple(
        Chosen(image=store.resolve(image_id), names=tuple(tagged))
        for image_id, tagged in found.items()
    )


def _meant(store: ImageStore, text: str) -> tuple[str, list[tuple[str, Reference]]]:
    """An image without a name, or names and whose they are."""
    try:
        parsed = reference.parse(text)
    except InvalidReference:
        parsed = None
    if parsed is not None and not parsed.digest:
        whole = text.rpartition("/")[2].find(":") < 0
        tagged = [
            (image.id, name)
            for image in store.images()
            for name in map(reference.parse, sorted(image.names))
            if name == parsed or (whole and name.repository == parsed.repository)
        ]
        if tagged:
            return "", tagged
    try:
        return store.resolve(text).id, []
    except ImageNotFound:
        raise ImageNotFound(text) from None


def _descriptors(chosen: Chosen) -> list[Descriptor]:
    image = chosen.image
    return [
        Descriptor(
            media_type=image.manifest_media_type,
            digest=image.manifest_digest,
            size=image.manifest_size,
            platform=Platform(os=image.os, architecture=image.architecture, variant=image.variant),
            annotations=(
                ((layout.CONTAINERD_NAME, name.canonical), (layout.REF_NAME, name.tag))
                if name is not None
                else ()
            ),
        )
        for name in (chosen.names or (None,))
    ]


def _docker(chosen: Chosen) -> dict[str, jsontext.Json]:
    return {
        "Config": _path(chosen.image.id),
        "RepoTags": [name.familiar for name in chosen.names],
        "Layers": [_path(layer.digest) for layer in chosen.image.layer_records],
    }


def _path(digest: str) -> str:
    return f"blobs/sha256/{digests.hex_of(digest)}"


def _add_blob(
    tar: tarfile.TarFile, store: ImageStore, digest: str, progress: Progress | None
) -> None:
    with open(store.blob_path(digest), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if progress is not None:
            progress(digest, 0, size)
        tar.addfile(_header(_path(digest), size), file)
        if progress is not None:
            progress(digest, size, size)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_header(name, len(content)), io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    header = tarfile.TarInfo(name)
    header.type = tarfile.DIRTYPE
    header.mode = 0o755
    tar.addfile(header)


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    return header
