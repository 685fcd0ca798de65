"""Volumes: those of a container made and filled before it runs, listed, and removed.

A container's document names its volumes before they are made, and is gone
before they are removed; a remover looks at all documents under the volume's
lock.  So whoever holds that lock sees everybody who may come to use it.

A volume that is empty gets what the image has at its place.  That is copied
into the staging folder, becomes ``volumes/<name>/fill`` by one rename, and is
moved from there; broken off after the rename, the next user finishes it.
"""

from __future__ import annotations

import errno
import os
import time

from ..errors import (
    DamagedDocument,
    HostLacks,
    ObjectInUse,
    StoreError,
    StoreFull,
    UsageError,
    VolumeNotFound,
)
from ..record import replace
from ..runtime.mounts import normalize
from ..state import containers, events, lock, volumes
from ..state.volumes import VolumeRecord
from . import sweep
from .options import VolumeMount, check_volume_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..jsontext import Json
    from ..oci.imageconfig import ImageConfig
    from ..paths import Paths
    from .engine import Engine
    from .options import RunOptions
    from .root import Root

MAX_IMAGE_VOLUMES = 256
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Volume:
    """One volume of an engine, as its document was when it was read."""

    def __init__(self, engine: Engine, record: VolumeRecord) -> None:
        self._paths = engine.paths
        self._record = record

    def __repr__(self) -> str:
        return f"Volume({self.name!r})"

    @property
    def name(self) -> str:
        """The name; 64 hexadecimal digits when nobody gave it one."""
        return self._record.name

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch."""
        return self._record.created_ns

    @property
    def driver(self) -> str:
        """Who keeps it: ``local``."""
        return self._record.driver

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Its labels; an anonymous volume has docker's mark of one."""
        mark = ((ANONYMOUS_LABEL, ""),) if self.is_anonymous else ()
        return (*mark, *self._record.labels)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """The driver's options."""
        return self._record.options

    @property
    def is_anonymous(self) -> bool:
        """It was made for a container, without a name."""
        return self._record.anonymous

    @property
    def mountpoint(self) -> str:
        """The folder that containers see."""
        return f"{self._paths.volume(self.name)}/{volumes.DATA}"

    def users(self) -> tuple[str, ...]:
        """The ids of the containers that have it, running or not."""
        return volumes.users(self._paths, (self.name,))[self.name]

    def size(self) -> int:
        """Bytes of the files in it."""
        from ..native import tree_size

        try:
            fd = os.open(self.mountpoint, _FOLDER)
        except FileNotFoundError:
            return 0
        try:
            return tree_size(fd)[0]
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove it with everything in it.  `ObjectInUse` while a container has it."""
        remove(self._paths, self.name)

    def inspect(self) -> dict[str, Json]:
        """Docker's document about it."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created_ns // 10**9))
        return {
            "CreatedAt": seconds,
            "Driver": self.driver,
            "Labels": dict(self.labels) or None,
            "Mountpoint": self.mountpoint,
            "Name": self.name,
            "Options": dict(self.options) or None,
            "Scope": "local",
        }


def create(
    engine: Engine, name: str, *, driver: str, labels: Mapping[str, str], options: Mapping[str, str]
) -> Volume:
    """Make a volume, or find the one that has the name."""
    engine.prepare()
    if name:
        check_volume_name(name)
    wanted = VolumeRecord(
        name=name or containers.new_id(),
        created_ns=time.time_ns(),
        driver=driver,
        labels=tuple(labels.items()),
        options=tuple(options.items()),
        anonymous=not name,
    )
    check_driver(wanted.name, driver, options)
    _make(engine.paths, wanted, durable=True)
    return Volume(engine, volumes.read(engine.paths, wanted.name))


def listing(engine: Engine) -> tuple[list[Volume], list[DamagedDocument]]:
    """All volumes by name, and what is wrong with those that cannot be read."""
    found, problems = [], []
    for name in volumes.names(engine.paths):
        try:
            found.append(Volume(engine, volumes.read(engine.paths, name)))
        except VolumeNotFound:
            continue
        except DamagedDocument as error:
            problems.append(error)
    return found, problems


def users(engine: Engine, found: Iterable[Volume]) -> dict[str, tuple[str, ...]]:
    """By name, the ids of the containers that have each of them, with one look at all."""
    return volumes.users(engine.paths, [volume.name for volume in found])


def remove(paths: Paths, name: str) -> None:
    """Remove a volume.  `VolumeNotFound`, or `ObjectInUse` with the containers that have it."""
    if not volumes.is_name(name):
        raise VolumeNotFound(name)
    folder = paths.volume(name)
    try:
        held = lock.take(f"{folder}/lock")
    except (FileNotFoundError, NotADirectoryError):
        raise VolumeNotFound(name) from None
    trash = f"{sweep.TRASH}{os.urandom(16).hex()}"
    with held:
        ids = volumes.users(paths, (name,))[name]
        if ids:
            raise ObjectInUse(f"remove {name}: volume is in use - [{', '.join(ids)}]", users=ids)
        os.rename(folder, f"{paths.staging}/{trash}")
        _log(paths, "destroy", name)
    sweep.delete_tree(paths.staging, trash)


