"""Verify a store again: every blob against its digest, every tree against its blob.

A blob's name is the digest of its bytes, so reading it tells.  A tree has no digest of its
own: the layer's blob is unpacked once more, into staging, and both trees are written as archives,
which for equal trees are equal byte for byte (``native/pack.c``: types, modes, owners, times
to the nanosecond, links, attributes and content).

Changes nothing.  Reads as long as loads do (``images/lock``, shared), so nothing is removed
under it.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from functools import partial
from threading import Thread

from ..errors import ImageError, SandboxError
from ..layer.pack import OVERLAY, OVERLAY_ROOTLESS, pack_layer
from ..record import Record
from .implied import take_times
from .ingest import LayerInput, unpack_anew
from .sources import Part
from .staging import Staging, full_store
from .store import blobs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .store import Image, ImageStore

    Progress = Callable[[str, int, int], None]

CHUNK = 1 << 20


class Problem(Record):
    """What is wrong: ``what`` is a path, ``images`` are the ids of those that need it."""

    what: str
    problem: str
    images: tuple[str, ...]


class Checked(Record):
    """How much was verified, and what was found."""

    images: int
    blobs: int
    layers: int
    problems: tuple[Problem, ...]


def check(
    store: ImageStore, images: Iterable[Image] | None = None, *, progress: Progress | None = None
) -> Checked:
    """Verify these images, or all of them and the blobs that belong to none."""
    with full_store(store.paths.root), store.locked(shared=True):
        return _check(store, images, progress)


def _check(store: ImageStore, images: Iterable[Image] | None, progress: Progress | None) -> Checked:
    everything = images is None
    chosen = tuple(store.images() if images is None else images)
    problems = []
    if everything:
        problems += [
            Problem(what=path, problem="a document that could not be read was set aside", images=())
            for path in store.damaged()
        ]
        problems += [
            Problem(what=each.what, problem=each.problem, images=()) for each in store.problems
        ]
    users: dict[str, list[str]] = {}
    for image in chosen:
        for digest in blobs_of(image):
            users.setdefault(digest, []).append(image.id)
    if everything:
        for name in sorted(os.listdir(f"{store.paths.blobs}/sha256")):
            users.setdefault(f"sha256:{name}", [])
    bad = set()
    for digest in sorted(users):
        problem = _blob_problem(store.blob_path(digest), digest, progress)
        if problem:
            bad.add(digest)
            problems.append(
                Problem(what=store.blob_path(digest), problem=problem, images=tuple(users[digest]))
            )
    verified: set[str] = set()
    for image in chosen:
        if not bad & blobs_of(image):
            problems += _tree_problems(store, image, verified)
    return Checked(
        images=len(chosen), blobs=len(users), layers=len(verified), problems=tuple(problems)
    )


def _blob_problem(path: str, digest: str, progress: Progress | None) -> str:
    sums = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while part := file.read(CHUNK):
                sums.update(part)
                if progress is not None:
                    progress(digest, file.tell(), size)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    found = f"sha256:{sums.hexdigest()}"
    return "" if found == digest else f"its bytes have the digest {found}"


def _tree_problems(store: ImageStore, image: Image, verified: set[str]) -> list[Problem]:
    new = [layer for layer in image.layer_records if layer.chain_id not in verified]
    if not new:
        return []
    inputs = [
        LayerInput(
            open=partial(_part, store.blob_path(layer.digest)),
            digest=layer.digest,
            size=layer.size,
            media_type=layer.media_type,
        )
        for layer in image.layer_records
    ]
    problems = []
    with Staging.create(store.paths.staging) as staging:
        try:
            trees = unpack_anew(image, inputs, staging)
        except (SandboxError, OSError) as error:
            return [Problem(what=f"image {image.id}", problem=str(error), images=(image.id,))]
        for layer, (tree, implied) in zip(image.layer_records, trees, strict=True):
            if layer.chain_id in verified:
                continue
            verified.add(layer.chain_id)
            kept = store.layer_path(layer.chain_id)
            take_times(tree, implied, kept)
            where = _difference(tree, kept, staging.path)
            if where:
                said = f"is not what its blob holds: {where}"
                problems.append(Problem(what=kept, problem=said, images=(image.id,)))
    return problems


def _part(path: str) -> Part:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return Part("layer", fd, start=0, size=os.fstat(fd).st_size)


def _difference(tree: str, kept: str, folder: str) -> str:
    """Where a kept tree parts from what it should be; empty when it does not."""
    expected = _archive_digest(tree)
    try:
        if _archive_digest(kept) == expected:
            return ""
        return _first_difference(tree, kept, folder)
    except (ImageError, OSError) as error:
        return str(error)  # what no layer can hold, or what cannot be read


def _archive_digest(path: str) -> str:
    sums = hashlib.sha256()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)

    def read() -> None:
        while part := os.read(read_end, CHUNK):
            sums.update(part)

    thread = Thread(target=read, name="digest")
    thread.start()
    try:
        _pack(path, write_end)
    finally:
        os.close(write_end)
        thread.join()
        os.close(read_end)
    return sums.hexdigest()


def _pack(path: str, out: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pack_layer(fd, out, name=".", overlay=OVERLAY_ROOTLESS if os.geteuid() != 0 else OVERLAY)
    finally:
        os.close(fd)


def _first_difference(one: str, other: str, folder: str) -> str:
    """Where two trees part, for a person."""
    archives = []
    for name, path in (("expected", one), ("found", other)):
        archive = f"{folder}/{name}.tar"
        fd = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _pack(path, fd)
        finally:
            os.close(fd)
        archives.append(archive)
    with tarfile.open(archives[0]) as expected, tarfile.open(archives[1]) as found:
        while True:
            left, right = expected.next(), found.next()
            if left is None or right is None:
                extra = left or right
                return f"/{extra.name} is in one alone" if extra is not None else "its bytes"
            if left.name != right.name:
                return f"/{min(left.name, right.name)} is in one alone"
            if left.get_info() != right.get_info() or left.pax_headers != right.pax_headers:
                return f"/{left.name} has other attributes"
            if left.isfile() and not _same_content(expected, left, found, right):
                return f"/{left.name} has other content"


def _same_content(
    one: tarfile.TarFile, left: tarfile.TarInfo, other: tarfile.TarFile, right: tarfile.TarInfo
) -> bool:
    first, second = one.extractfile(left), other.extractfile(right)
    if first is None or second is None:
        return first is second
    while True:
        part = first.read(CHUNK)
        if part != second.read(CHUNK):
            return False
        if not part:
            return True
