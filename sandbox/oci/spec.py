"""The runtime's document: ``config.json`` of the OCI runtime specification 1.2, for Linux.

`parse_spec` checks each known key at the door and ignores unknown ones, as the
specification asks; what it knows and cannot carry out is refused when it is set.
`spec_to_json` writes what was parsed.  No I/O, and no judgement of what a value
means: that belongs to ``sandbox.runtime``.

Maps are tuples of pairs in the document's order, and a limit of 2^64-1 is -1.
"""

from __future__ import annotations

from ..errors import DamagedDocument, HostLacks
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from ..jsontext import Json

    Pairs = tuple[tuple[str, str], ...]
    R = TypeVar("R", bound=Record)

OCI_VERSION = "1.2.0"


class User(Record):
    """Who the process is, in the container's ids."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()
    username: str = ""


class Capabilities(Record):
    """The five sets, by name."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """A resource limit; -1 is no limit."""

    type: str
    soft: int
    hard: int


class ConsoleSize(Record):
    """The terminal's size in characters."""

    height: int
    width: int


class Scheduler(Record):
    """How the process is scheduled; only the nice value of ``SCHED_OTHER`` is carried out."""

    policy: str = "SCHED_OTHER"
    nice: int | None = None


class Process(Record):
    """What runs, and as whom."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""


class Root(Record):
    """The root file system: a folder, relative to the bundle or absolute."""

    path: str
    readonly: bool = False


class IdMapping(Record):
    """A range of ids inside and outside."""

    container_id: int
    host_id: int
    size: int


class Mount(Record):
    """One mount; ``options`` are words of mount(8) and the specification's own."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Namespace(Record):
    """A namespace: a new one, or an existing one at ``path``."""

    type: str
    path: str = ""


class Device(Record):
    """A device node to make."""

    type: str
    path: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class DeviceCgroup(Record):
    """A rule on which devices may be used; None is any number."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(Record):
    """Memory in bytes; ``swap`` is memory and swap together."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False


class Cpu(Record):
    """Processor time in microseconds, shares, and sets of processors and nodes."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Record):
    """The number of tasks; -1 is no limit."""

    limit: int


class WeightDevice(Record):
    """The share of one block device."""

    major: int
    minor: int
    weight: int | None = None


class ThrottleDevice(Record):
    """The rate of one block device."""

    major: int
    minor: int
    rate: int


class BlockIo(Record):
    """Block I/O, on v1's scale of weights."""

    weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    """Huge pages of one size, ``2MB`` for one."""

    page_size: str
    limit: int


class Resources(Record):
    """What the cgroup allows."""

    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: Pairs = ()


class SyscallArg(Record):
    """A condition on one argument of a system call."""

    index: int
    value: int
    op: str
    value_two: int = 0


class Syscall(Record):
    """One rule: what happens on any of these calls when every condition holds."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SyscallArg, ...] = ()


class Seccomp(Record):
    """The system call filter."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()


