"""Engine: one store and its containers; everything the programs do goes through here.

An engine holds no lock, no process and no connection: two engines of the same
store, in one process or in many, see each other's work.  Making one does not
touch the disk.
"""

from __future__ import annotations

import os
import time

from ..errors import DamagedDocument, ImageNotFound, SandboxError, UsageError, VolumeNotFound
from ..paths import Paths
from ..record import replace
from ..state import containers, events, lock, names
from . import etc, sweep
from .container import Container
from .status import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, BinaryIO

    from cgroups import Layout

    from ..image.archive import Loaded
    from ..image.check import Checked
    from ..image.store import Image, ImageStore
    from ..image.transfer import Pulled, Pushed, Remote
    from ..state.containers import ContainerRecord
    from ..state.eventlog import Event
    from .container import Attachment
    from .images import Step
    from .launching import Launching, StartAs
    from .networks import Network
    from .options import RunOptions
    from .publishing import Port
    from .result import RunResult
    from .status import Status
    from .summary import Summary
    from .templates import Templates
    from .usage import Usage
    from .volumes import Volume

__all__ = ["Engine"]

_FOLDERS = (
    *("images", "blobs", "layers", "containers", "names", "volumes", "networks"),
    *("staging", "cache"),
)


class Engine:
    """The engine over one store: ``root`` is kept, ``run`` is gone after a reboot.

    Both default to SANDBOX_ROOT and SANDBOX_RUN, then to the usual places.
    ``image_budget`` bounds what images take of the disk (``"20g"``), as SANDBOX_IMAGE_BUDGET
    does; see `sandbox.engine.budget`.
    ``debug``, when set, is called with the text of each launch plan.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        run: str | None = None,
        image_budget: str | int | None = None,
    ) -> None:
        self.paths = Paths.choose(root, run)
        self._image_budget = image_budget
        self.debug: Callable[[str], None] | None = None
        self._store: ImageStore | None = None
        self._layout: Layout | None = None
        self._templates: Templates | None = None

    def __repr__(self) -> str:
        return f"Engine(root={self.paths.root!r}, run={self.paths.run!r})"

    @property
    def image_budget(self) -> str | int | None:
        """What images may take of the disk, as it was asked for; None without a bound."""
        if self._image_budget is not None:
            return self._image_budget
        return os.environ.get("SANDBOX_IMAGE_BUDGET")

    @property
    def store(self) -> ImageStore:
        """The image store."""
        if self._store is None:
            from ..image.store import ImageStore

            self.prepare()
            self._store = ImageStore(self.paths)
        return self._store

    @property
    def layout(self) -> Layout:
        """This host's cgroup hierarchies, looked at once."""
        if self._layout is None:
            from cgroups import detect

            self._layout = detect()
        return self._layout

    @property
    def templates(self) -> Templates:
        """Launch plans of this engine's runs, for the next ones."""
        if self._templates is None:
            from .templates import Templates

            self._templates = Templates(self.paths)
        return self._templates

    def prepare(self) -> None:
        """Make the store's folders, mode 0700; cheap when they are there."""
        paths = self.paths
        if not os.path.isdir(paths.mount_points):
            # Made last: where it is, the others are.
            _make_private(paths.root)
            for name in _FOLDERS:
                _make_private(f"{paths.root}/{name}")
            etc.make_mount_points(paths.mount_points)
        if not os.path.isdir(paths.mount_point):
            _make_private(paths.run)
            _make_private(paths.live)
            # Searched by init, which in a user namespace is nobody here.
            etc.make_folder(paths.mount_point, 0o711)

    # Containers

    def create(self, image: str, command: Iterable[str] = (), /, **keywords: Any) -> Container:
        """Make a container that is ready to start.

        Keywords are the options of ``run``, by their long names; see
        `sandbox.engine.options`.  Raises before anything is left behind.
        """
        # What makes containers is loaded when one is made: `ps` and `rm` do without.
        from .options import parse_options

        container, _launching, held = self._create(parse_options(image, command, keywords), None)
        held.close()
        return container

    def _create(
        self, options: RunOptions, start: StartAs | None
    ) -> tuple[Container, Launching, lock.Lock]:
        """The same from parsed options, with what was decided about the first start.

        The container's lock is held until its first start: one whose maker died
        before that is known by the free lock.
        """
        from .launching import Launching
        from .options import options_document
        from .root import Root

        self.prepare()
        sweep.sweep(self.paths)
        root = Root.of_options(self, options)
        if options.has_volumes or options.volumes_from or root.config.volumes:
            # Most containers have none.
            from .volumes import resolve

            options = resolve(self, options, root.config)
        if containers.is_network(options.network):
            # A default network that is not there yet is made; an id becomes a name.
            from .joining import resolve_name

            name = resolve_name(self, options.network)
            if name != options.network:
                options = replace(options, network=name)
        container_id = containers.new_id()
        record = containers.ContainerRecord(
            id=container_id,
            name=options.name or "",
            created_ns=time.time_ns(),
            image=options.image,
            image_id=root.image_id,
            argv=root.argv(options),
            auto_remove=options.rm,
            made_to_run=start is not None,
            labels=_merged(root.config.labels, options.label),
            options=options_document(options),
        )
        launching = Launching(self, record, options, root)
        try:
            launching.check(start)
        except (OSError, SandboxError) as error:
            if root.image_id and not self.store.has(root.image_id):
                # What was looked for in its layers went with them.
                raise ImageNotFound(options.image) from error
            raise
        held: lock.Lock | None = None
        try:
            held = self._make_locked(container_id)
            if options.name:
                names.take(self.paths, options.name, container_id)
            else:
                name = names.take_any(self.paths, container_id)
                record = replace(record, name=name)
                launching.record = record
            launching.make_folders()
            containers.write(self.paths, record, durable=not options.rm)
            if root.image_id and not self.store.holds(root.image_id):
                # Removed since it was looked up; from here on the document keeps it.
                raise ImageNotFound(options.image)
            launching.make_volumes(is_new=True)
            events.of_container(self.paths, record, "create")
        except BaseException:
            if held is not None:
                held.close()
            names.release(self.paths, record.name, container_id)
            sweep.delete_tree(self.paths.containers, container_id)
            sweep.remove_volumes(self.paths, record)
            raise
        return Container(self, record), launching, held

    def _make_locked(self, container_id: str) -> lock.Lock:
        folder = self.paths.container(container_id)
        while True:
            os.mkdir(folder, 0o700)
            try:
                return lock.take(f"{folder}/lock")
            except FileNotFoundError:
                # Taken for debris, by a sweep that came between the two calls.
                continue

    def start_new(
        self,
        image: str,
        command: Iterable[str] = (),
        /,
        *,
        stdio: tuple[int, int, int] | None = None,
        size: tuple[int, int] = (24, 80),
        with_launcher: bool = False,
        **keywords: Any,
    ) -> Attachment:
        """Create and start in one go; a container that cannot start stays, unless ``rm``."""
        from .launching import StartAs
        from .options import parse_options

        options = parse_options(image, command, keywords)
        start = StartAs(is_attached=stdio is not None, size=size, with_launcher=with_launcher)
        return self.start_options(options, start, stdio)

    def start_options(
        self, options: RunOptions, start: StartAs, stdio: tuple[int, int, int] | None
    ) -> Attachment:
        """The same from parsed options."""
        container, launching, held = self._create(options, start)
        with held:
            return container.start_made(launching, start, stdio)

    def run(
        self,
        image: str,
        command: Iterable[str] = (),
        /,
        *,
        stdin: bytes | None = None,
        check: bool = False,
        **keywords: Any,
    ) -> RunResult:
        """Run a command, wait for its end, and return everything about it.

        ``stdin`` is given to the command and then closed; without it the command
        reads nothing.  The container is removed afterwards unless ``rm=False``,
        and dies with this process.  With ``check`` a verdict other than ``ok``
        raises `RunFailed`.  A command that cannot be executed raises
        `ExecFailed`: there was no run.
        """
        from .capture import capture
        from .options import parse_options

        keywords.setdefault("rm", keywords.get("name") is None)
        keywords.setdefault("log_driver", "none" if keywords["rm"] else "file")
        if stdin is not None:
            keywords["interactive"] = True
        options = parse_options(image, command, keywords)
        if options.tty:
            raise UsageError("a captured run has no terminal: leave tty out")
        return capture(self, options, stdin, check=check)

    def container(self, name: str) -> Container:
        """The container by name, id, or the unambiguous start of an id."""
        sweep.sweep(self.paths)
        return Container(self, containers.read(self.paths, containers.find(self.paths, name)))

    def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container, also one whose document cannot be read, if ``force``."""
        try:
            self.container(name).remove(force=force, volumes=volumes)
        except DamagedDocument:
            if not force:
                raise
            container_id = containers.find(self.paths, name)
            with lock.take(f"{self.paths.container(container_id)}/lock"):
                sweep.end(self.paths, container_id)
                sweep.settle_locked(self.paths, container_id)
                sweep.discard(self.paths, container_id)

    def containers(self, *, all: bool = False) -> tuple[Container, ...]:  # noqa: A002 - docker's word
        """The running containers, or all of them, newest first.

        One whose document is damaged is left out; `damaged` lists those.
        """
        sweep.sweep(self.paths, everything=True)
        found = []
        for container_id in containers.ids(self.paths) if all else _live_ids(self.paths):
            try:
                found.append(Container(self, containers.read(self.paths, container_id)))
            except SandboxError:
                continue
        if not all:
            found = [each for each in found if each.status().is_live]
        return tuple(sorted(found, key=lambda each: each.created_ns, reverse=True))

    def due_for_restart(self) -> tuple[Container, ...]:
        """Those that their restart policies bring back after a reboot, the oldest first.

        Also those whose monitor was lost; starting them is the caller's.
        """
        from .restoring import due

        return due(self)

    def summaries(self, *, all: bool = False) -> tuple[Summary, ...]:  # noqa: A002 - docker's word
        """What ``ps`` shows of the running containers, or all: much faster than `containers`."""
        from .summary import summaries

        return tuple(summaries(self.paths, all=all))

    def ports_of(self, container_id: str) -> tuple[Port, ...]:
        """The ports that the container of this full id offers; none if it does not run."""
        if not os.path.exists(f"{self.paths.live_container(container_id)}/ports"):
            return ()  # as most, and a list asks all
        from .publishing import ports_of

        return ports_of(self.paths, container_id)

    def status(self, container_id: str) -> Status:
        """What the container of this full id is doing."""
        return status_of(self.paths, container_id)

    def events(
        self,
        *,
        since_ns: int | None = None,
        until_ns: int | None = None,
        filters: Mapping[str, Iterable[str]] | None = None,
        follow: bool = False,
    ) -> Iterator[Event]:
        """What has happened to containers, images and volumes, oldest first.

        Times are nanoseconds since the epoch.  ``follow`` waits for more, until
        ``until_ns`` or for ever; without times it begins now.  ``filters`` are
        docker's, by name: any of a filter's values is enough, and of labels all are
        needed.  The log is bounded: the oldest events are gone.
        """
        from . import events as log

        return log.read(
            self.paths,
            since_ns=since_ns,
            until_ns=until_ns,
            filters=filters or {},
            follow=follow,
        )

    def sweep(self) -> None:
        """Take back whatever the dead left."""
        sweep.sweep(self.paths, everything=True)
        self.store.sweep_staging()

    # Volumes

    def volumes(self) -> tuple[Volume, ...]:
        """All volumes, by name.  One whose document is damaged is left out."""
        from .volumes import listing

        return tuple(listing(self)[0])

    def volume(self, name: str) -> Volume:
        """The volume of this name.  `VolumeNotFound`, or `DamagedDocument`."""
        from ..state import volumes
        from .volumes import Volume

        return Volume(self, volumes.read(self.paths, name))

    def create_volume(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or find the one that has the name; without one it gets 64 random digits.

        ``options`` are the driver's: ``type=none``, ``o=bind`` and ``device=FOLDER`` make
        a name for a folder of the host.
        """
        from .volumes import create

        return create(self, name, driver=driver, labels=labels or {}, options=options or {})

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume with everything in it; with ``force`` a missing one is no error.

        Raises `ObjectInUse` with the containers that have it, running or not.
        """
        from .volumes import remove

        try:
            remove(self.paths, name)
        except VolumeNotFound:
            if not force:
                raise

    def prune_volumes(
        self,
        *,
        all: bool = False,  # noqa: A002 - docker's word
        labels: Iterable[str] = (),
    ) -> tuple[tuple[str, ...], int]:
        """Remove the anonymous volumes that no container has, or ``all`` such volumes.

        ``labels`` are ``KEY`` or ``KEY=VALUE``, and all of them must be there.  Returns the
        names, and the bytes they took.
        """
        from .volumes import has_labels, prune

        wanted = tuple(labels)
        return prune(
            self, lambda each: (all or each.is_anonymous) and has_labels(each.labels, wanted)
        )

    # Networks

    def networks(self) -> tuple[Network, ...]:
        """All networks, by name.  One whose document is damaged is left out."""
        from .networks import listing

        return tuple(listing(self)[0])

    def network(self, name: str) -> Network:
        """The network by name, id, or the start of an id.  `NetworkNotFound`, `DamagedDocument`."""
        from .networks import Network, find

        return Network(self, find(self, name))

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Iterable[str] = (),
        gateways: Iterable[str] = (),
        ip_ranges: Iterable[str] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network.  Without a subnet, one that nobody on this host has is chosen.

        Gateways and ranges belong to the subnet that they lie in.  ``internal`` has no way
        out.  ``options`` are docker's, for the MTU and masquerading.  Raises `UsageError`,
        `Conflict` for a name or addresses that are taken, `HostLacks`.
        """
        from .networks import create

        return create(
            self,
            name,
            driver=driver,
            subnets=subnets,
            gateways=gateways,
            ip_ranges=ip_ranges,
            internal=internal,
            ipv6=ipv6,
            labels=labels or {},
            options=options or {},
        )

    def remove_network(self, name: str) -> str:
        """Remove a network; returns its name.  `ObjectInUse` while a running container is on it."""
        from .networks import remove

        return remove(self, name)

    def prune_networks(
        self,
        is_wanted: Callable[[Network], bool] = lambda _network: True,
    ) -> tuple[str, ...]:
        """Remove the networks that no container has, running or not; returns their names."""
        from .networks import prune

        return prune(self, is_wanted)

    # Images

    def images(self) -> tuple[Image, ...]:
        """All images, newest first; what cannot be read is in ``store.problems``."""
        self.store.sweep_staging()
        return self.store.images()

    def image(self, name: str) -> Image:
        """The image by reference, id, or the unambiguous start of an id."""
        return self.store.resolve(name)

    def load(
        self, source: str | int, *, progress: Callable[..., None] | None = None
    ) -> tuple[Loaded, ...]:
        """Load every image of an archive, a layout folder, or an open descriptor."""
        from ..image.archive import load
        from .events import log_image

        self.check_budget()
        found = load(self.store, source, progress=progress)
        for each in found:
            log_image(self, "load", each.image_id)
        self.keep_to_budget(*(each.image_id for each in found))
        return found

    def save(
        self,
        names: Iterable[str],
        out: BinaryIO,
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """Write images as one archive that is OCI's and docker's at once; see ``load``."""
        from ..image.saving import save
        from .events import log_image

        for saved in save(self.store, names, out, progress=progress):
            log_image(self, "save", saved.image.id)

    def check_images(
        self,
        names: Iterable[str] = (),
        *,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Checked:
        """Verify these images again, or the whole store: blobs by their digests, trees by blobs."""
        from ..image.check import check

        chosen = [self.store.resolve(name) for name in names]
        return check(self.store, chosen or None, progress=progress)

    def prune_images(
        self, is_wanted: Callable[[Image], bool] = lambda _image: True, *, unused: bool = False
    ) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Remove images without a name, or all that no container uses.

        Returns the names taken, the ids removed (images' and layers') and the bytes freed.
        """
        from .images import prune

        return prune(self, is_wanted, unused=unused)

    def usage(self) -> Usage:
        """What images, containers and volumes take of the disk, as du(1) counts it."""
        from .usage import usage

        return usage(self)

    def history(self, name: str) -> tuple[Step, ...]:
        """The steps that an image says it was made by, the last one first."""
        from .images import history

        return history(self, name)

    def import_image(
        self, source: int, name: str = "", *, changes: Iterable[str] = (), message: str = ""
    ) -> str:
        """Make an image of one layer from a tar of a root; returns its id."""
        from ..image.importing import import_rootfs
        from .events import log_image

        self.check_budget()
        made = import_rootfs(self.store, source, name, changes=tuple(changes), message=message)
        log_image(self, "import", made)
        self.keep_to_budget(made)
        return made

    @property
    def remote(self) -> Remote:
        """Registries, by the environment and docker's configuration as they are now."""
        from ..image.transfer import Remote

        return Remote.choose(self.paths.root, self.paths.certificates)

    def pull(
        self,
        ref: str,
        *,
        platform: str | None = None,
        progress: Callable[[str, str, int, int], None] | None = None,
    ) -> Pulled:
        """Bring an image from its registry.

        ``platform`` is ``OS/ARCHITECTURE[/VARIANT]``, this host's by default.  ``progress`` is
        called, also from other threads, with whose progress it is, its status, and bytes
        done and in total.
        """
        from ..image.transfer import pull
        from ..oci import reference
        from .events import log_name

        name = reference.parse(ref)
        self.check_budget()
        pulled = pull(self.store, self.remote, name, platform=platform, progress=progress)
        log_name(self, "pull", ref)
        self.keep_to_budget(pulled.image_id)
        return pulled

    def push(
        self, ref: str, *, progress: Callable[[str, str, int, int], None] | None = None
    ) -> Pushed:
        """Give an image to the registry that its name says."""
        from ..image.transfer import push
        from ..oci import reference
        from .events import log_name

        pushed = push(self.store, self.remote, reference.parse_name(ref), progress=progress)
        log_name(self, "push", ref)
        return pushed

    def check_budget(self) -> None:
        """Refuse a budget that is no size, before anything is done.  `UsageError`."""
        if self.image_budget:
            from .budget import parse_budget

            parse_budget(self.image_budget)

    def keep_to_budget(self, *keep: str) -> tuple[str, ...]:
        """Remove images that are over the budget, but not these ids; the ids of those removed.

        Done by itself when an image has come.  See `sandbox.engine.budget`.
        """
        if not self.image_budget:
            return ()
        from .budget import keep_to_budget

        return keep_to_budget(self, frozenset(keep))

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name."""
        from .events import log_name

        image_id = self.store.resolve(image).id
        self.store.tag(image_id, name)
        log_name(self, "tag", name, image_id)

    def remove_image(self, name: str, *, force: bool = False) -> tuple[tuple[str, ...], str | None]:
        """Take a name from an image, and remove the image with its last one.

        Returns the names taken and the id removed, if it was.  Refuses, with
        the containers in the way, when it is in use.
        """
        from .images import remove_image

        return remove_image(self, name, force=force)

    def image_size(self, record: ContainerRecord) -> int:
        """Bytes of a container's image; 0 for a plain folder."""
        if not record.image_id:
            return 0
        try:
            return self.store.resolve(record.image_id).size
        except SandboxError:
            return 0

    def stop_signal(self, record: ContainerRecord, options: RunOptions) -> str:
        """What ``stop`` sends: asked for, the image's, or SIGTERM."""
        if options.stop_signal:
            return options.stop_signal
        if record.image_id:
            try:
                return self.store.resolve(record.image_id).config.stop_signal or "TERM"
            except SandboxError:
                pass
        return "TERM"


# The engines of `sandbox.run`, by store.  They hold what was learnt of the host and of plans, and
# nothing of a run; a caller who wants none of it makes an Engine of its own.
_DEFAULTS: dict[tuple[str, str], Engine] = {}


def default_engine() -> Engine:
    """The engine of the store that the environment names now, made once."""
    paths = Paths.choose()
    engine = _DEFAULTS.get((paths.root, paths.run))
    if engine is None:
        engine = _DEFAULTS[paths.root, paths.run] = Engine(root=paths.root, run=paths.run)
    return engine


def _make_private(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)


def _live_ids(paths: Paths) -> list[str]:
    try:
        return [name for name in os.listdir(paths.live) if containers.is_id(name)]
    except FileNotFoundError:
        return []


def _merged(
    first: tuple[tuple[str, str], ...], second: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    return tuple((dict(first) | dict(second)).items())
