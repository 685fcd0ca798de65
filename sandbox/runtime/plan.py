"""A `Spec` and its `LaunchSettings` become a launch plan: the only place where the two meet.

The order is the meaning; C carries it out as told.  Three rules stand behind it:

- ``/proc`` and ``/dev`` are our own fresh mounts before anything is created below
  them: parents are mounted first, and a spec without ``/dev`` is given one.
- What needs privilege comes before the ids and capabilities are given up: the
  working directory is entered (or made) before, for it may be closed to the user.
- Without no_new_privs the filter needs CAP_SYS_ADMIN, so it is loaded before the
  ids change; with it, it is the last act before ``execve``, when everything that it
  could forbid is done.
"""

from __future__ import annotations

from ..errors import HostLacks, UsageError
from ..native.plan import (
    EXEC_INIT,
    LIFETIME_WITH_LAUNCHER,
    OVERLAY_HOST_ROOT,
    OVERLAY_IDMAPPED,
    OVERLAY_VOLATILE,
    RESTART_POLICIES,
    STDIO_STDIN,
    STDIO_STDIN_ONCE,
    STDIO_TTY,
    WORKDIR_CREATE,
    op,
)
from ..oci.spec import Capabilities, Mount
from . import capabilities, devices, mounts, namespaces, rlimits, sysctl
from .launch import endpoint_ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..native.plan import Op
    from ..oci.spec import Linux, Process, Spec
    from .launch import Filter, LaunchSettings, RootMount

DEFAULT_UMASK = 0o022

_DEV = Mount(
    destination="/dev",
    type="tmpfs",
    source="tmpfs",
    options=("nosuid", "strictatime", "mode=755", "size=65536k"),
)


def compile_plan(spec: Spec, launch: LaunchSettings) -> tuple[Op, ...]:
    """Everything that the monitor and init do, in order.

    Hooks are not a part of it: who calls the runtime runs them.
    """
    process = spec.process
    if process is None or not process.args:
        raise UsageError("no command specified")
    linux = spec.linux
    _refuse_labels(spec, process)
    new = namespaces.new_flags(linux)
    loaded = launch.seccomp or _filter(linux)
    ops = [*monitor_ops(linux, launch)]

    ops.append(op("propagation", _propagation(linux)))
    if new & namespaces.CLONE_NEWCGROUP:
        # Before any cgroup file system is mounted: its root is the namespace's.
        ops.append(op("cgroup_namespace"))
    ops += _host_name_ops(spec, new)
    if new & namespaces.CLONE_NEWNET:
        ops.append(op("loopback_up"))

    ops += _root_ops(launch.root, idmapped=bool(new & namespaces.CLONE_NEWUSER))
    ops += _mount_ops(spec, launch, new)
    if process.oom_score_adj is not None:
        # Here, like the kernel settings: the container's own procfs serves to write it.
        ops.append(op("oom_score_adj", process.oom_score_adj))
    if launch.endpoints is not None:
        # When the mounts are done, for the monitor makes the links meanwhile; before the kernel
        # settings, which may be about these links.
        ops.append(op("network"))
    joined = sum(namespaces.KINDS[each.type] for each in linux.namespaces if each.path)
    ops += sysctl.setting_ops(linux.sysctl, new, joined)
    ops += [op("readonly", path) for path in linux.readonly_paths]
    ops += [op("mask", path) for path in linux.masked_paths]
    ops.append(op("pivot"))
    ops.append(op("workdir", process.cwd, WORKDIR_CREATE))
    if launch.root.readonly or (spec.root is not None and spec.root.readonly):
        # Not OVERLAY_READONLY, which holds from the pivot on: the folder above may have to be made.
        ops.append(op("root_readonly"))

    ops.append(op("keyring", f"_ses.{launch.id}"))
    bound = launch.capability_bound
    if bound is None:
        # A host may have withheld some (CAP_SYS_RESOURCE, in many a container); asking for them
        # would fail the launch, and --privileged means all there are.
        bound = -1 if new & namespaces.CLONE_NEWUSER else capabilities.available()
    ops += process_ops(process, loaded, init=launch.init, bound=bound)
    return tuple(ops)


