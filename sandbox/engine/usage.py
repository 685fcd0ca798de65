"""What a store takes of the disk, as du(1) counts it: in blocks, each inode once.

An image's bytes are those of its unpacked layers and of its blobs.  What several images
have is shared; what one alone has is unique, and is what its removal gives back.
"""

from __future__ import annotations

import os

from ..native import tree_disk_bytes
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.store import Image
    from .container import Container
    from .engine import Engine
    from .volumes import Volume

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ImageUsage(Record):
    """One image; ``containers`` counts those that were made of it."""

    image: Image
    shared_bytes: int
    unique_bytes: int
    containers: int


class ContainerUsage(Record):
    """One container: its writable layer, its logs and what is kept about it."""

    container: Container
    is_live: bool
    bytes: int


class VolumeUsage(Record):
    """One volume; ``links`` counts the containers that have it."""

    volume: Volume
    links: int
    bytes: int


class Usage(Record):
    """The whole store.  ``image_bytes`` is everything in layers and blobs, once.

    ``reclaimable_image_bytes`` is what no image of a container needs.
    """

    images: tuple[ImageUsage, ...]
    image_bytes: int
    reclaimable_image_bytes: int
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]


def usage(engine: Engine) -> Usage:
    """Measure; what is removed meanwhile counts as nothing."""
    containers = engine.containers(all=True)
    sizes = parts(engine)
    images = engine.images()
    needed = {image.id: parts_of(engine, image) for image in images}
    owners: dict[str, int] = {}
    for names in needed.values():
        for name in names:
            owners[name] = owners.get(name, 0) + 1
    made_of = [container.image_id for container in containers]
    in_use = {name for image_id in made_of for name in needed.get(image_id, ())}
    return Usage(
        images=tuple(
            ImageUsage(
                image=image,
                shared_bytes=sum(sizes.get(x, 0) for x in needed[image.id] if owners[x] > 1),
                unique_bytes=sum(sizes.get(x, 0) for x in needed[image.id] if owners[x] == 1),
                containers=made_of.count(image.id),
            )
            for image in images
        ),
        image_bytes=sum(sizes.values()),
        reclaimable_image_bytes=sum(sizes[name] for name in sizes if name not in in_use),
        containers=tuple(
            ContainerUsage(
                container=container,
                is_live=container.status().is_live,
                bytes=_disk_bytes(container.folder),
            )
            for container in containers
        ),
        volumes=_volumes(engine),
    )


def parts(engine: Engine) -> dict[str, int]:
    """Layers and blobs by their paths, and what each takes."""
    paths = engine.paths
    found = {}
    for folder in (paths.layers, f"{paths.blobs}/sha256"):
        for name in _listed(folder):
            path = f"{folder}/{name}"
            found[path] = _disk_bytes(path)
    return found


def parts_of(engine: Engine, image: Image) -> frozenset[str]:
    """What an image needs of the parts."""
    from ..image.store import blobs_of

    layers = [path.removesuffix("/tree") for path in image.layers]
    return frozenset([*layers, *(engine.store.blob_path(digest) for digest in blobs_of(image))])


def _volumes(engine: Engine) -> tuple[VolumeUsage, ...]:
    from . import volumes

    found, _problems = volumes.listing(engine)
    users = volumes.users(engine, found)
    return tuple(
        VolumeUsage(
            volume=volume, links=len(users[volume.name]), bytes=_disk_bytes(volume.mountpoint)
        )
        for volume in found
    )


def _disk_bytes(path: str) -> int:
    try:
        status = os.stat(path, follow_symlinks=False)
        if status.st_mode & 0o170000 != 0o040000:
            return status.st_blocks * 512
        fd = os.open(path, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return tree_disk_bytes(fd)
    finally:
        os.close(fd)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
