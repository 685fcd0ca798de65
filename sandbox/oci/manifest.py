"""Manifests and indexes, OCI and Docker schema 2."""

from __future__ import annotations

from .. import jsontext
from ..errors import DamagedDocument
from ..record import Record
from . import descriptor as descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json
    from .descriptor import Descriptor

MAX_BYTES = 4 << 20
MAX_LAYERS = 500
MAX_MANIFESTS = 1000


class Manifest(Record):
    """One image: its config and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    def encode(self) -> bytes:
        """The manifest's bytes, whose digest is the manifest's digest."""
        return jsontext.encode(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": self.config.document(),
                "layers": [layer.document() for layer in self.layers],
            }
        )


class Index(Record):
    """Several manifests, or indexes."""

    media_type: str
    manifests: tuple[Descriptor, ...]

    def encode(self) -> bytes:
        """The index's bytes."""
        return jsontext.encode(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "manifests": [manifest.document() for manifest in self.manifests],
            }
        )


def parse(content: bytes, *, media_type: str = "", what: str) -> Manifest | Index:
    """Read a manifest or an index, whichever it is.

    ``media_type`` is what the descriptor said.  A document that can be read as
    both is refused: two programs would take it for two different images.
    """
    value = _document(content, what=what)
    stated = value.get("mediaType", "")
    if not isinstance(stated, str):
        raise DamagedDocument(what=what, problem="mediaType is not a string")
    if stated and media_type and stated != media_type:
        problem = f"mediaType is {stated!r} where {media_type!r} was announced"
        raise DamagedDocument(what=what, problem=problem)
    is_index = "manifests" in value
    if is_index and ("layers" in value or "config" in value):
        raise DamagedDocument(what=what, problem="both an index and a manifest")
    kind = stated or media_type
    if kind and kind not in (descriptors.INDEXES if is_index else descriptors.MANIFESTS):
        raise DamagedDocument(what=what, problem=f"unsupported media type {kind!r}")
    return _index(value, kind, what) if is_index else _manifest(value, kind, what)


def parse_index(content: bytes, *, what: str) -> Index:
    """Read an index, such as ``index.json``."""
    made = parse(content, what=what)
    if not isinstance(made, Index):
        raise DamagedDocument(what=what, problem="not an index")
    return made


def _document(content: bytes, *, what: str) -> dict[str, Json]:
    value = jsontext.decode(content, what=what, max_bytes=MAX_BYTES)
    if not isinstance(value, dict):
        raise DamagedDocument(what=what, problem="not an object")
    version = value.get("schemaVersion")
    if version != 2 or isinstance(version, bool):
        raise DamagedDocument(what=what, problem=f"schemaVersion is {version!r}, not 2")
    return value


def _manifest(value: dict[str, Json], kind: str, what: str) -> Manifest:
    layers = value.get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise DamagedDocument(what=what, problem=f"layers is not a list of at most {MAX_LAYERS}")
    return Manifest(
        media_type=kind or descriptors.OCI_MANIFEST,
        config=descriptors.parse(value.get("config"), what=f"{what}: config"),
        layers=tuple(
            descriptors.parse(layer, what=f"{what}: layer {number}")
            for number, layer in enumerate(layers)
        ),
    )


def _index(value: dict[str, Json], kind: str, what: str) -> Index:
    manifests = value.get("manifests")
    if not isinstance(manifests, list) or len(manifests) > MAX_MANIFESTS:
        problem = f"manifests is not a list of at most {MAX_MANIFESTS}"
        raise DamagedDocument(what=what, problem=problem)
    return Index(
        media_type=kind or descriptors.OCI_INDEX,
        manifests=tuple(
            descriptors.parse(manifest, what=f"{what}: manifest {number}")
            for number, manifest in enumerate(manifests)
        ),
    )