def monitor_ops(linux: Linux, launch: LaunchSettings) -> list[Op]:
    """The settings, which the monitor reads before it makes anything."""
    stdio = STDIO_TTY * launch.tty
    stdio |= STDIO_STDIN * launch.stdin_open | STDIO_STDIN_ONCE * launch.stdin_once
    ops = [
        op("id", launch.id),
        op("folders", launch.state_dir, launch.run_dir, launch.mount_point),
        op("stdio", stdio, launch.rows, launch.columns),
    ]
    if launch.log is not None:
        ops.append(op("log", launch.log.path, launch.log.max_bytes, launch.log.max_files))
    if launch.wall_ms or launch.cpu_us or launch.output_bytes:
        ops.append(op("limits", launch.wall_ms, launch.cpu_us, launch.output_bytes))
    ops += [op("cgroup", each.version, each.controllers, each.path) for each in launch.groups]
    ops += namespaces.setting_ops(linux)
    if launch.with_launcher:
        ops.append(op("lifetime", LIFETIME_WITH_LAUNCHER))
    if launch.exit_command is not None:
        ops.append(op("exit_command", launch.exit_command.argv, launch.exit_command.env))
    if launch.restart is not None and launch.restart.policy != "no":
        policy = RESTART_POLICIES.index(launch.restart.policy)
        ops.append(op("restart", policy, launch.restart.max))
    health = launch.health
    if health is not None:
        times = (health.start_period_ms, health.start_interval_ms)
        ops.append(
            op(
                "health",
                health.plan,
                health.interval_ms,
                health.timeout_ms,
                health.retries,
                *times,
            )
        )
    ops += endpoint_ops(launch.endpoints or ())
    if launch.events:
        ops.append(op("events", launch.events, ""))
    disk = launch.root.disk
    if disk is not None:
        ops.append(op("disk", disk.path, disk.fstype, disk.options))
    return ops


def process_ops(
    process: Process, loaded: Filter | None, *, init: bool = False, bound: int = -1
) -> list[Op]:
    """From the limits to ``execve``, the same for init and for an exec.

    Both go to the working directory before.
    """
    user = process.user
    filter_ops = [] if loaded is None else [op("seccomp", loaded.program, loaded.flags)]
    ops = rlimits.limit_ops(process.rlimits)
    if process.scheduler is not None and process.scheduler.nice is not None:
        ops.append(op("nice", process.scheduler.nice))
    ops.append(op("umask", DEFAULT_UMASK if user.umask is None else user.umask & 0o777))
    if not process.no_new_privileges:
        ops += filter_ops
    # The primary group is always among them, and nothing of the caller's.
    groups = tuple(dict.fromkeys((user.gid, *user.additional_gids)))
    ops.append(op("ids", user.uid, user.gid, groups))
    ops.append(_capabilities_op(process, bound))
    if process.no_new_privileges:
        ops.append(op("no_new_privileges"))
        ops += filter_ops
    ops.append(op("exec", process.args, process.env, EXEC_INIT * init))
    return ops


def _refuse_labels(spec: Spec, process: Process) -> None:
    # A confinement that is asked for and not there must not look like one that is.
    if process.apparmor_profile not in ("", "unconfined"):
        raise HostLacks(f"AppArmor profiles are not supported: {process.apparmor_profile}")
    if process.selinux_label or spec.linux.mount_label:
        raise HostLacks("SELinux labels are not supported")


def _filter(linux: Linux) -> Filter | None:
    if linux.seccomp is None:
        return None
    # Loads libseccomp, which costs more than the rest of a launch: a container with the
    # default profile has its filter from the cache, through LaunchSettings.
    from .seccomp_profile import compile_oci

    return compile_oci(linux.seccomp)


