"""What was asked for, and what the image says, become a `Spec`.

Docker's rules of precedence: options over the image's config over defaults.
From an image only the allow-listed config counts (`sandbox.oci.imageconfig`);
nothing in it selects a program of the host or loosens a default.
"""

from __future__ import annotations

import os

from ..errors import HostLacks, UsageError, WrongStatus
from ..oci.spec import (
    BlockIo,
    Cpu,
    IdMapping,
    Memory,
    Mount,
    Pids,
    Process,
    Resources,
    Rlimit,
    Spec,
    ThrottleDevice,
    User,
)
from ..record import replace
from ..runtime import capabilities, defaults, devices, rlimits, sysctl, users
from ..runtime.mounts import normalize
from . import etc
from .options import DEFAULT_PIDS_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..oci.imageconfig import ImageConfig
    from ..oci.spec import Device, DeviceCgroup
    from ..runtime.launch import Filter
    from ..state.containers import ContainerRecord
    from .engine import Engine
    from .options import DeviceLimit, RunOptions, VolumeMount
    from .root import Root

# Where a container's ids lie when a user namespace is asked for without a map.
DEFAULT_MAPPING = (IdMapping(container_id=0, host_id=100000, size=65536),)

# A namespace of its own.
_PRIVATE = (None, "", "private", "none", "default", "shareable")


def specify(
    engine: Engine,
    record: ContainerRecord,
    options: RunOptions,
    root: Root,
    folder: str,
    hostname: str,
) -> Spec:
    """The `Spec` of one start; finds the user in the container's own tree."""
    user = _user(options, root, folder)
    host, joined = _namespaces(engine, options)
    uid_map, gid_map = id_maps(options)
    has_own_name = "uts" not in host and "uts" not in joined
    nodes: list[Device] = []
    rules: list[DeviceCgroup] = []
    for text in options.device:
        found, allowed = devices.parse_device(text)
        nodes += found
        rules += allowed
    return defaults.default_spec(
        process_of(record.argv, options, root.config, user, hostname=hostname),
        hostname=hostname if has_own_name else "",
        domainname=(options.domainname or "") if has_own_name else "",
        extra_mounts=_mounts(engine, options, root, folder),
        extra_devices=tuple(nodes),
        extra_rules=tuple(rules),
        namespaces=defaults.default_namespaces(
            host=host, joined=tuple(joined.items()), user=bool(uid_map)
        ),
        uid_mappings=uid_map,
        gid_mappings=gid_map,
        resources=resources_of(options),
        sysctl=tuple(sysctl.parse_sysctl(f"{name}={value}") for name, value in options.sysctl),
        shm_bytes=options.shm_size,
        privileged=options.privileged,
    )


def process_of(
    argv: tuple[str, ...],
    options: RunOptions,
    config: ImageConfig,
    user: users.Account,
    *,
    hostname: str,
) -> Process:
    """The container's first process; another one of it differs in what is asked for it."""
    names = (
        capabilities.NAMES
        if options.privileged
        else capabilities.tweak(options.cap_add, options.cap_drop)
    )
    return Process(
        args=argv,
        env=defaults.environment(
            (*config.env, *(f"{name}={value}" for name, value in options.env)),
            hostname=hostname,
            home=user.home,
            terminal=options.tty,
        ),
        cwd=options.workdir or config.working_dir or "/",
        terminal=options.tty,
        user=User(uid=user.uid, gid=user.gid, additional_gids=user.groups),
        capabilities=defaults.default_capabilities(names),
        rlimits=_rlimits(options),
        no_new_privileges="no-new-privileges" in _security(options),
        oom_score_adj=options.oom_score_adj,
    )


def check_process(
    argv: tuple[str, ...], options: RunOptions, root: Root, folder: str, hostname: str
) -> Process:
    """What a health check runs as: another process of the container, without a terminal."""
    user = _user(options, root, folder)
    return process_of(argv, replace(options, tty=False), root.config, user, hostname=hostname)


def seccomp_filter(engine: Engine, options: RunOptions, spec: Spec) -> Filter | None:
    """The filter to load: the default profile's, a file's, or none."""
    from ..runtime import seccomp

    security = _security(options)
    choice = security.get("seccomp", "")
    if choice == "unconfined" or (options.privileged and not choice):
        return None
    process = spec.process
    held = process.capabilities.bounding if process and process.capabilities else ()
    if choice and choice not in ("default", "builtin"):
        return seccomp.from_file(choice, held)
    return seccomp.default_filter(engine.paths.cache, held)


