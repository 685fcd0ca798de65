"""The image store: names, images, blobs and layers.

    images/
      names/<reference>.json    one a name: which image it names.  ``/`` is written ``+``,
                                and a very long name by its digest
      ids/<hex>.json            one an image, named by the digest of its config, which is the
                                image's id: digests, sizes, DiffIDs and ChainIDs of its layers,
                                and what a container starts from; its time is the last use
      ids/<hex>.removing        the same while it is asked who needs it; see ``removing``
      damaged/                  documents that could not be read, set aside
      lock                      see below
    blobs/sha256/<hex>          manifests, configs and layers as they came, verified
    layers/<hex of ChainID>/
      tree/                     the unpacked layer, read-only, shared by images and containers
      layer.json                its DiffID and how much is in it
    staging/image-<random>/     what is being made; see ``staging``

A document is written in staging and renamed over the old one, so a reader needs no
lock.  An image's document comes after all that it names, a name after its image.  A
name whose image is gone is not there.  What cannot be read is set aside, reported
(`ImageStore.problems`, `ImageStore.damaged`), and everything else goes on.

Locks.  ``images/lock`` (flock) is held shared by whoever adds or renames, and
exclusively, never waiting, by whoever removes layers and blobs or sets a document
aside: nothing that a load has just found there can go away under it.  A removal that
meets a load leaves its candidates in staging for a later sweep.  A load also holds
``staging/image-<hex>.lock`` of its image, so that of several loads of one image one works
and the others wait and find it done; two images that share a layer may both unpack
it, and the first rename wins.

Reading costs one document for a name and one for an image; what changes the store is
in ``ingest`` and below, imported when it is used.

Out of scope: who uses an image (the engine asks its containers before it removes one),
archives and registries.
"""

from __future__ import annotations

import fcntl
import os
import time

from .. import jsontext
from ..errors import (
    DamagedDocument,
    ImageNotFound,
    InvalidReference,
    StoreError,
    UsageError,
)
from ..oci import digest as digests
from ..oci import imageconfig, reference
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from ..jsontext import Json
    from ..oci.imageconfig import ImageConfig
    from ..oci.reference import Reference
    from ..paths import Paths
    from .staging import Staging

    T = TypeVar("T")

VERSION = 1
MAX_DOCUMENT = 16 << 20
MAX_FILE_NAME = 200
MAX_PROBLEMS = 100
REMOVING = ".removing"  # the end of a document's name while its image is being removed
REMOVING_S = 2.0


class Layer(Record):
    """One layer of an image: as it came (``digest``, ``size``) and as it is."""

    diff_id: str
    chain_id: str
    digest: str
    size: int
    media_type: str
    unpacked_bytes: int


class Image(Record):
    """One image.  ``layers`` are the unpacked trees, the lowest first."""

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    config: ImageConfig
    layers: tuple[str, ...]
    created: str
    size: int
    architecture: str
    os: str
    variant: str
    manifest_digest: str
    manifest_size: int
    manifest_media_type: str
    config_size: int
    layer_records: tuple[Layer, ...]