def _propagation(linux: Linux) -> int:
    word = linux.rootfs_propagation or "rslave"
    flags = mounts.PROPAGATION.get(word)
    if flags is None:
        raise UsageError(f"rootfsPropagation {word!r} is not supported")
    if flags & mounts.MS_SHARED:
        # A root that is mounted in a peer of the host's tree would be mounted on the host too.
        raise UsageError(
            "rootfsPropagation shared is not supported: mounts would appear on the host"
        )
    return flags | mounts.MS_REC


def _host_name_ops(spec: Spec, new: int) -> list[Op]:
    if not spec.hostname and not spec.domainname:
        return []
    if not new & namespaces.CLONE_NEWUTS:
        if any(each.type == "uts" for each in spec.linux.namespaces):
            return []  # joined: the name is the other container's
        raise UsageError("a hostname needs a uts namespace")
    ops = []
    if spec.hostname:
        ops.append(op("hostname", spec.hostname))
    if spec.domainname:
        ops.append(op("domainname", spec.domainname))
    return ops


def _root_ops(root: RootMount, *, idmapped: bool) -> list[Op]:
    if root.kind == "bind":
        if len(root.lowers) != 1:
            raise ValueError("a bound root is one folder")
        return [op("root_bind", root.lowers[0], 0)]
    flags = OVERLAY_VOLATILE * root.volatile | OVERLAY_HOST_ROOT * root.host_root
    flags |= OVERLAY_IDMAPPED * idmapped
    return [op("root_overlay", root.lowers, root.upper, root.work, flags)]


def _mount_ops(spec: Spec, launch: LaunchSettings, new: int) -> list[Op]:
    wanted = [*spec.mounts]
    at_dev = [each for each in wanted if mounts.normalize(each.destination) == "/dev"]
    if not at_dev:
        wanted.insert(0, _DEV)
    ops = []
    for each in mounts.in_order(wanted):
        if each.type in ("cgroup", "cgroup2") and not mounts.is_bind(each):
            ops += mounts.cgroup_ops(
                each,
                launch.groups,
                namespaced=bool(new & namespaces.CLONE_NEWCGROUP),
                full=launch.cgroup_view,
            )
        else:
            ops.append(mounts.mount_op(_host_s_own(each, new)))
    # A bound /dev is the host's, or somebody's: nothing is made in it.
    if not any(mounts.is_bind(each) for each in at_dev):
        ops += devices.node_ops(spec.linux.devices, bound=bool(new & namespaces.CLONE_NEWUSER))
        if launch.tty:
            ops.append(op("console", spec.process.user.uid if spec.process else 0, -1))
    return ops


def _host_s_own(mount: Mount, new: int) -> Mount:
    # sysfs can only be mounted by the owner of the network namespace that it shows: in a user
    # namespace over the host's network, it is the host's.  (mqueue is left out, being optional.)
    if mount.type != "sysfs" or new & namespaces.CLONE_NEWNET or not new & namespaces.CLONE_NEWUSER:
        return mount
    words = [f"r{word}" for word in mount.options if word in ("ro", "nosuid", "nodev", "noexec")]
    return Mount(
        destination=mount.destination,
        type="bind",
        source="/sys",
        options=("rbind", "rslave", *words),
    )


def _capabilities_op(process: Process, bound: int) -> Op:
    sets = process.capabilities or Capabilities()
    bounding, effective, permitted, inheritable, ambient = (
        capabilities.to_bits(names) & bound
        for names in (
            sets.bounding,
            sets.effective,
            sets.permitted,
            sets.inheritable,
            sets.ambient,
        )
    )
    permitted &= bounding
    # The kernel lets nothing be ambient that is not inheritable and permitted as well.
    inheritable &= bounding
    ambient &= permitted & inheritable
    if process.user.uid != 0:
        # execve takes all but the ambient ones from this user; taken now, they cannot open a
        # program either that the user may not read.
        permitted = ambient
    return op("capabilities", bounding, effective & permitted, permitted, inheritable, ambient)
