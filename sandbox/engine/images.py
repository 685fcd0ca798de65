"""Remove images, by docker's rules on who is in the way."""

from __future__ import annotations

from ..errors import DamagedDocument, ObjectInUse, SandboxError
from ..oci import imageconfig
from ..record import Record
from ..state import containers, events
from .events import log_removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.store import Image
    from ..state.containers import ContainerRecord
    from .engine import Engine


def remove_image(engine: Engine, name: str, *, force: bool) -> tuple[tuple[str, ...], str | None]:
    """Names taken away, and the id removed, if it was; `ObjectInUse` names who is in the way."""
    found = engine.store.resolve(name, all_names=False)
    image = engine.store.resolve(found.id)
    untagged, deleted = _remove(engine, name, found, image, force=force)
    log_removal(engine, image, untagged, deleted)
    return untagged, deleted


def _remove(
    engine: Engine, name: str, found: Image, image: Image, *, force: bool
) -> tuple[tuple[str, ...], str | None]:
    store = engine.store
    short = image.id.removeprefix("sha256:")[:12]
    users = users_of(engine, image.id)
    if found.names:
        if len(image.names) > 1:
            return (store.untag(name),), None
        if users and not force:
            raise ObjectInUse(
                f'conflict: unable to remove repository reference "{name}" (must force) - '
                f"container {users[0].id[:12]} is using its referenced image {short}",
                users=tuple(each.id for each in users),
                hint=f"`sandbox rm {users[0].name}` removes that container",
            )
        if users:
            # In use: the name goes, the image stays.
            return (store.untag(name),), None
    else:
        running = [each for each in users if engine.status(each.id).is_live]
        if running:
            raise ObjectInUse(
                f"conflict: unable to delete {short} (cannot be forced) - "
                f"image is being used by running container {running[0].id[:12]}",
                users=tuple(each.id for each in running),
                hint=f"`sandbox rm -f {running[0].name}` stops and removes that container",
            )
        if users and not force:
            raise ObjectInUse(
                f"conflict: unable to delete {short} (must be forced) - "
                f"image is being used by stopped container {users[0].id[:12]}",
                users=tuple(each.id for each in users),
                hint=f"`sandbox rm {users[0].name}` removes that container",
            )
        if len(image.names) > 1 and not force:
            raise ObjectInUse(
                f"conflict: unable to delete {short} (must be forced) - "
                "image is referenced in multiple repositories",
                hint=f"`sandbox rmi {' '.join(image.names)}` removes all of its names",
            )
    gone = store.delete(image.id, in_use=image.layers if users else ())
    return gone.untagged, image.id


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
    for image in engine.images():
        # Who uses it is asked last, as near to its removal as can be.
        if (image.names and not unused) or not is_wanted(image) or users_of(engine, image.id):
            continue
        gone = engine.store.delete(image.id)
        log_removal(engine, image, gone.untagged, image.id)
        untagged += gone.untagged
        deleted += gone.deleted
        freed += sum(
            layer.unpacked_bytes
            for layer in image.layer_records
            if layer.chain_id in gone.deleted[1:]
        )
    events.append(engine.paths, "image", "prune", "", (("reclaimed", str(freed)),))
    return tuple(untagged), tuple(deleted), freed


def users_of(engine: Engine, image_id: str) -> list[ContainerRecord]:
    """The containers made from an image."""
    found = []
    for container_id in containers.ids(engine.paths):
        try:
            record = containers.read(engine.paths, container_id)
        except SandboxError:
            continue
        if record.image_id == image_id:
            found.append(record)
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