class Deleted(Record):
    """What a removal removed: names as docker shows them, and ids."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


class ImageStore:
    """The images below one root.  Making this object touches nothing."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.problems: list[DamagedDocument] = []  # the last ones, for whoever reports them
        self._names = f"{paths.images}/names"
        self._ids = f"{paths.images}/ids"

    # -- reading

    def resolve(self, text: str, *, all_names: bool = True) -> Image:
        """The image that a reference, an id or the beginning of an id means.

        A name comes before an id, as with docker.  With ``all_names`` false the
        image says only the name that it was found by, and no other name is read.
        Raises `ImageNotFound`, `InvalidReference`, or `UsageError` for the
        beginning of more than one id.
        """
        image_id, name = self._find(text)
        if not all_names:
            return self._image(image_id, names=(name,) if name else (), shown=text)
        names = [name for name, found in self._all_names() if found == image_id]
        return self._image(image_id, names=names, shown=text)

    def images(self) -> tuple[Image, ...]:
        """Every image, the newest first; damaged ones are set aside and in `problems`."""
        names: dict[str, list[Reference]] = {}
        for name, image_id in self._all_names():
            names.setdefault(image_id, []).append(name)
        found = []
        for image_id in self._all_ids():
            try:
                found.append(self._image(image_id, names=names.get(image_id, ()), shown=image_id))
            except (ImageNotFound, StoreError):
                continue  # removed meanwhile, or noted in `problems`
        found.sort(key=lambda image: (image.created, image.id), reverse=True)
        return tuple(found)

    def has(self, image_id: str) -> bool:
        """Whether there is an image of this id."""
        path = self._id_path(image_id)
        return os.path.exists(path) or os.path.exists(_away(path))

    def holds(self, image_id: str) -> bool:
        """Whether the image is there for one who has just written down that he needs it.

        If so it stays, and counts as used now.  See ``removing``.
        """
        path = self._id_path(image_id)
        away = _away(path)
        deadline = 0.0
        while True:
            try:
                os.utime(path)
            except FileNotFoundError:
                pass
            else:
                return True
            # Who is about to remove it asks who needs it, and finds us.
            if not os.path.exists(away):
                return os.path.exists(path)
            now = time.monotonic()
            deadline = deadline or now + REMOVING_S
            if now > deadline:
                put_back(away, path)  # he died over it
            time.sleep(0.001)

    def damaged(self) -> tuple[str, ...]:
        """The documents that were set aside: paths."""
        folder = f"{self.paths.images}/damaged"
        return tuple(f"{folder}/{name}" for name in sorted(listed(folder)))

    def layer_path(self, chain_id: str) -> str:
        """Where the unpacked layer is."""
        return f"{self.paths.layers}/{digests.hex_of(chain_id)}/tree"

    def blob_path(self, digest: str) -> str:
        """Where the content of this digest is."""
        return f"{self.paths.blobs}/sha256/{digests.hex_of(digest)}"

    def read_blob(self, digest: str, *, limit: int = MAX_DOCUMENT) -> bytes:
        """A manifest or a config as it came."""
        return read_bounded(self.blob_path(digest), limit)

    # -- changing

    def tag(self, image_id: str, name: str | Reference) -> None:
        """Give the image this name, taking it from the image that had it."""
        from .staging import Staging, full_store

        parsed = reference.parse_name(name) if isinstance(name, str) else name
        self.make_folders()
        with (
            full_store(self.paths.root),
            self.locked(shared=True),
            Staging.create(self.paths.staging) as staging,
        ):
            if not self.has(image_id):
                raise ImageNotFound(image_id)
            rename_name(self, stage_name(staging, parsed, image_id), parsed)
            if not self.holds(image_id):
                self._forget(parsed, image_id)
                raise ImageNotFound(image_id)

    def untag(self, name: str) -> str:
        """Take the name away from its image; the name as docker shows it."""
        parsed = reference.parse(name)
        try:
            os.unlink(self.name_path(parsed))
        except FileNotFoundError as error:
            raise ImageNotFound(parsed.familiar) from error
        sync_folder(self._names)
        return parsed.familiar

    def delete(
        self, image_id: str, must_stay: Callable[[tuple[str, ...]], bool] | None = None
    ) -> Deleted | None:
        """Remove the image and its names, and the layers and blobs that no image needs.

        ``must_stay`` is asked when nobody can find the image any more, with the names that it
        has; if it says yes, everything stays, and this returns None.  See ``removing``.
        """
        from . import removing

        return removing.delete(self, image_id, must_stay)

    def collect(self) -> tuple[str, ...]:
        """Remove what nothing needs: layers, blobs and names without an image.

        What was removed is said as ``layer <hex>``, ``blob <hex>`` and ``name <reference>``.
        Removes nothing while someone is loading, or while a damaged image document
        is set aside, since what it needed cannot be known.
        """
        from . import removing

        return removing.collect(self)

    def sweep_staging(self) -> tuple[str, ...]:
        """Remove what makers that are gone left half made.  Cheap when there is nothing."""
        if not any(name.startswith("image-") for name in listed(self.paths.staging)):
            return ()
        from .removing import remove_unreferenced
        from .staging import sweep

        return sweep(
            self.paths.staging,
            lambda candidates: remove_unreferenced(self, candidates) is not None,
        )

    # -- for the modules of this package

    def make_folders(self) -> None:
        """Make the folders of the store, for the owner alone."""
        paths = self.paths
        for path in (
            paths.root,
            paths.images,
            self._names,
            self._ids,
            paths.blobs,
            f"{paths.blobs}/sha256",
            paths.layers,
            paths.staging,
        ):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                continue
            except FileNotFoundError:
                os.makedirs(path, 0o700, exist_ok=True)

    def locked(self, *, shared: bool) -> Lock:
        """Hold ``images/lock`` for a block; exclusively does not wait (BlockingIOError)."""
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB
        return Lock(f"{self.paths.images}/lock", operation)

    def name_path(self, name: Reference) -> str:
        """The document of a name."""
        file = name.canonical.replace("/", "+")
        if len(file) > MAX_FILE_NAME:
            file = f"{file[:100]}~{digests.hex_of(digests.of_bytes(file.encode()))}"
        return f"{self._names}/{file}.json"

    def id_path(self, image_id: str) -> str:
        """The document of an image."""
        return self._id_path(image_id)

    def names(self) -> Iterator[tuple[Reference, str]]:
        """Every name and the id that it stands for."""
        return self._all_names()

    def ids(self) -> list[str]:
        """The ids of all images."""
        return self._all_ids()

    # -- within

    def _find(self, text: str) -> tuple[str, Reference | None]:
        try:
            parsed = reference.parse(text)
        except InvalidReference:
            bare = text.removeprefix("sha256:")
            if digests.is_hex(bare):
                return f"sha256:{bare}", None
            raise
        if digests.is_digest(text):
            return text, None
        found = self._by_name(parsed) if not parsed.digest else self._by_digest(parsed)
        if found is None:
            start = text.removeprefix("sha256:")
            matches = [] if start.strip("0123456789abcdef") else self._by_start(start)
            if len(matches) > 1:
                raise UsageError(f"multiple images found with provided prefix: {text}")
            if not matches:
                raise ImageNotFound(parsed.familiar)
            return matches[0], None
        return found, parsed

    def _by_name(self, name: Reference) -> str | None:
        path = self.name_path(name)
        try:
            image_id = self._name(path, name)[1]
        except FileNotFoundError:
            return None
        return image_id if self.has(image_id) else None

    def _by_digest(self, wanted: Reference) -> str | None:
        # A name with a digest that was pulled has a document of its own; for an
        # image that was loaded, its manifest has to be looked at.
        pulled = reference.Reference(domain=wanted.domain, path=wanted.path, digest=wanted.digest)
        found = self._by_name(pulled)
        if found is not None:
            return found
        for name, image_id in self._all_names():
            if name.repository != wanted.repository or wanted.tag not in ("", name.tag):
                continue
            try:
                image = self._image(image_id, names=(), shown=wanted.familiar)
            except (ImageNotFound, StoreError):
                continue
            if wanted.digest in (image.manifest_digest, image.id):
                return image_id
        return None

    def _by_start(self, start: str) -> list[str]:
        return [image_id for image_id in self._all_ids() if image_id[7:].startswith(start)]

    def _all_ids(self) -> list[str]:
        names = [name.removesuffix(".json") for name in listed(self._ids)]
        return sorted(f"sha256:{name}" for name in names if digests.is_hex(name))

    def _all_names(self) -> Iterator[tuple[Reference, str]]:
        for file in sorted(listed(self._names)):
            path = f"{self._names}/{file}"
            try:
                name, image_id = self._name(path, None)
            except (FileNotFoundError, StoreError):
                continue
            if path == self.name_path(name):
                yield name, image_id

    def _name(self, path: str, wanted: Reference | None) -> tuple[Reference, str]:
        return self._document(path, "names", lambda value: _name(value, path, wanted))

    def _image(self, image_id: str, *, names: Iterable[Reference], shown: str) -> Image:
        path = self._id_path(image_id)
        named = tuple(names)
        try:
            image = self._described(image_id, named)
        except FileNotFoundError as error:
            # One that is put back was not removed.
            if not os.path.exists(_away(path)) or not self.holds(image_id):
                raise ImageNotFound(shown) from error
            return self._image(image_id, names=named, shown=shown)
        for layer in image.layers:
            if not os.path.isdir(layer):
                if not self.has(image_id):
                    raise ImageNotFound(shown)  # removed since its document was read
                problem = DamagedDocument(what=path, problem=f"its layer {layer} is missing")
                self._note(problem)
                raise problem
        return image

    def _described(self, image_id: str, names: tuple[Reference, ...]) -> Image:
        path = self._id_path(image_id)
        return self._document(
            path, "ids", lambda value: image_of(value, path, image_id, names, self)
        )

    def _forget(self, name: Reference, image_id: str) -> None:
        try:
            path = self.name_path(name)
            if self._name(path, name)[1] == image_id:
                os.unlink(path)
        except FileNotFoundError:
            return

    def _id_path(self, image_id: str) -> str:
        return f"{self._ids}/{digests.hex_of(image_id)}.json"

    def _document(self, path: str, kind: str, parse: Callable[[Json], T]) -> T:
        try:
            return parse(jsontext.decode(read_bounded(path, MAX_DOCUMENT), what=path))
        except DamagedDocument as error:
            self._note(error)
            self._set_aside(path, kind, error)
            raise

    def _note(self, problem: DamagedDocument) -> None:
        self.problems.append(problem)
        del self.problems[:-MAX_PROBLEMS]

    def _set_aside(self, path: str, kind: str, error: DamagedDocument) -> None:
        # Under the lock that writers share, so that no good document is moved that was
        # put in the damaged one's place just now; where this cannot be done (someone is
        # loading, the store is read-only), the document stays and is reported again.
        folder = f"{self.paths.images}/damaged"
        aside = f"{folder}/{kind}-{os.path.basename(path)}.{os.urandom(4).hex()}"
        try:
            with self.locked(shared=False):
                os.makedirs(folder, 0o700, exist_ok=True)
                os.rename(path, aside)
        except OSError:
            return
        error.hint = f"it was set aside as {aside}"


