"""Remove images, and what no image needs any more, beside pulls and runs.

Who comes to need an image writes that down first (a name, a container's document) and
looks then whether the image is still there (`ImageStore.holds`).  Who removes one takes
its document away first (``ids/<hex>.removing``) and asks then whether anybody needs it;
if so it is put back.  Of two at once, one sees the other.  Between the two steps
``images/lock`` is held shared; whoever holds it exclusively and finds such a document
finds that of a dead remover, and puts it back.

Layers and blobs go last, under the exclusive lock, and only those that no document names.
"""

from __future__ import annotations

import os

from .. import jsontext
from ..errors import StoreError
from ..oci import digest as digests
from .staging import Staging
from .store import (
    MAX_DOCUMENT,
    REMOVING,
    Deleted,
    blobs_of,
    image_of,
    listed,
    put_back,
    read_bounded,
    sync_folder,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .store import ImageStore


def delete(
    store: ImageStore, image_id: str, must_stay: Callable[[tuple[str, ...]], bool] | None = None
) -> Deleted | None:
    """See `ImageStore.delete`."""
    store.make_folders()
    image = store.resolve(image_id)
    candidates = [f"layer {digests.hex_of(x.chain_id)}" for x in reversed(image.layer_records)]
    candidates += [f"blob {digests.hex_of(digest)}" for digest in sorted(blobs_of(image))]
    path = store.id_path(image_id)
    away = f"{path.removesuffix('.json')}{REMOVING}"
    staging = Staging.create(store.paths.staging)
    removed: list[str] | None = []
    try:
        staging.propose(candidates)
        with store.locked(shared=True):
            try:
                os.rename(path, away)
            except FileNotFoundError:
                return Deleted(untagged=(), deleted=())  # another remover was first
            try:
                names = [name for name, owner in store.names() if owner == image_id]
                shown = tuple(sorted(name.familiar for name in names if name.tag))
                if must_stay is not None and must_stay(shown):
                    return None
                for name in names:
                    _unlink(store.name_path(name))
                _unlink(away)
            finally:
                put_back(away, path)
            sync_folder(os.path.dirname(path))
        removed = None
        removed = remove_unreferenced(store, candidates)
    finally:
        if removed is None:
            staging.leave()
        else:
            staging.close()
    gone = [f"sha256:{line[6:]}" for line in removed or () if line.startswith("layer ")]
    untagged = tuple(sorted(name.familiar for name in names))
    return Deleted(untagged=untagged, deleted=(image_id, *gone))


def collect(store: ImageStore) -> tuple[str, ...]:
    """See `ImageStore.collect`."""
    candidates = [f"layer {name}" for name in listed(store.paths.layers)]
    candidates += [f"blob {name}" for name in listed(f"{store.paths.blobs}/sha256")]
    removed = remove_unreferenced(store, candidates)
    return () if removed is None else (*removed, *_forget_dangling_names(store))


def remove_unreferenced(store: ImageStore, candidates: Iterable[str]) -> list[str] | None:
    """Remove those candidates that no image refers to; None if that cannot be done now.

    It cannot while someone is loading, nor while what some image needs is unknown.
    """
    if any(name.startswith("ids-") for name in listed(f"{store.paths.images}/damaged")):
        return None
    lines = [line for line in candidates if _is_candidate(line)]
    if not lines:
        return []
    try:
        with store.locked(shared=False):
            _restore(store)
            needed = _needed(store)
            return [line for line in lines if line not in needed and _discard(store, line)]
    except (BlockingIOError, StoreError):
        return None


def _restore(store: ImageStore) -> None:
    folder = os.path.dirname(store.id_path(f"sha256:{'0' * 64}"))
    for name in listed(folder):
        if name.endswith(REMOVING):
            path = f"{folder}/{name}"
            put_back(path, f"{path.removesuffix(REMOVING)}.json")


def _needed(store: ImageStore) -> set[str]:
    needed: set[str] = set()
    for image_id in store.ids():
        path = store.id_path(image_id)
        value = jsontext.decode(read_bounded(path, MAX_DOCUMENT), what=path)
        image = image_of(value, path, image_id, (), store)
        needed.update(f"layer {digests.hex_of(x.chain_id)}" for x in image.layer_records)
        needed.update(f"blob {digests.hex_of(digest)}" for digest in blobs_of(image))
    return needed


def _forget_dangling_names(store: ImageStore) -> list[str]:
    # Writers of names hold the lock, shared, from before they look for the image.
    forgotten = []
    try:
        with store.locked(shared=False):
            for name, image_id in list(store.names()):
                if not store.has(image_id) and _unlink(store.name_path(name)):
                    forgotten.append(f"name {name.familiar}")
    except (BlockingIOError, FileNotFoundError):
        pass  # someone is loading, or there is no store
    return forgotten


def _discard(store: ImageStore, line: str) -> bool:
    kind, _, name = line.partition(" ")
    if kind == "blob":
        return _unlink(f"{store.paths.blobs}/sha256/{name}")
    # Out of sight in one step, then removed: a half-removed layer is never found.
    with Staging.create(store.paths.staging) as staging:
        try:
            os.rename(f"{store.paths.layers}/{name}", f"{staging.path}/layer")
        except FileNotFoundError:
            return False
    return True


def _is_candidate(line: str) -> bool:
    kind, _, name = line.partition(" ")
    return kind in ("layer", "blob") and digests.is_hex(name)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