def _user(options: RunOptions, root: Root, folder: str) -> users.Account:
    upper = f"{folder}/upper"
    layers = (upper, *root.lowers) if os.path.isdir(upper) else root.lowers

    def open_in_root(path: str) -> int | None:
        return users.find_in_layers(layers, path)

    text = root.config.user if options.user is None else options.user
    return users.resolve_user(text, open_in_root, group_add=options.group_add)


def _security(options: RunOptions) -> dict[str, str]:
    """``--security-opt``, checked."""
    found: dict[str, str] = {}
    for text in options.security_opt:
        name, equals, value = text.partition("=")
        if not equals:
            name, equals, value = text.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            if value != "false":
                found[name] = "true"
        elif name in ("seccomp", "apparmor", "label") and value:
            if name == "apparmor" and value != "unconfined":
                raise HostLacks("AppArmor profiles are not supported", hint="leave apparmor out")
            found[name] = value
        elif text in ("systempaths=unconfined",):
            found["systempaths"] = value
        else:
            raise UsageError(f'invalid --security-opt 2: "{text}"')
    return found


def _namespaces(engine: Engine, options: RunOptions) -> tuple[set[str], dict[str, str]]:
    """Which namespaces stay the host's, and which are joined at which path."""
    host: set[str] = set()
    joined: dict[str, str] = {}
    for kind, file, value in (
        ("network", "net", options.network),
        ("pid", "pid", options.pid),
        ("ipc", "ipc", options.ipc),
        ("uts", "uts", options.uts),
    ):
        if value in _PRIVATE:
            continue
        if value == "host":
            host.add(kind)
        elif value.startswith("container:"):
            joined[kind] = _namespace_of(engine, value.removeprefix("container:"), file)
        elif kind == "network":
            continue  # a namespace of its own, with links
        else:
            raise UsageError(f"--{kind}: invalid {kind.upper()} mode: {value}")
    return host, joined


def _namespace_of(engine: Engine, name: str, file: str) -> str:
    container = engine.container(name)
    status = container.status()
    if not status.is_live or not status.pid:
        raise WrongStatus(
            f"cannot join the {file} namespace of a non running container: {container.id}",
            container=container.id,
            status=status.word,
        )
    return f"/proc/{status.pid}/ns/{file}"


def id_maps(options: RunOptions) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
    """``--userns`` and the maps; without either there is no user namespace."""
    uid_map, gid_map = options.uidmap, options.gidmap
    if options.userns in (None, "", "host") and not uid_map and not gid_map:
        return (), ()
    if not uid_map and not gid_map:
        if options.userns not in ("auto", "private", "remap", "default"):
            raise UsageError(f"--userns: invalid USER mode: {options.userns}")
        return DEFAULT_MAPPING, DEFAULT_MAPPING
    uids = tuple(_mapping(text) for text in uid_map or gid_map)
    gids = tuple(_mapping(text) for text in gid_map or uid_map)
    return uids, gids


def _mapping(text: str) -> IdMapping:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(
            f"invalid id mapping {text!r}", hint="CONTAINER_ID:HOST_ID[:SIZE], 0:100000:65536"
        )
    size = int(parts[2]) if len(parts) == 3 else 1
    if size < 1 or max(int(parts[0]), int(parts[1])) + size > 1 << 32:
        raise UsageError(f"id mapping {text!r} is out of range")
    return IdMapping(container_id=int(parts[0]), host_id=int(parts[1]), size=size)


def _rlimits(options: RunOptions) -> tuple[Rlimit, ...]:
    found = []
    for each in options.ulimit:
        if each.name not in rlimits.NAMES:
            raise UsageError(f"invalid ulimit type: {each.name}")
        found.append(Rlimit(type=f"RLIMIT_{each.name.upper()}", soft=each.soft, hard=each.hard))
    if found:
        may_raise = bool(capabilities.available() >> rlimits.CAP_SYS_RESOURCE & 1)
        rlimits.check(found, may_raise=may_raise)
    return tuple(found)