class Lock:
    """A lock on a file, held for a block and dropped by the kernel with its holder."""

    def __init__(self, path: str, operation: int) -> None:
        self._path = path
        self._operation = operation
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, self._operation)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_failure: object) -> None:
        os.close(self._fd)


def stage_name(staging: Staging, name: Reference, image_id: str) -> str:
    """Make a name's document ready; its path in staging."""
    document: Json = {"version": VERSION, "name": name.canonical, "image": image_id}
    return staging.write(f"name-{os.urandom(4).hex()}", jsontext.encode(document))


def rename_name(store: ImageStore, path: str, name: Reference) -> None:
    """Put a name's document in its place; the caller holds the lock, shared."""
    os.rename(path, store.name_path(name))
    sync_folder(f"{store.paths.images}/names")


def image_document(image: Image) -> dict[str, Json]:
    """What is written of an image; its names and paths follow from where things are."""
    return {
        "version": VERSION,
        "id": image.id,
        "created": image.created,
        "os": image.os,
        "architecture": image.architecture,
        "variant": image.variant,
        "manifest": {
            "mediaType": image.manifest_media_type,
            "digest": image.manifest_digest,
            "size": image.manifest_size,
        },
        "configSize": image.config_size,
        "layers": [
            {
                "diffId": layer.diff_id,
                "chainId": layer.chain_id,
                "digest": layer.digest,
                "size": layer.size,
                "mediaType": layer.media_type,
                "unpackedBytes": layer.unpacked_bytes,
            }
            for layer in image.layer_records
        ],
        "config": image.config.document(),
    }


