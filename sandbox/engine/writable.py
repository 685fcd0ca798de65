"""A container's writable layer: what it changes, and an image made of it."""

from __future__ import annotations

import os
from contextlib import contextmanager

from ..errors import ContainerNotFound, UsageError
from ..layer import pack, whiteout
from ..layer.diff import changes as changes_of
from ..record import Record, replace
from ..state import events
from . import disk, sweep, verbs
from .root import Root
from .specify import id_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ..layer.diff import Change
    from ..oci.imageconfig import ImageConfig
    from .container import Container


class Upper(Record):
    """The folder, and how overlayfs' own attributes begin in it."""

    path: str
    overlay: str


@contextmanager
def _upper_of(container: Container) -> Iterator[Upper]:
    """Where it is; one on a disk of its own is mounted meanwhile, by who holds the lock."""
    # trusted.* is out of reach of a user namespace.
    maps = any(id_maps(container.options)) or os.geteuid() != 0
    overlay = pack.OVERLAY_ROOTLESS if maps else pack.OVERLAY
    if container.options.storage_size is None:
        yield Upper(path=f"{container.folder}/upper", overlay=overlay)
        return
    fd = disk.mount(container)
    try:
        yield Upper(path=f"/proc/self/fd/{fd}/upper", overlay=overlay)
    finally:
        os.close(fd)


def diff(container: Container) -> tuple[Change, ...]:
    """What was added, changed and deleted in it."""
    if container.options.storage_size is None:
        return _diff(container)
    with container._lock():
        sweep.settle_locked(container._paths, container.id)
        return _diff(container)


def _diff(container: Container) -> tuple[Change, ...]:
    root = Root.of_record(container._engine, container._record, container.options)
    with _upper_of(container) as upper:
        is_rootless = upper.overlay == pack.OVERLAY_ROOTLESS
        try:
            return changes_of(
                upper.path,
                root.all_lowers(container._engine),
                opaque_xattr=(
                    whiteout.OPAQUE_XATTR_ROOTLESS if is_rootless else whiteout.OPAQUE_XATTR
                ),
            )
        except FileNotFoundError:
            raise ContainerNotFound(container.name) from None


def commit(
    container: Container,
    reference: str,
    *,
    author: str,
    message: str,
    changes: tuple[str, ...],
    is_paused: bool,
) -> str:
    """Make an image of it; the image's id."""
    from ..image import changes as config_changes
    from ..image.committing import commit_layer
    from ..oci.reference import parse_name

    names = (parse_name(reference),) if reference else ()
    if not container.image_id:
        raise UsageError(
            f"container {container.id} was not made of an image, so there is none to commit to",
            hint="a tar of its root becomes an image with `sandbox import`",
        )
    store = container._engine.store
    image = store.resolve(container.image_id)
    config = config_changes.apply(_config(container, image.config), changes)
    below = image.layers[-1] if image.layers else container._engine.paths.mount_points

    def write_layer(fd: int) -> bool:
        with container._lock():
            sweep.settle_locked(container._paths, container.id)
            sweep.go_on_locked(container._paths, container.id)
            with _held(container, is_paused=is_paused), _upper_of(container) as upper:
                return _pack(container, upper, below, fd)

    try:
        made = commit_layer(
            store,
            image,
            write_layer,
            config=config,
            names=names,
            author=author,
            message=message,
            created_by=" ".join(container.command),
        )
        facts = (("comment", message), ("imageID", made), ("imageRef", reference))
        events.of_container(container._paths, container.record, "commit", *facts)
        container._engine.keep_to_budget(made)
        return made
    finally:
        # Who came to settle it while it was held has gone away again.
        sweep.settle(container._paths, container.id)


def _held(container: Container, *, is_paused: bool) -> AbstractContextManager[None]:
    from contextlib import nullcontext

    return verbs.standing_still(container) if is_paused else nullcontext()


def _pack(container: Container, upper: Upper, below: str, out: int) -> bool:
    try:
        fd = os.open(upper.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ContainerNotFound(container.name) from None
    try:
        # The root has an entry when it is not what the layers below say.
        is_same = _facts(os.fstat(fd)) == _facts(os.stat(below))
        name = "" if is_same else "."
        return pack.pack_layer(fd, out, name=name, overlay=upper.overlay).entries > 0
    finally:
        os.close(fd)


def _facts(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _config(container: Container, config: ImageConfig) -> ImageConfig:
    """What the image says, and over it what was asked for of the container."""
    options = container.options
    env = dict(text.partition("=")[::2] for text in config.env) | dict(options.env)
    entrypoint, command = config.entrypoint, options.command or config.cmd
    if options.entrypoint is not None:
        entrypoint, command = options.entrypoint or None, options.command or None
    healthcheck = config.healthcheck
    if options.no_healthcheck or options.has_health_options:
        from .health import healthcheck_of  # with all that makes containers

        healthcheck = healthcheck_of(options, config)
    unnamed = (each.target for each in options.volume if each.anonymous and not each.inherited)
    return replace(
        config,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        entrypoint=entrypoint,
        cmd=command,
        user=config.user if options.user is None else options.user,
        working_dir=options.workdir or config.working_dir,
        labels=container.labels,
        stop_signal=options.stop_signal or config.stop_signal,
        healthcheck=healthcheck,
        volumes=tuple(dict.fromkeys([*config.volumes, *unnamed])),
    )
