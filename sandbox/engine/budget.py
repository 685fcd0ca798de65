"""A bound for what images take of the disk: those not used for longest go first.

``SANDBOX_IMAGE_BUDGET`` or ``Engine(image_budget=...)``: a size in docker's units, blocks of
unpacked layers and blobs, each once, as ``system df`` counts them.  It is looked at when an
image has come.  Never removed are images of containers, in whatever state, and the one that
has just come; so the budget can be exceeded, and a load does not fail over it.

An image's last use is the time of its document: when it came, and each container made of it.
"""

from __future__ import annotations

import os

from ..errors import SandboxError, UsageError
from .images import remove_unused, users
from .units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.store import Image
    from .engine import Engine


def parse_budget(value: str | int | None) -> int | None:
    """Bytes; None where there is no bound.  Raises `UsageError`."""
    if value is None or value == "":
        return None
    try:
        return parse_size(value)
    except ValueError as error:
        raise UsageError(f"SANDBOX_IMAGE_BUDGET: {error}") from None


def keep_to_budget(engine: Engine, keep: frozenset[str]) -> tuple[str, ...]:
    """Remove what is over the budget; the ids of the images that went.

    ``keep`` are the images that have just come.
    """
    budget = parse_budget(engine.image_budget)
    if budget is None:
        return ()
    from .usage import parts, parts_of

    images = engine.images()
    sizes = parts(engine)
    taken = sum(sizes.values())
    if taken <= budget:
        return ()
    in_use = users(engine)
    if in_use.get(""):
        return ()  # of a damaged container one cannot tell what it needs
    removed = []
    left = {image.id: parts_of(engine, image) for image in images}
    for image in sorted(images, key=lambda each: (_last_use(engine, each), each.id)):
        if taken <= budget:
            break
        if image.id in keep or in_use.get(image.id):
            continue
        gone = left.pop(image.id)
        freed = sum(sizes.get(each, 0) for each in gone.difference(*left.values()))
        try:
            _names, ids, _bytes = remove_unused(engine, image)
        except SandboxError:
            ids = ()  # another was first
        if ids:
            removed.append(image.id)
            taken -= freed
        else:
            left[image.id] = gone
    return tuple(removed)


def _last_use(engine: Engine, image: Image) -> int:
    try:
        return os.stat(engine.store.id_path(image.id)).st_mtime_ns
    except FileNotFoundError:
        return 0
