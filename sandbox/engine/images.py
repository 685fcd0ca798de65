"""Images and the containers that use them: who is in the way of a removal, and what made them."""

from __future__ import annotations

import os

from ..errors import ContainerNotFound, DamagedDocument, ObjectInUse, SandboxError
from ..oci import imageconfig
from ..record import Record
from ..state import containers, events
from .events import log_removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.store import Image
    from .engine import Engine

MAX_DAMAGED = 1 << 20
_HEX = frozenset(b"0123456789abcdef")


class User(Record):
    """A container that is made of an image; ``name`` is its id where that is all one knows."""

    id: str
    name: str
    is_damaged: bool = False


def remove_image(engine: Engine, name: str, *, force: bool) -> tuple[tuple[str, ...], str | None]:
    """Names taken away, and the id removed, if it was; `ObjectInUse` names who is in the way."""
    found = engine.store.resolve(name, all_names=False)
    image = engine.store.resolve(found.id)
    if found.names:
        untagged, deleted = _remove_name(engine, name, image, force=force)
    else:
        untagged, deleted = _remove_id(engine, image, force=force)
    log_removal(engine, image, untagged, deleted)
    return untagged, deleted


def _remove_name(
    engine: Engine, name: str, image: Image, *, force: bool
) -> tuple[tuple[str, ...], str | None]:
    store = engine.store
    if len(image.names) > 1:
        return (store.untag(name),), None
    found = users_of(engine, image.id)
    if not found:
        gone = _delete(engine, image, image.names)
        if gone is not None:
            return gone, image.id
        # It has come into use, or has got another name, just now.
        found = users_of(engine, image.id)
    if found and not force:
        raise _in_use(
            f'conflict: unable to remove repository reference "{name}" (must force)',
            "is using its referenced image " + _short(image.id),
            found,
            command="rm",
        )
    # The name goes, the image stays.
    return (store.untag(name),), None


def _remove_id(engine: Engine, image: Image, *, force: bool) -> tuple[tuple[str, ...], str | None]:
    store = engine.store
    unable = f"conflict: unable to delete {_short(image.id)}"
    found = users_of(engine, image.id)
    running = [each for each in found if engine.status(each.id).is_live]
    if running:
        about = "image is being used by running"
        raise _in_use(f"{unable} (cannot be forced)", about, running, command="rm -f")
    if len(image.names) > 1 and not force:
        raise ObjectInUse(
            f"{unable} (must be forced) - image is referenced in multiple repositories",
            hint=f"`sandbox rmi {' '.join(image.names)}` removes all of its names",
        )
    if not found:
        names = _delete(engine, image, image.names)
        if names is not None:
            return names, image.id
        found = users_of(engine, image.id)
    if not force or not image.names:
        how = "cannot" if force else "must"
        raise _in_use(
            f"{unable} ({how} be forced)", "image is being used by stopped", found, command="rm"
        )
    # A container can always be started again: with force it is the names that go.
    return tuple(sorted(store.untag(each) for each in image.names)), None