def image_of(
    value: Json, path: str, image_id: str, names: tuple[Reference, ...], store: ImageStore
) -> Image:
    """The image that a document describes.  `DamagedDocument` if it is none."""
    document = _versioned(value, path)
    if document.get("id") != image_id:
        raise DamagedDocument(what=path, problem="it is of another image")
    manifest = document.get("manifest")
    items = document.get("layers")
    if not isinstance(manifest, dict) or not isinstance(items, list):
        raise DamagedDocument(what=path, problem="manifest or layers are missing")
    layers = tuple([_layer(item, path) for item in items])
    return Image(
        id=image_id,
        names=tuple([name.familiar for name in names if name.tag]),
        digests=tuple([name.familiar for name in names if name.digest]),
        config=imageconfig.run_config(document.get("config"), what=path),
        layers=tuple([store.layer_path(layer.chain_id) for layer in layers]),
        created=_string(document, "created", path),
        size=sum([layer.unpacked_bytes for layer in layers]),
        architecture=_string(document, "architecture", path),
        os=_string(document, "os", path),
        variant=_string(document, "variant", path),
        manifest_digest=digests.require(manifest.get("digest"), what=path),
        manifest_size=_count(manifest, "size", path),
        manifest_media_type=_string(manifest, "mediaType", path),
        config_size=_count(document, "configSize", path),
        layer_records=layers,
    )


