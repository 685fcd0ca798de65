"""The OCI image layout: ``oci-layout``, ``index.json`` and ``blobs/<algorithm>/<hex>``."""

from __future__ import annotations

import os

from .. import jsontext
from ..errors import DamagedArchive, DamagedDocument, InvalidReference, WrongPlatform
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci import manifest as manifests
from ..oci import reference
from ..oci.manifest import Index, Manifest
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..oci.descriptor import Descriptor, Platform
    from ..oci.reference import Reference
    from .sources import Part, Source

MARKER = "oci-layout"
INDEX = "index.json"
MAX_DEPTH = 4
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
# What buildkit puts beside an image: a manifest that is no image.
ATTESTATION = "vnd.docker.reference.type"


class LayoutImage(Record):
    """One image of a layout: its manifest as it came, and the names that the index gives."""

    manifest: Manifest
    content: bytes
    names: tuple[Reference, ...]


def images(source: Source) -> tuple[LayoutImage, ...]:
    """The images of a layout, for this host's platform where there is a choice."""
    _check_version(source)
    with source.open(INDEX) as part:
        index = manifests.parse_index(part.content(limit=manifests.MAX_BYTES), what=INDEX)
    groups: dict[tuple[Reference, ...] | str, list[Descriptor]] = {}
    for item in candidates(index):
        # One name for several platforms is one image; without a name, each is its own.
        groups.setdefault(_names(item) or item.digest, []).append(item)
    if len(groups) > 1 and all(isinstance(key, str) for key in groups):
        nameless = [item for items in groups.values() for item in items]
        if all(item.platform is not None for item in nameless):
            groups = {"": nameless}
    found = []
    for key, items in groups.items():
        names = () if isinstance(key, str) else key
        manifest, content = _manifest(source, choose(items), depth=0)
        found.append(LayoutImage(manifest=manifest, content=content, names=names))
    if not found:
        raise DamagedArchive(f"{INDEX} names no image")
    return tuple(found)


def blob(source: Source, descriptor: Descriptor) -> Part:
    """Open a blob of a layout, whose size is the one stated; its digest is not looked at."""
    part = source.open(f"blobs/sha256/{digests.hex_of(descriptor.digest)}")
    if part.size != descriptor.size:
        part.__exit__()
        raise DamagedArchive(
            f"{descriptor.digest} is {part.size} bytes, expected {descriptor.size}"
        )
    return part


def document(source: Source, descriptor: Descriptor, *, limit: int) -> bytes:
    """A manifest or a config of a layout, verified."""
    with blob(source, descriptor) as part:
        content = part.content(limit=limit)
    digests.verify(content, descriptor.digest, what=descriptor.media_type)
    return content


def choose(items: list[Descriptor], wanted: Platform | None = None) -> Descriptor:
    """The one for this host, or for the platform that was asked for.

    Where nothing was asked for, one alone is taken as it is, and refused only when it is run.
    """
    if len(items) == 1 and (wanted is None or items[0].platform is None):
        return items[0]
    system, architecture, variant = host_platform()
    if wanted is not None:
        system, architecture, variant = wanted.os, wanted.architecture, wanted.variant
    fitting = [
        item
        for item in items
        if item.platform is not None
        and (item.platform.os, item.platform.architecture) == (system, architecture)
    ]
    exact = [x for x in fitting if x.platform is not None and x.platform.variant == variant]
    if not fitting or (not exact and wanted is not None and wanted.variant):
        raise WrongPlatform(
            wanted=str(wanted) if wanted is not None else f"{system}/{architecture}",
            available=tuple(str(item.platform) for item in items if item.platform is not None),
        )
    return (exact or fitting)[0]


def host_platform() -> tuple[str, str, str]:
    """This host's operating system, architecture and variant, in the registries' words."""
    machine = os.uname().machine
    known = {
        "x86_64": ("amd64", ""),
        "i386": ("386", ""),
        "i686": ("386", ""),
        "aarch64": ("arm64", "v8"),
        "armv7l": ("arm", "v7"),
        "armv6l": ("arm", "v6"),
        "loongarch64": ("loong64", ""),
    }
    architecture, variant = known.get(machine, (machine, ""))
    return "linux", architecture, variant


def _check_version(source: Source) -> None:
    with source.open(MARKER) as part:
        value = jsontext.decode(part.content(limit=1 << 16), what=MARKER)
    version = value.get("imageLayoutVersion") if isinstance(value, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        raise DamagedDocument(what=MARKER, problem=f"unsupported imageLayoutVersion {version!r}")


def candidates(index: Index) -> list[Descriptor]:
    """The manifests of an index that are images."""
    return [
        item
        for item in index.manifests
        if not item.annotation(ATTESTATION) and not _is_unknown(item.platform)
    ]


def _is_unknown(platform: Platform | None) -> bool:
    return platform is not None and platform.os == "unknown"


def _names(item: Descriptor) -> tuple[Reference, ...]:
    # ref.name is a whole reference to some writers and a mere tag to others; a tag
    # alone names nothing.
    text = item.annotation(CONTAINERD_NAME)
    if not text:
        text = item.annotation(REF_NAME)
        if "/" not in text and ":" not in text:
            return ()
    try:
        name = reference.parse_name(text)
    except InvalidReference as error:
        raise DamagedDocument(what=INDEX, problem=f"{error} ({text!r})") from error
    return (name,)


def _manifest(source: Source, item: Descriptor, *, depth: int) -> tuple[Manifest, bytes]:
    if depth > MAX_DEPTH:
        raise DamagedArchive(f"indexes nested deeper than {MAX_DEPTH}")
    content = document(source, item, limit=manifests.MAX_BYTES)
    made = manifests.parse(content, media_type=item.media_type, what=item.digest)
    if isinstance(made, Manifest):
        if made.config.media_type not in descriptors.CONFIGS:
            # An artifact: something kept in a registry that is no image.
            raise DamagedArchive(f"{item.digest} is not an image ({made.config.media_type})")
        return made, content
    found = candidates(made)
    if not found:
        raise DamagedArchive(f"{item.digest} names no image")
    return _manifest(source, choose(found), depth=depth + 1)
