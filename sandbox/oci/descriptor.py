"""Descriptors, platforms and media types."""

from __future__ import annotations

from ..errors import DamagedDocument
from ..record import Record
from . import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

MAX_SIZE = 1 << 50
MAX_ANNOTATIONS = 1000


class Platform(Record):
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        parts = (self.os, self.architecture, self.variant)
        return "/".join(part for part in parts if part)


class Descriptor(Record):
    """A pointer to content: what it is, its digest and its size."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()

    def annotation(self, key: str) -> str:
        """The annotation's value; empty if there is none."""
        return dict(self.annotations).get(key, "")

    def document(self) -> dict[str, Json]:
        """As it is written."""
        made: dict[str, Json] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform is not None:
            made["platform"] = {
                "architecture": self.platform.architecture,
                "os": self.platform.os,
                **({"variant": self.platform.variant} if self.platform.variant else {}),
            }
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        return made


def parse(value: Json, *, what: str) -> Descriptor:
    """Check a descriptor; ``what`` names it in errors.

    Inline ``data`` and foreign ``urls`` are ignored: content comes from where the
    document came from, or not at all.
    """
    if not isinstance(value, dict):
        raise DamagedDocument(what=what, problem="not an object")
    media_type = value.get("mediaType")
    if not isinstance(media_type, str):
        raise DamagedDocument(what=what, problem="mediaType is not a string")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise DamagedDocument(what=what, problem="size is not a size in bytes")
    return Descriptor(
        media_type=media_type,
        digest=digests.require(value.get("digest"), what=what),
        size=size,
        platform=_platform(value.get("platform"), what=what),
        annotations=parse_annotations(value.get("annotations"), what=what),
    )


def parse_annotations(value: Json, *, what: str) -> tuple[tuple[str, str], ...]:
    """Check a map of strings."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_ANNOTATIONS:
        raise DamagedDocument(what=what, problem="annotations is not a map of strings")
    made = []
    for key, text in value.items():
        if not isinstance(text, str):
            raise DamagedDocument(what=what, problem="annotations is not a map of strings")
        made.append((key, text))
    return tuple(made)


def _platform(value: Json, *, what: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DamagedDocument(what=what, problem="platform is not an object")
    texts = [value.get(key, "") for key in ("os", "architecture", "variant")]
    system, architecture, variant = (text if isinstance(text, str) else None for text in texts)
    if system is None or architecture is None or variant is None:
        raise DamagedDocument(what=what, problem="platform is not made of strings")
    return Platform(os=system, architecture=architecture, variant=variant)