def remove_unused(paths: Paths, names: Iterable[str]) -> None:
    """Remove these volumes of a container that is gone, unless others have them too."""
    for name in names:
        try:
            remove(paths, name)
        except (VolumeNotFound, ObjectInUse):
            continue


def prune(engine: Engine, is_wanted: Callable[[Volume], bool]) -> tuple[tuple[str, ...], int]:
    """Remove the wanted ones that no container has; their names, and the bytes they took."""
    found, _problems = listing(engine)
    wanted = [volume for volume in found if is_wanted(volume)]
    used = users(engine, wanted)
    removed, freed = [], 0
    for volume in wanted:
        if used[volume.name]:
            continue
        try:
            size = volume.size()
            volume.remove()
        except (VolumeNotFound, ObjectInUse):
            continue  # somebody else was faster
        removed.append(volume.name)
        freed += size
    events.append(engine.paths, "volume", "prune", "", (("reclaimed", str(freed)),))
    return tuple(removed), freed


def has_labels(labels: Iterable[tuple[str, str]], wanted: Iterable[str]) -> bool:
    """All of ``KEY`` or ``KEY=VALUE`` are among the labels."""
    there = dict(labels)
    pairs = (text.partition("=") for text in wanted)
    return all(key in there and (not equals or there[key] == value) for key, equals, value in pairs)


# For one container


def resolve(engine: Engine, options: RunOptions, config: ImageConfig) -> RunOptions:
    """The options with all their mounts: of other containers, and of the image; each has a name.

    What was asked for is mounted over what other containers have, and the image's
    volumes only where nothing else is.
    """
    mounts: dict[str, VolumeMount] = {}
    for text in options.volumes_from:
        for mount in _mounts_of(engine, text):
            mounts[normalize(mount.target)] = mount
    for mount in options.volume:
        mount = replace(mount, target=normalize(mount.target))
        if mount.kind == "volume" and not mount.source:
            mount = replace(mount, source=containers.new_id(), anonymous=True)
        mounts[mount.target] = mount
    covered = {normalize(each.target) for each in options.tmpfs}
    if len(config.volumes) > MAX_IMAGE_VOLUMES:
        raise UsageError(f"the image has {len(config.volumes)} volumes, over {MAX_IMAGE_VOLUMES}")
    for path in config.volumes:
        target = normalize(f"/{path}")
        if target == "/" or "\0" in target:
            raise UsageError(f"the image has an invalid volume: {path!r}")
        if target not in covered and target not in mounts:
            mounts[target] = VolumeMount(
                kind="volume", source=containers.new_id(), target=target, anonymous=True
            )
    return replace(options, volume=tuple(mounts.values()))


def make_ready(
    engine: Engine, options: RunOptions, root: Root, *, is_new: bool, durable: bool
) -> None:
    """Make the volumes of a container that are not there, and fill the empty ones if it ``is_new``.

    Called when the container's document is written.
    """
    paths, empty = engine.paths, []
    for mount in options.volume:
        if mount.kind != "volume":
            continue
        record = VolumeRecord(
            name=mount.source,
            created_ns=time.time_ns(),
            labels=mount.labels,
            options=mount.driver_options,
            anonymous=mount.anonymous,
        )
        is_made = _make(paths, record, durable=durable)
        is_wanted = (is_made or is_new) and not mount.nocopy and not root.is_host
        if is_wanted and _is_empty(_data(paths, mount.source)) and not device_of(paths, mount):
            empty.append(mount)
    if empty and root.lowers:
        _fill_all(engine, empty, root, durable=durable)


def device_of(paths: Paths, mount: VolumeMount) -> tuple[str, ...]:
    """Where a volume is that is no folder of the engine's: its source and words; or nothing."""
    options = dict(mount.driver_options)
    try:
        options = dict(volumes.read(paths, mount.source).options)
    except VolumeNotFound:
        pass
    if not options:
        return ()
    return (options["device"], *options["o"].split(","))


def check_driver(name: str, driver: str, options: Mapping[str, str]) -> None:
    """Refuse what the one driver cannot do, in docker's words where it has them."""
    if driver != volumes.DRIVER:
        raise UsageError(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )
    for key in options:
        if key not in ("type", "o", "device"):
            raise UsageError(f'create {name}: invalid option: "{key}"')
    if not options:
        return
    for key in ("device", "type"):
        if not options.get(key):
            raise UsageError(f'create {name}: missing required option: "{key}"')
    words = options.get("o", "").split(",")
    kind, device = options["type"], options["device"]
    if kind != "none" or not {"bind", "rbind"} & set(words):
        raise UsageError(
            f"create {name}: only type=none with o=bind is supported, not type={kind}",
            hint="--tmpfs, or --mount type=tmpfs, gives a container one of its own",
        )
    unknown = set(words) - {"bind", "rbind", "ro", "rw"}
    if unknown:
        raise UsageError(f"create {name}: invalid mount option {sorted(unknown)[0]!r} in o")
    if not device.startswith("/") or "\0" in device:
        raise UsageError(f"create {name}: device must be an absolute path, not {device!r}")