def _delete(engine: Engine, image: Image, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Remove an image that nobody uses and that has no other names; None if that is not so."""

    def must_stay(there: tuple[str, ...]) -> bool:
        return not set(there) <= set(names) or bool(users_of(engine, image.id))

    gone = engine.store.delete(image.id, must_stay)
    return None if gone is None else gone.untagged


def _in_use(what: str, about: str, found: list[User], *, command: str) -> ObjectInUse:
    if not found:
        return ObjectInUse(f"{what} - it has just come into use")
    first = found[0]
    short = first.id[:12]
    if about.startswith("is using"):
        message = f"{what} - container {short} {about}"
    else:
        message = f"{what} - {about} container {short}"
    if len(found) > 1:
        message += f" (and {', '.join(each.id[:12] for each in found[1:])})"
    if any(each.is_damaged for each in found):
        command = "rm -f"
    names = " ".join(each.name for each in found)
    what_goes = "that container" if len(found) == 1 else "those containers"
    does = "stops and removes" if command == "rm -f" else "removes"
    hint = f"`sandbox {command} {names}` {does} {what_goes}"
    damaged = [each.name[:12] for each in found if each.is_damaged]
    if damaged:
        hint += f"; the document of {', '.join(damaged)} is damaged"
    return ObjectInUse(message, users=tuple(each.id for each in found), hint=hint)


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def prune(
    engine: Engine, is_wanted: Callable[[Image], bool], *, unused: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Remove the wanted ones of those without a name, or of all that no container uses.

    Returns the names taken away, the ids removed, images' and layers', and the bytes of
    the layers.
    """
    untagged: list[str] = []
    deleted: list[str] = []
    freed = 0
    in_use = users(engine)
    for image in engine.images():
        is_used = in_use.get(image.id) or in_use.get("")
        if (image.names and not unused) or is_used or not is_wanted(image):
            continue
        names, ids, bytes_ = remove_unused(engine, image)
        untagged += names
        deleted += ids
        freed += bytes_
    engine.store.collect()
    events.append(engine.paths, "image", "prune", "", (("reclaimed", str(freed)),))
    return tuple(untagged), tuple(deleted), freed


def remove_unused(engine: Engine, image: Image) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Remove an image unless it has come into use or got another name; what went, and bytes."""

    def must_stay(there: tuple[str, ...]) -> bool:
        return not set(there) <= set(image.names) or bool(users_of(engine, image.id))

    gone = engine.store.delete(image.id, must_stay)
    if gone is None or not gone.deleted:
        return (), (), 0
    log_removal(engine, image, gone.untagged, image.id)
    freed = sum(x.unpacked_bytes for x in image.layer_records if x.chain_id in gone.deleted[1:])
    return gone.untagged, gone.deleted, freed


def users_of(engine: Engine, image_id: str) -> list[User]:
    """The containers made from an image, and those of which one cannot tell."""
    found = users(engine)
    return found.get(image_id, []) + found.get("", [])


def users(engine: Engine) -> dict[str, list[User]]:
    """The containers by the ids of their images.

    One whose document is damaged uses every image whose id can still be read in it; if
    none can, it is found under the empty id, and may use any.
    """
    found: dict[str, list[User]] = {}
    for container_id in containers.ids(engine.paths):
        try:
            record = containers.read(engine.paths, container_id)
        except ContainerNotFound:
            continue  # being made or removed
        except SandboxError:
            user = User(id=container_id, name=container_id[:12], is_damaged=True)
            for image_id in _readable(engine, container_id) or {""}:
                found.setdefault(image_id, []).append(user)
            continue
        if record.image_id:
            user = User(id=container_id, name=record.name or container_id[:12])
            found.setdefault(record.image_id, []).append(user)
    return found


def _readable(engine: Engine, container_id: str) -> set[str]:
    # Whatever looks like the id of an image that there is.
    try:
        path = f"{engine.paths.container(container_id)}/container.json"
        with open(path, "rb") as file:
            content = file.read(MAX_DAMAGED)
    except OSError:
        return set()
    found = set()
    for part in content.split(b"sha256:")[1:]:
        digits = part[:64]
        if len(digits) == 64 and _HEX.issuperset(digits):
            image_id = f"sha256:{digits.decode()}"
            if os.path.exists(engine.store.id_path(image_id)):
                found.add(image_id)
    return found


def is_built_upon(engine: Engine, image_id: str, ancestor_id: str) -> bool:
    """Whether the layers and the steps of an image begin with all of another's.

    No image says what it was built from; equal steps at equal times are what
    a build hands on.
    """
    try:
        image, ancestor = (
            imageconfig.parse(engine.store.read_blob(each), what=f"image {each}")
            for each in (image_id, ancestor_id)
        )
    except (SandboxError, OSError):
        return False
    layers, steps = len(ancestor.diff_ids), len(ancestor.history)
    goes_on = len(image.diff_ids) > layers or len(image.history) > steps
    return (
        layers + steps > 0
        and goes_on
        and image.diff_ids[:layers] == ancestor.diff_ids
        and image.history[:steps] == ancestor.history
    )


class Step(Record):
    """One step of an image's history; only the last one has the image's id.

    ``created`` is RFC 3339, ``size`` the bytes of the layer that it made, 0 if none.
    """

    image_id: str
    created: str
    created_by: str
    comment: str
    size: int


def history(engine: Engine, name: str) -> tuple[Step, ...]:
    """The steps that an image says it was made by, the last one first.

    Layers beyond those that the history knows of come first, as steps without a text.
    """
    image = engine.store.resolve(name)
    what = f"image {image.id}"
    document = imageconfig.parse(engine.store.read_blob(image.id), what=what)
    sizes = [layer.unpacked_bytes for layer in image.layer_records]
    told = document.history
    untold = len(sizes) - sum(not step.empty_layer for step in told)
    if untold < 0:
        raise DamagedDocument(what=what, problem="its history has more layers than it has")
    steps = [_step("", document.created, "", "", size) for size in sizes[:untold]]
    rest = iter(sizes[untold:])
    steps += [
        _step(
            "", step.created, step.created_by, step.comment, 0 if step.empty_layer else next(rest)
        )
        for step in told
    ]
    if steps:
        last = steps[-1]
        steps[-1] = _step(image.id, last.created, last.created_by, last.comment, last.size)
    return tuple(reversed(steps))


def _step(image_id: str, created: str, created_by: str, comment: str, size: int) -> Step:
    return Step(
        image_id=image_id, created=created, created_by=created_by, comment=comment, size=size
    )