def _mounts(engine: Engine, options: RunOptions, root: Root, folder: str) -> tuple[Mount, ...]:
    bound = ("rbind", "rprivate")
    named = folder
    if options.network.startswith("container:"):
        # Who has the links has the names, too.
        named = engine.container(options.network.removeprefix("container:")).folder
    found = [
        Mount(destination=f"/etc/{name}", type="bind", source=f"{place}/{name}", options=bound)
        for name, place in (
            (etc.RESOLV_CONF, named),
            (etc.HOSTNAME, folder),
            (etc.HOSTS, named),
        )
    ]
    if root.is_host:
        # The engine's own folders hold other containers: not for anybody's eyes.
        found += [
            Mount(
                destination=path,
                type="tmpfs",
                source="tmpfs",
                options=("ro", "nosuid", "nodev", "noexec", "mode=000", "size=0"),
            )
            for path in (engine.paths.root, engine.paths.run)
            if os.path.isdir(path)
        ]
    is_mapped = bool(id_maps(options)[0])
    for each in (*options.volume, *options.tmpfs):
        found.append(_mount(engine, each, is_mapped=is_mapped))
    if options.ipc == "host":
        found.append(Mount(destination="/dev/shm", type="bind", source="/dev/shm", options=bound))
    # The last one with a target wins, as with docker's -v over --mount.
    return tuple({each.destination: each for each in found}.values())


def _mount(engine: Engine, volume: VolumeMount, *, is_mapped: bool) -> Mount:
    if normalize(volume.target) == "/proc":
        # What writes below /proc is told by it what it is; runc's words.
        raise UsageError('"/proc" cannot be mounted because it is not of type proc')
    words = ["ro"] if volume.readonly else []
    if volume.kind == "tmpfs":
        words += volume.options
        if volume.size_bytes is not None:
            words.append(f"size={volume.size_bytes}")
        if volume.mode is not None:
            words.append(f"mode={volume.mode:o}")
        defaults_first = ("nosuid", "nodev", "noexec", "mode=1777")
        return Mount(
            destination=volume.target,
            type="tmpfs",
            source="tmpfs",
            options=(*defaults_first, *words),
        )
    source = volume.source
    asked = volume.options
    if volume.kind == "volume":
        from .volumes import device_of

        device = device_of(engine.paths, volume)
        if device:
            source = device[0]
            asked = (*device[1:], *asked)
        else:
            source = f"{engine.paths.volume(source)}/_data"
            if is_mapped:
                # Its owners are kept as the image's are: in the container's ids.
                asked = ("idmap", *asked)
    elif not os.path.lexists(source):
        if not volume.create_source:
            raise UsageError(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            )
        etc.make_folder(source, 0o755)
    if not any(word in ("bind", "rbind") for word in asked):
        words.append("rbind")
    if not any(word.removeprefix("r") in ("shared", "slave", "private") for word in asked):
        words.append("rprivate")
    return Mount(destination=volume.target, type="bind", source=source, options=(*words, *asked))


def resources_of(options: RunOptions) -> Resources:
    """The cgroup limits that were asked for."""
    period, quota = options.cpu_period, options.cpu_quota
    if options.cpus is not None:
        period = 100000
        quota = round(options.cpus * period)
    pids = DEFAULT_PIDS_LIMIT if options.pids_limit is None else options.pids_limit
    memory = None
    asked = (
        options.memory,
        options.memory_swap,
        options.memory_reservation,
        options.memory_swappiness,
    )
    if any(value is not None for value in asked):
        swap = options.memory_swap
        if swap is None and options.memory is not None:
            # As much swap again: docker's rule.
            swap = 2 * options.memory
        memory = Memory(
            limit=options.memory,
            swap=swap,
            reservation=options.memory_reservation,
            swappiness=options.memory_swappiness,
        )
    block_io = None
    throttled = (
        options.device_read_bps,
        options.device_write_bps,
        options.device_read_iops,
        options.device_write_iops,
    )
    if options.blkio_weight is not None or any(throttled):
        read_bps, write_bps, read_iops, write_iops = (
            tuple(_throttle(each) for each in limits) for limits in throttled
        )
        block_io = BlockIo(
            weight=options.blkio_weight,
            throttle_read_bps=read_bps,
            throttle_write_bps=write_bps,
            throttle_read_iops=read_iops,
            throttle_write_iops=write_iops,
        )
    return Resources(
        memory=memory,
        cpu=Cpu(
            shares=options.cpu_shares or None,
            quota=quota,
            period=period,
            cpus=options.cpuset_cpus or "",
            mems=options.cpuset_mems or "",
        ),
        pids=Pids(limit=pids or -1),
        block_io=block_io,
    )


def _throttle(limit: DeviceLimit) -> ThrottleDevice:
    try:
        number = os.stat(limit.device).st_rdev
    except OSError as error:
        raise UsageError(f"no such device: {limit.device}") from error
    return ThrottleDevice(major=os.major(number), minor=os.minor(number), rate=limit.rate)


def mounts_of(engine: Engine, options: RunOptions, root: Root, folder: str) -> tuple[Mount, ...]:
    """What a container has mounted beside what all have: its volumes, its files under /etc."""
    return _mounts(engine, options, root, folder)
