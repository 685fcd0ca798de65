"""A start, from the decision to the running monitor; everything undone if it fails.

check         what can be refused before anything is made
make_folders  the writable layer and the files under /etc
start         lock, journal, cgroups, plan, monitor: in this order, so that whatever
              is made was written down before
"""

from __future__ import annotations

import errno
import os
import sys
import time

import cgroups

from ..errors import (
    HostLacks,
    LimitUnavailable,
    SandboxError,
    StoreFull,
    UsageError,
)
from ..monitor import client
from ..record import Record
from ..runtime.launch import Disk, ExitCommand, Group, LaunchSettings, Log, Restart, RootMount
from ..state import events, lock
from ..state.document import remove_file
from . import disk, etc, journal, sweep
from .container import has_networks
from .options import restart_policy
from .result import Enforced
from .root import Root
from .templates import Kind, Template, kind_of, places_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..native.plan import Op
    from ..oci.spec import Spec
    from ..paths import Paths
    from ..runtime.launch import Check
    from ..state.containers import ContainerRecord
    from .engine import Engine
    from .joining import Joined, Joining
    from .journal import Place
    from .options import RunOptions
    from .publishing import Published


class StartAs(Record):
    """How a container is going to be started, as far as its plan says it."""

    is_attached: bool
    size: tuple[int, int]
    with_launcher: bool