def _layer(value: Json, path: str) -> Layer:
    if not isinstance(value, dict):
        raise DamagedDocument(what=path, problem="a layer is not an object")
    return Layer(
        diff_id=digests.require(value.get("diffId"), what=path),
        chain_id=digests.require(value.get("chainId"), what=path),
        digest=digests.require(value.get("digest"), what=path),
        size=_count(value, "size", path),
        media_type=_string(value, "mediaType", path),
        unpacked_bytes=_count(value, "unpackedBytes", path),
    )


def _name(value: Json, path: str, wanted: Reference | None) -> tuple[Reference, str]:
    document = _versioned(value, path)
    text = _string(document, "name", path)
    image_id = digests.require(document.get("image"), what=path)
    if wanted is not None and text == wanted.canonical:
        return wanted, image_id
    try:
        name = reference.parse(text)
    except InvalidReference as error:
        raise DamagedDocument(what=path, problem=str(error)) from error
    if wanted is not None:
        raise DamagedDocument(what=path, problem=f"it is of another name, {text}")
    return name, image_id


def _versioned(value: Json, path: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise DamagedDocument(what=path, problem="not an object")
    version = value.get("version")
    if not isinstance(version, int) or version < VERSION:
        raise DamagedDocument(what=path, problem=f"version is {version!r}")
    if version != VERSION:
        # Not damaged, and not to be set aside: a later program's.
        raise StoreError(f"{path}: version is {version}, this program reads {VERSION}")
    return value


def _string(value: dict[str, Json], key: str, path: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise DamagedDocument(what=path, problem=f"{key} is not a string")
    return found


def _count(value: dict[str, Json], key: str, path: str) -> int:
    found = value.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise DamagedDocument(what=path, problem=f"{key} is not a number")
    return found


def blobs_of(image: Image) -> set[str]:
    """The digests of everything that came with an image."""
    return {image.id, image.manifest_digest, *[layer.digest for layer in image.layer_records]}


def read_bounded(path: str, limit: int) -> bytes:
    """A file that is no link and not longer than ``limit``."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise DamagedDocument(what=path, problem=f"longer than {limit} bytes")
        content = os.read(fd, size + 1)
    finally:
        os.close(fd)
    return content


def _away(path: str) -> str:
    return path.removesuffix(".json") + REMOVING


def put_back(away: str, path: str) -> None:
    """Undo the beginning of a removal; never over what was taken in anew meanwhile."""
    try:
        os.link(away, path)
    except FileNotFoundError:
        return
    except FileExistsError:
        pass
    try:
        os.unlink(away)
    except FileNotFoundError:
        return


def listed(path: str) -> list[str]:
    """The names in a folder that may be missing."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def sync_folder(path: str) -> None:
    """Wait until the folder's entries are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
