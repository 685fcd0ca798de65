"""A container's root as its program sees it, held from outside by one descriptor.

Running: the root of its first process, through a handle on that process; volumes
and tmpfs are there.  At rest: the overlay of its layers with its volumes, as a tree
of mounts that is attached nowhere (``native/view.c``); no mount appears on the host,
and the kernel takes all of it back with the last descriptor.

What is below the descriptor is the container's, who may change it at any moment: a
path becomes a handle by `RootView.open`, which never leaves the root.
"""

from __future__ import annotations

import os
import stat

from ..errors import ContainerNotFound, HostLacks, WrongStatus
from ..monitor import protocol
from ..native import Bind, Fault, open_in_root, open_view
from ..runtime import identity, mounts
from ..state import lock
from ..state.document import read_bytes
from . import disk, sweep
from .root import Root
from .specify import id_maps, mounts_of
from .status import RESTARTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from .container import Container

    IdRanges = tuple[tuple[int, int, int], ...]

_O_PATH_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TRIES = 50
# What every start mounts anew; a bind below one of them is of no use without it.
_FRESH = ("/dev", "/proc", "/sys")


class RootView:
    """A container's root; `close` lets it go, and may be called twice.

    ``uids`` and ``gids`` are the ranges (inside, outside, count) of a running user
    namespace: ids of its files are seen from here as the host has them.  At rest, and
    without one, they are empty, and files have the ids that the container sees.
    """

    def __init__(
        self, container: Container, fd: int, *, uids: IdRanges = (), gids: IdRanges = ()
    ) -> None:
        self.container = container
        self.fd = fd
        self.uids, self.gids = uids, gids
        self._held: lock.Lock | None = None

    @classmethod
    def of(cls, container: Container, *, writable: bool, with_mounts: bool = True) -> RootView:
        """Open it.

        A ``writable`` view of one at rest, or one of a disk, holds its lock until it
        is closed, so that it does not start meanwhile.  ``with_mounts`` False leaves out the
        volumes of one at rest.  Raises `WrongStatus` and `HostLacks`.
        """
        for _ in range(_TRIES):
            fd = _open_running(container)
            if fd is not None:
                maps = id_maps(container.options)
                uids, gids = (
                    tuple((each.container_id, each.host_id, each.size) for each in ranges)
                    for ranges in maps
                )
                return cls(container, fd, uids=uids, gids=gids)
            if container.status().word == RESTARTING:
                break
            held = container._lock()
            try:
                sweep.settle_locked(container._paths, container.id)
                # It may have been started while we waited for the lock.
                if not container.status().is_live:
                    view = cls(container, _open_at_rest(container, writable, with_mounts))
                    if writable or container.options.storage_size is not None:
                        view._held, held = held, lock.Lock(-1)
                    return view
            finally:
                held.close()
        raise WrongStatus(
            f"Container {container.id} is restarting, wait until the container is running",
            container=container.id,
            status=container.status().word,
        )

    def close(self) -> None:
        """Let it go."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> RootView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, path: str, flags: int) -> int:
        """A descriptor of what ``path`` is inside, links followed; the caller's to close."""
        return open_in_root(self.fd, path, flags)

    def open_folder(self, path: str) -> int:
        """A directory, as a place to find entries in."""
        return self.open(path, _O_PATH_FOLDER)

    def read_link(self, path: str) -> str | None:
        """The text of a link, and None for anything else, there or not."""
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            return None
        try:
            fd = self.open_folder(folder or "/")
        except OSError:
            return None
        try:
            return os.readlink(name, dir_fd=fd)
        except OSError:
            return None
        finally:
            os.close(fd)

    def is_root_mount(self, fd: int) -> bool:
        """It lies on the root itself, not on something that is mounted in it."""
        return os.fstat(fd).st_dev == os.fstat(self.fd).st_dev


def _open_running(container: Container) -> int | None:
    """The root of its first process; None when there is no such process."""
    if not container.status().is_live:
        return None
    live = container._paths.live_container(container.id)
    try:
        first = protocol.parse_started(read_bytes(f"{live}/started"))
    except FileNotFoundError:
        return None
    if first is None:
        return None
    try:
        process = identity.open_process(first.pid, first.start_time)
    except ProcessLookupError:
        return None
    try:
        fd = os.open("root", _O_PATH_FOLDER, dir_fd=process)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError as error:
        raise HostLacks(f"cannot reach into container {container.id}: {error.strerror}") from error
    finally:
        os.close(process)
    root, own = os.fstat(fd), os.stat("/")
    if (root.st_dev, root.st_ino) == (own.st_dev, own.st_ino):
        os.close(fd)
        raise HostLacks(f"the root of container {container.id} is this machine's own")
    return fd


def _open_at_rest(container: Container, writable: bool, with_mounts: bool) -> int:
    options, engine, folder = container.options, container._engine, container.folder
    engine.prepare()
    root = Root.of_record(engine, container.record, options)
    root.mark_for(options)
    lowers = root.all_lowers(engine)
    binds: tuple[Bind, ...] = ()
    if with_mounts:
        binds = tuple(
            Bind(
                source=each.source,
                target=mounts.normalize(each.destination),
                is_readonly="ro" in each.options,
                is_recursive="bind" not in each.options,
            )
            for each in mounts.in_order(mounts_of(engine, options, root, folder))
            if mounts.is_bind(each)
            and not f"{mounts.normalize(each.destination)}/".startswith(
                tuple(f"{path}/" for path in _FRESH)
            )
        )
    layer, mounted = folder, -1
    if options.storage_size is not None:
        mounted = disk.mount(container)
        layer = f"/proc/self/fd/{mounted}"
    upper, work = f"{layer}/upper", f"{layer}/work"
    try:
        return open_view(
            lowers if writable else (upper, *lowers),
            upper=upper if writable else "",
            work=work if writable else "",
            mount_point=engine.paths.mount_point,
            binds=binds,
            disk=mounted,
            is_readonly=not writable,
            is_volatile=options.rm if options.volatile is None else options.volatile,
            in_user_namespace=bool(id_maps(options)[0]),
            is_host_root=root.is_host,
        )
    except Fault as fault:
        if not os.path.isdir(folder):
            raise ContainerNotFound(container.name) from None
        raise HostLacks(
            f"cannot mount the root of container {container.id}: "
            f"{fault.call} {fault.entry}: {os.strerror(fault.errno).lower()}"
        ) from fault
    finally:
        if mounted >= 0:
            os.close(mounted)


def is_regular(fd: int) -> bool:
    """What the descriptor is of can be read and written without effects of its own."""
    return stat.S_ISREG(os.fstat(fd).st_mode)