class Launching:
    """Everything that is decided about one start of one container."""

    def __init__(
        self, engine: Engine, record: ContainerRecord, options: RunOptions, root: Root
    ) -> None:
        self.engine = engine
        self.record = record
        self.options = options
        self.root = root
        self.enforcement: tuple[Enforced, ...] = ()
        self._is_new = True
        self._spec: Spec | None = None
        self._kind: Kind | None = None
        self._template: Template | None = None
        self._joining: Joining | None = None
        self._published: Published | None = None

    @classmethod
    def again(cls, engine: Engine, record: ContainerRecord, options: RunOptions) -> Launching:
        """For a container that is there already."""
        made = cls(engine, record, options, Root.of_record(engine, record, options))
        made._is_new = False
        return made

    @property
    def folder(self) -> str:
        """The container's folder."""
        return self.engine.paths.container(self.record.id)

    @property
    def live(self) -> str:
        """The container's run folder."""
        return self.engine.paths.live_container(self.record.id)

    @property
    def hostname(self) -> str:
        """As asked for, or the start of the id."""
        if self.options.uts == "host":
            return os.uname().nodename
        return self.options.hostname or self.record.id[:12]

    def check(self, start: StartAs | None = None) -> None:
        """Refuse what cannot work, before the container exists.

        With ``start`` it will be started so at once; where that was done before
        with the same options, it can be done again.
        """
        from .container import check_stop_signal

        if self.options.ip or self.options.ip6:
            from .joining import check

            check(self.engine.paths, self.record)
        if self.options.stop_signal:
            check_stop_signal(self.options.stop_signal)
        parent = self.options.cgroup_parent
        if parent:
            try:
                cgroups.places(self.engine.layout, "sandbox-", parent=parent)
            except cgroups.InvalidLimit as error:
                from .options import InvalidOption

                raise InvalidOption("cgroup-parent", parent, str(error)) from error
        if start is not None and self.engine.debug is None:
            self._kind = kind_of(
                self.options,
                self.root,
                is_attached=start.is_attached,
                size=start.size,
                with_launcher=start.with_launcher,
            )
        self._template = self.engine.templates.find(self._kind)
        if self._template is None:
            self._specify()

    def make_folders(self) -> None:
        """The writable layer, or its disk, and the files under /etc."""
        folder = self.folder
        if self.options.storage_size is not None:
            disk.make(f"{folder}/disk.img", self.options.storage_size)
        else:
            os.mkdir(f"{folder}/upper", 0o755)
            os.mkdir(f"{folder}/work", 0o700)
            self._be_like_the_root_below(f"{folder}/upper")
        etc.write(folder, self.options, self.hostname)

    def make_volumes(self, *, is_new: bool = False) -> None:
        """The volumes that are not there yet; those of a new container are filled if empty."""
        if self.options.has_volumes:
            from .volumes import make_ready

            durable = not self.options.rm
            make_ready(self.engine, self.options, self.root, is_new=is_new, durable=durable)

    def _be_like_the_root_below(self, upper: str) -> None:
        """The root's mode and owner are the uppermost layer's: make them the image's."""
        below = os.stat(self.root.lowers[0])
        if (below.st_uid, below.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(upper, below.st_uid, below.st_gid)
        # Whatever the caller's umask made of it.
        os.chmod(upper, below.st_mode & 0o7777)

    def start(
        self,
        stdio: tuple[int, int, int] | None,
        *,
        size: tuple[int, int],
        with_launcher: bool,
    ) -> client.Launch:
        """Start it; returns when the program has been executed.

        Called by the one who holds the container's lock, for a container that
        does not run.
        """
        engine, container_id = self.engine, self.record.id
        engine.prepare()
        self.root.mark_for(self.options)
        self.make_volumes()
        try:
            os.mkdir(self.live, 0o700)
        except FileExistsError:
            pass
        alive = lock.take(f"{self.live}/alive")
        launch = None
        try:
            launch = self._spawn_monitor(alive, stdio)
            # While the monitor starts and waits for its plan:
            name = f"sandbox-{container_id}"
            journal.write(
                engine.paths,
                container_id,
                cgroups.places(engine.layout, name, parent=self.options.cgroup_parent),
                time.time_ns(),
                self._find_networks(),
            )
            remove_file(f"{self.folder}/exit")
            if stdio is not None:
                events.of_container(engine.paths, self.record, "attach")
            if self.options.has_volumes:
                from .volumes import log_mounts  # most containers have none

                log_mounts(engine, self.options, container_id)
            plan = self._prepare_plan(name, stdio is not None, size, with_launcher)
            plan = self._with_networks(plan)
            if self._published is None:
                launch.send_plan(plan)
            else:
                launch.send_plan(plan, self._published.fds)
                self._published.settle()
            launch.wait_started()
        except BaseException as error:
            # The lock is shared with a monitor that may still be going down.
            alive.close()
            if launch is not None:
                launch.close()
                launch.wait_gone()
            self._undo()
            self._let_go_of_networks()
            if self._published is not None:
                self._published.close()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(self.folder) from error
            raise
        return launch

    def _find_networks(self) -> tuple[Place, ...]:
        """The container's networks, ready, for the journal."""
        if not has_networks(self.record):
            return ()
        from .joining import Joining, remove_links

        self._joining = Joining(self.engine.paths, self.record, self.hostname)
        places = self._joining.open()
        if not self._is_new:
            # Of the run before: its network namespace may not be quite gone.
            remove_links([link for _, link, _ in places])
        return places

    def _with_networks(self, plan: bytes) -> bytes:
        """The plan with the links of this start in it; everybody is told of them."""
        joining = self._joining
        if joining is None:
            return plan
        from ..native.plan import with_settings
        from ..runtime.launch import endpoint_ops

        joined = joining.join()
        from .naming import prepare

        places = [(each.network, each.addresses) for each in joined]
        prepare(self.engine.paths, self.record, self.options, self.hostname, places)
        self._publish(joined)
        self._let_go_of_networks()
        ops = endpoint_ops(each.plumbing for each in joined)
        if self.engine.debug is not None:
            from ..native.plan import describe

            self.engine.debug(describe(ops))
        return with_settings(plan, ops)

    def _publish(self, joined: tuple[Joined, ...]) -> None:
        """The container's ports, by the first of its networks that is reached from outside."""
        options, config = self.options, self.root.config
        if not (options.publish or options.expose or config.exposed_ports):
            return
        from ..state import networks
        from . import publishing  # most have no ports

        ends = None
        for each in joined:
            if not each.network.internal:
                found = {":" in one: one.partition("/")[0] for one in each.addresses}
                table = each.network.table
                if networks.is_island(self.engine.paths, each.network.id):
                    table = ""
                ends = publishing.Ends(
                    ipv4=found.get(False, ""), ipv6=found.get(True, ""), table=table
                )
                break
        self._published = publishing.publish(self.engine.paths, self.record, options, config, ends)

    def _let_go_of_networks(self) -> None:
        if self._joining is not None:
            self._joining.close()

    def _prepare_plan(
        self, name: str, is_attached: bool, size: tuple[int, int], with_launcher: bool
    ) -> bytes:
        """Make the cgroups, and the plan that knows them."""
        templates, container_id = self.engine.templates, self.record.id
        template = self._template
        limits = template.limits if template is not None else self._limits()
        groups = self._make_cgroup(name, limits)
        places = places_of(groups, container_id)
        if template is not None and template.places == places:
            return template.plan_for(container_id)
        # What compiles is loaded when nothing was found: half of a command's imports.
        from ..native.plan import describe, encode

        ops = self._plan(groups, is_attached, size, with_launcher)
        if self.engine.debug is not None:
            self.engine.debug(describe(ops))
        try:
            plan = encode(ops)
        except ValueError as error:
            raise UsageError(f"too much to pass on to the program: {error}") from error
        kept = Template(plan=plan, container_id=container_id, limits=limits, places=places)
        templates.keep(self._kind, kept)
        return plan

    def _spawn_monitor(self, alive: lock.Lock, stdio: tuple[int, int, int] | None) -> client.Launch:
        nothing = -1
        if stdio is None:
            nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            stdio = (nothing, nothing, nothing)
        try:
            launch = client.spawn(
                run_dir=self.live, lock_fd=alive.fd, stdio=stdio, id=self.record.id
            )
        finally:
            if nothing >= 0:
                os.close(nothing)
        alive.close()
        return launch

    def _undo(self) -> None:
        paths, container_id = self.engine.paths, self.record.id
        try:
            entry = journal.read(paths, container_id)
            if entry is not None:
                journal.undo(entry)
                journal.give_back(paths, container_id, entry)
                sweep.log_unmounts(paths, self.record)
            journal.close(paths, container_id)
            journal.clear_live(paths, container_id)
        except (OSError, SandboxError):
            # The first error counts; the journal stays, and the next sweep tries again.
            return

    def _specify(self) -> Spec:
        # Once for a start: what `check` saw is what is started.
        if self._spec is None:
            from .specify import specify

            self._spec = specify(
                self.engine, self.record, self.options, self.root, self.folder, self.hostname
            )
        return self._spec

    def _limits(self) -> cgroups.Limits:
        # Loads what a start from a template does without.
        from ..oci.spec import Resources
        from ..runtime.resources import to_limits

        return to_limits(self._specify().linux.resources or Resources())

    def _make_cgroup(self, name: str, limits: cgroups.Limits) -> tuple[Group, ...]:
        options = self.options
        allowed = [*options.allow_unenforced, "memory.swap"]
        if options.pids_limit is None:
            # The default limit, that nobody asked for, is no reason to refuse a run.
            allowed.append("pids")
        try:
            cgroup = cgroups.create(
                self.engine.layout,
                name,
                limits,
                parent=options.cgroup_parent,
                allow_missing=allowed,
            )
        except cgroups.LimitUnavailable as error:
            raise LimitUnavailable(error.limit, reason=error.reason) from error
        except cgroups.CgroupError as error:
            raise HostLacks(f"cannot make the container's cgroup: {error}") from error
        self.enforcement = (
            *(Enforced(limit=each.limit, by=each.by) for each in cgroup.enforcement),
            *self._enforced_elsewhere(),
        )
        return tuple(
            Group(version=each.version, controllers=",".join(each.controllers), path=each.path)
            for each in cgroup.groups
        )

    def _enforced_elsewhere(self) -> list[Enforced]:
        options = self.options
        found = [
            Enforced(limit=limit, by="monitor")
            for limit, value in (
                ("timeout", options.timeout_s),
                ("cpu_time", options.cpu_time_s),
                ("output_limit", options.output_limit),
            )
            if value is not None
        ]
        if options.storage_size is not None:
            found.append(Enforced(limit="storage", by="disk"))
        found += [Enforced(limit=f"ulimit.{each.name}", by="rlimit") for each in options.ulimit]
        return found

    def _plan(
        self,
        groups: tuple[Group, ...],
        is_attached: bool,
        size: tuple[int, int],
        with_launcher: bool,
    ) -> tuple[Op, ...]:
        options, folder, paths = self.options, self.folder, self.engine.paths
        from ..runtime.plan import compile_plan
        from .specify import seccomp_filter

        spec = self._specify()
        has_log = options.log_driver != "none"
        return compile_plan(
            spec,
            LaunchSettings(
                id=self.record.id,
                state_dir=folder,
                run_dir=self.live,
                mount_point=paths.mount_point,
                root=self._root_mount(),
                groups=groups,
                tty=options.tty,
                stdin_open=options.interactive,
                stdin_once=options.interactive and is_attached and not options.tty,
                rows=size[0],
                columns=size[1],
                log=Log(
                    path=f"{folder}/log",
                    max_bytes=options.log_max_size,
                    max_files=options.log_max_file,
                )
                if has_log
                else None,
                wall_ms=_scaled(options.timeout_s, 1000),
                cpu_us=_scaled(options.cpu_time_s, 1000000),
                output_bytes=options.output_limit or 0,
                with_launcher=with_launcher,
                exit_command=settle_command(paths, self.record.id)
                if options.rm or has_networks(self.record)
                else None,
                health=self._check_of_health(groups, spec),
                restart=_restart(options),
                endpoints=() if has_networks(self.record) else None,
                init=options.init,
                events=paths.events,
                seccomp=seccomp_filter(self.engine, options, spec),
            ),
        )

    def _check_of_health(self, groups: tuple[Group, ...], spec: Spec) -> Check | None:
        if self.root.config.healthcheck is None and not self.options.has_health_options:
            return None
        # For the few that are checked.
        from .health import compile_check

        return compile_check(self, groups, spec)

    def _root_mount(self) -> RootMount:
        options, folder, root = self.options, self.folder, self.root
        lowers = root.all_lowers(self.engine)
        if options.storage_size is not None:
            return RootMount(
                kind="overlay",
                lowers=lowers,
                host_root=root.is_host,
                readonly=options.read_only,
                disk=Disk(path=f"{folder}/disk.img"),
            )
        volatile = options.rm if options.volatile is None else options.volatile
        return RootMount(
            kind="overlay",
            lowers=lowers,
            upper=f"{folder}/upper",
            work=f"{folder}/work",
            volatile=volatile,
            readonly=options.read_only,
            host_root=root.is_host,
        )


def settle_command(paths: Paths, container_id: str) -> ExitCommand:
    """What removes an ``rm`` container when nobody waits for it: a Python that only settles."""
    code = (
        "import sys;sys.path[:0]=sys.argv[4:];"
        "from sandbox.engine.sweep import settle_after;settle_after(*sys.argv[1:4])"
    )
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = dict.fromkeys([home, *(path for path in sys.path if path.startswith("/"))])
    return ExitCommand(
        argv=(sys.executable, "-ISc", code, paths.root, paths.run, container_id, *places)
    )


def _restart(options: RunOptions) -> Restart | None:
    if options.restart in ("", "no"):
        return None
    policy, most = restart_policy(options.restart)
    return Restart(policy=policy, max=most)


def _scaled(seconds: float | None, factor: int) -> int:
    return 0 if seconds is None else max(1, round(seconds * factor))