def _mounts_of(engine: Engine, text: str) -> list[VolumeMount]:
    """What ``--volumes-from CONTAINER[:ro|rw]`` brings: all but what is the container's alone."""
    name, colon, mode = text.partition(":")
    if not name:
        raise UsageError(f"malformed volumes-from specification: {text}")
    if colon and mode not in ("ro", "rw", "z", "Z"):
        raise UsageError(f"invalid volumes-from specification: invalid mode: {mode}")
    readonly = mode == "ro"
    return [
        replace(mount, readonly=mount.readonly or readonly, inherited=True)
        for mount in engine.container(name).options.volume
        if mount.kind != "tmpfs"
    ]


def _make(paths: Paths, record: VolumeRecord, *, durable: bool) -> bool:
    """There is a volume of the name afterwards, and no half filled one; True if it is new."""
    while True:
        is_made = volumes.make(paths, record, durable=durable)
        try:
            with lock.take(f"{paths.volume(record.name)}/lock"):
                _finish_filling(paths, record.name)
        except FileNotFoundError:
            # Removed in between, by one who had not seen us yet.
            continue
        if is_made:
            _log(paths, "create", record.name)
        return is_made


def log_mounts(engine: Engine, options: RunOptions, container_id: str) -> None:
    """Tell of each volume that a start mounts; that it is let go tells who settles the run."""
    for mount in options.volume:
        if mount.kind == "volume":
            facts = (
                ("container", container_id),
                ("destination", mount.target),
                ("driver", volumes.DRIVER),
                ("propagation", ""),
                ("read/write", "false" if mount.readonly else "true"),
            )
            events.append(engine.paths, "volume", "mount", mount.source, facts)


def _log(paths: Paths, action: str, name: str) -> None:
    events.append(paths, "volume", action, name, (("driver", volumes.DRIVER),))


def _fill_all(engine: Engine, mounts: Iterable[VolumeMount], root: Root, *, durable: bool) -> None:
    # Loading the native module costs milliseconds: for runs that fill something.
    from .. import native

    paths = engine.paths
    try:
        view = native.open_view(
            root.all_lowers(engine), mount_point=paths.mount_point, is_readonly=True
        )
    except native.Fault as fault:
        raise HostLacks(
            f"cannot look into the image to fill a volume: {fault.call} {fault.entry}: "
            f"{os.strerror(fault.errno).lower()}",
            hint="the option nocopy (-v NAME:PATH:nocopy) leaves it empty",
        ) from fault
    try:
        for mount in mounts:
            try:
                _fill(paths, view, mount, durable=durable)
            except OSError as error:
                if error.errno in _FULL:
                    raise StoreFull(paths.volumes) from error
                raise StoreError(
                    f"cannot copy what the image has in {mount.target} into volume "
                    f"{mount.source}: {(error.strerror or '').lower()}",
                    hint="the option nocopy (-v NAME:PATH:nocopy) leaves it empty",
                ) from error
    finally:
        os.close(view)


def _fill(paths: Paths, view: int, mount: VolumeMount, *, durable: bool) -> None:
    from .. import native

    try:
        source = native.open_in_root(view, mount.target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return
        raise
    try:
        staged, held = volumes.stage(paths)
        with held:
            try:
                os.mkdir(f"{staged}/{volumes.FILL}", 0o700)
                target = os.open(f"{staged}/{volumes.FILL}", _FOLDER)
                try:
                    native.copy_tree(source, target, durable=durable)
                finally:
                    os.close(target)
                folder = paths.volume(mount.source)
                with lock.take(f"{folder}/lock"):
                    # Another container may have filled it while we copied.
                    if _is_empty(f"{folder}/{volumes.DATA}"):
                        os.rename(f"{staged}/{volumes.FILL}", f"{folder}/{volumes.FILL}")
                        _finish_filling(paths, mount.source)
            finally:
                sweep.delete_tree(paths.staging, os.path.basename(staged))
    finally:
        os.close(source)


def _finish_filling(paths: Paths, name: str) -> None:
    """Move a complete copy into the volume, by the one who holds its lock."""
    folder = paths.volume(name)
    if not os.path.isdir(f"{folder}/{volumes.FILL}"):
        return
    from .. import native

    source = os.open(f"{folder}/{volumes.FILL}", _FOLDER)
    try:
        target = os.open(f"{folder}/{volumes.DATA}", _FOLDER)
        try:
            native.move_tree(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)
    sweep.delete_tree(folder, volumes.FILL)


def _data(paths: Paths, name: str) -> str:
    return f"{paths.volume(name)}/{volumes.DATA}"


def _is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None