class Linux(Record):
    """What is Linux's own."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: Pairs = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""


class Hook(Record):
    """A program that the caller of the runtime wants run at a point of the life cycle."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(Record):
    """The hooks, by the point at which they run."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Spec(Record):
    """The whole document."""

    oci_version: str = OCI_VERSION
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: Pairs = ()
    linux: Linux = Linux()


# What a field is in JSON: one of these letters, a record's class, or a tuple of one class
# for a list of such records.
#   s string   p absolute path   b boolean   i s64   u unsigned, 2^64-1 is -1   n id, 0 to 2^32-2
#   S list of strings   N list of ids   M map of strings
_FIELDS: dict[type[Record], tuple[tuple[str, str, Any], ...]] = {
    User: (
        ("uid", "uid", "n"),
        ("gid", "gid", "n"),
        ("umask", "umask", "n"),
        ("additional_gids", "additionalGids", "N"),
        ("username", "username", "s"),
    ),
    Capabilities: (
        ("bounding", "bounding", "S"),
        ("effective", "effective", "S"),
        ("permitted", "permitted", "S"),
        ("inheritable", "inheritable", "S"),
        ("ambient", "ambient", "S"),
    ),
    Rlimit: (("type", "type", "s"), ("soft", "soft", "u"), ("hard", "hard", "u")),
    ConsoleSize: (("height", "height", "n"), ("width", "width", "n")),
    Scheduler: (("policy", "policy", "s"), ("nice", "nice", "i")),
    Process: (
        ("terminal", "terminal", "b"),
        ("console_size", "consoleSize", ConsoleSize),
        ("user", "user", User),
        ("args", "args", "S"),
        ("env", "env", "S"),
        ("cwd", "cwd", "p"),
        ("capabilities", "capabilities", Capabilities),
        ("rlimits", "rlimits", (Rlimit,)),
        ("no_new_privileges", "noNewPrivileges", "b"),
        ("oom_score_adj", "oomScoreAdj", "i"),
        ("scheduler", "scheduler", Scheduler),
        ("apparmor_profile", "apparmorProfile", "s"),
        ("selinux_label", "selinuxLabel", "s"),
    ),
    Root: (("path", "path", "s"), ("readonly", "readonly", "b")),
    IdMapping: (
        ("container_id", "containerID", "n"),
        ("host_id", "hostID", "n"),
        ("size", "size", "n"),
    ),
    Mount: (
        ("destination", "destination", "p"),
        ("type", "type", "s"),
        ("source", "source", "s"),
        ("options", "options", "S"),
        ("uid_mappings", "uidMappings", (IdMapping,)),
        ("gid_mappings", "gidMappings", (IdMapping,)),
    ),
    Namespace: (("type", "type", "s"), ("path", "path", "s")),
    Device: (
        ("path", "path", "p"),
        ("type", "type", "s"),
        ("major", "major", "i"),
        ("minor", "minor", "i"),
        ("file_mode", "fileMode", "n"),
        ("uid", "uid", "n"),
        ("gid", "gid", "n"),
    ),
    DeviceCgroup: (
        ("allow", "allow", "b"),
        ("type", "type", "s"),
        ("major", "major", "i"),
        ("minor", "minor", "i"),
        ("access", "access", "s"),
    ),
    Memory: (
        ("limit", "limit", "i"),
        ("reservation", "reservation", "i"),
        ("swap", "swap", "i"),
        ("swappiness", "swappiness", "u"),
        ("disable_oom_killer", "disableOOMKiller", "b"),
    ),
    Cpu: (
        ("shares", "shares", "u"),
        ("quota", "quota", "i"),
        ("burst", "burst", "u"),
        ("period", "period", "u"),
        ("cpus", "cpus", "s"),
        ("mems", "mems", "s"),
        ("idle", "idle", "i"),
    ),
    Pids: (("limit", "limit", "i"),),
    WeightDevice: (("major", "major", "i"), ("minor", "minor", "i"), ("weight", "weight", "u")),
    ThrottleDevice: (("major", "major", "i"), ("minor", "minor", "i"), ("rate", "rate", "u")),
    BlockIo: (
        ("weight", "weight", "u"),
        ("weight_device", "weightDevice", (WeightDevice,)),
        ("throttle_read_bps", "throttleReadBpsDevice", (ThrottleDevice,)),
        ("throttle_write_bps", "throttleWriteBpsDevice", (ThrottleDevice,)),
        ("throttle_read_iops", "throttleReadIOPSDevice", (ThrottleDevice,)),
        ("throttle_write_iops", "throttleWriteIOPSDevice", (ThrottleDevice,)),
    ),
    HugepageLimit: (("page_size", "pageSize", "s"), ("limit", "limit", "u")),
    Resources: (
        ("devices", "devices", (DeviceCgroup,)),
        ("memory", "memory", Memory),
        ("cpu", "cpu", Cpu),
        ("pids", "pids", Pids),
        ("block_io", "blockIO", BlockIo),
        ("hugepage_limits", "hugepageLimits", (HugepageLimit,)),
        ("unified", "unified", "M"),
    ),
    SyscallArg: (
        ("index", "index", "n"),
        ("value", "value", "w"),
        ("value_two", "valueTwo", "w"),
        ("op", "op", "s"),
    ),
    Syscall: (
        ("names", "names", "S"),
        ("action", "action", "s"),
        ("errno_ret", "errnoRet", "n"),
        ("args", "args", (SyscallArg,)),
    ),
    Seccomp: (
        ("default_action", "defaultAction", "s"),
        ("default_errno_ret", "defaultErrnoRet", "n"),
        ("architectures", "architectures", "S"),
        ("flags", "flags", "S"),
        ("listener_path", "listenerPath", "s"),
        ("listener_metadata", "listenerMetadata", "s"),
        ("syscalls", "syscalls", (Syscall,)),
    ),
    Linux: (
        ("namespaces", "namespaces", (Namespace,)),
        ("uid_mappings", "uidMappings", (IdMapping,)),
        ("gid_mappings", "gidMappings", (IdMapping,)),
        ("devices", "devices", (Device,)),
        ("cgroups_path", "cgroupsPath", "s"),
        ("resources", "resources", Resources),
        ("rootfs_propagation", "rootfsPropagation", "s"),
        ("seccomp", "seccomp", Seccomp),
        ("sysctl", "sysctl", "M"),
        ("masked_paths", "maskedPaths", "S"),
        ("readonly_paths", "readonlyPaths", "S"),
        ("mount_label", "mountLabel", "s"),
    ),
    Hook: (
        ("path", "path", "p"),
        ("args", "args", "S"),
        ("env", "env", "S"),
        ("timeout", "timeout", "i"),
    ),
    Hooks: (
        ("prestart", "prestart", (Hook,)),
        ("create_runtime", "createRuntime", (Hook,)),
        ("create_container", "createContainer", (Hook,)),
        ("start_container", "startContainer", (Hook,)),
        ("poststart", "poststart", (Hook,)),
        ("poststop", "poststop", (Hook,)),
    ),
    Spec: (
        ("oci_version", "ociVersion", "s"),
        ("process", "process", Process),
        ("root", "root", Root),
        ("hostname", "hostname", "s"),
        ("domainname", "domainname", "s"),
        ("mounts", "mounts", (Mount,)),
        ("hooks", "hooks", Hooks),
        ("annotations", "annotations", "M"),
        ("linux", "linux", Linux),
    ),
}

# Asked for and not carried out would be a promise broken in silence.
_REFUSED: dict[type[Record], tuple[str, ...]] = {
    Process: ("ioPriority", "execCPUAffinity"),
    Linux: ("intelRdt", "memoryPolicy", "netDevices", "personality", "timeOffsets"),
    Resources: ("network", "rdma"),
    Cpu: ("realtimePeriod", "realtimeRuntime"),
    BlockIo: ("leafWeight",),
}

_INTEGERS = {
    "i": (-(1 << 63), (1 << 63) - 1, "a 64-bit integer"),
    "u": (-1, (1 << 64) - 1, "an unsigned 64-bit integer"),
    "w": (0, (1 << 64) - 1, "an unsigned 64-bit integer"),
    "n": (0, (1 << 32) - 2, "an integer from 0 to 4294967294"),
}


def parse_spec(value: Json, *, what: str = "config.json") -> Spec:
    """Read the document; a `DamagedDocument` names the key that cannot be meant."""
    return parse_record(Spec, value, what=what)


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """Write the document, without what is as it is by default."""
    document = record_to_json(spec)
    return {"ociVersion": spec.oci_version, **document}


def parse_record(cls: type[R], value: Json, *, what: str) -> R:
    """Read one record of the document by itself: ``process`` for an exec, ``linux.resources``."""
    return _record(cls, value, what, "")


def record_to_json(record: Record) -> dict[str, Any]:
    """Write one record of the document by itself."""
    made: dict[str, Any] = {}
    defaults = type(record)._defaults
    for field, key, kind in _FIELDS[type(record)]:
        value = getattr(record, field)
        if field in defaults and value == defaults[field]:
            continue
        made[key] = _plain(kind, value)
    return made


def _plain(kind: Any, value: Any) -> Any:
    if isinstance(kind, tuple):
        return [record_to_json(item) for item in value]
    if not isinstance(kind, str):
        return record_to_json(value)
    if kind == "M":
        return dict(value)
    if kind in "SN":
        return list(value)
    if kind == "u" and value == -1:
        return (1 << 64) - 1
    return value


def _record(cls: type[R], value: Json, what: str, where: str) -> R:
    if not isinstance(value, dict):
        raise _wrong(what, where, "an object", value)
    values: dict[str, Any] = {}
    defaults = cls._defaults
    for field, key, kind in _FIELDS[cls]:
        item = value.get(key)
        # null is what Go programs write for an empty list or a nil pointer.
        if item is not None:
            values[field] = _value(kind, item, what, f"{where}.{key}" if where else key)
        elif field not in defaults:
            raise DamagedDocument(what=what, problem=f"{where}.{key}: is missing")
    for key in _REFUSED.get(cls, ()):
        item = value.get(key)
        if any(item.values()) if isinstance(item, dict) else item:
            raise HostLacks(f"{what}: {where}.{key} is not supported")
    return cls(**values)


def _value(kind: Any, value: Json, what: str, where: str) -> Any:
    if isinstance(kind, tuple):
        items = _list(value, what, where)
        return tuple(
            [_record(kind[0], item, what, f"{where}[{at}]") for at, item in enumerate(items)]
        )
    if not isinstance(kind, str):
        return _record(kind, value, what, where)
    if kind in "sp":
        return _string(value, what, where, absolute=kind == "p")
    if kind == "b":
        if not isinstance(value, bool):
            raise _wrong(what, where, "true or false", value)
        return value
    if kind == "S":
        return tuple(
            [
                _string(item, what, f"{where}[{at}]")
                for at, item in enumerate(_list(value, what, where))
            ]
        )
    if kind == "N":
        return tuple(
            [
                _integer("n", item, what, f"{where}[{at}]")
                for at, item in enumerate(_list(value, what, where))
            ]
        )
    if kind == "M":
        if not isinstance(value, dict):
            raise _wrong(what, where, "an object", value)
        return tuple(
            [
                (_string(key, what, where), _string(item, what, f"{where}.{key}"))
                for key, item in value.items()
            ]
        )
    return _integer(kind, value, what, where)


def _list(value: Json, what: str, where: str) -> list[Json]:
    if not isinstance(value, list):
        raise _wrong(what, where, "a list", value)
    return value


def _string(value: Json, what: str, where: str, *, absolute: bool = False) -> str:
    if not isinstance(value, str):
        raise _wrong(what, where, "a string", value)
    if "\0" in value:
        raise DamagedDocument(what=what, problem=f"{where}: has a NUL in it")
    if absolute and not value.startswith("/"):
        raise DamagedDocument(what=what, problem=f"{where}: {value!r} is not an absolute path")
    return value


def _integer(kind: str, value: Json, what: str, where: str) -> int:
    least, most, words = _INTEGERS[kind]
    # Some writers have 1e9 or 5.0 for a whole number.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(what, where, words, value)
    if kind == "u" and value == (1 << 64) - 1:
        return -1
    return value


def _wrong(what: str, where: str, expected: str, value: Json) -> DamagedDocument:
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    prefix = f"{where}: " if where else ""
    return DamagedDocument(what=what, problem=f"{prefix}expected {expected}, not {shown}")
