"""What may be asked of a run: every option, by its long name, checked at the door.

The command line and the Python interface give the same keywords: a flag's
long name with underscores.  `parse_options` turns them into one frozen
`RunOptions`; anything that cannot be meant is an `InvalidOption` that names
the option.  Nothing here looks at an image, a container or the host, except
for the number of processors and the existence of bind sources.
"""

from __future__ import annotations

import os

from ..errors import UsageError
from ..record import Record, fields_of
from .units import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeAlias

    RestartPolicy: TypeAlias = Literal["no", "on-failure", "always", "unless-stopped"]

MINIMUM_MEMORY = 6 << 20
DEFAULT_PIDS_LIMIT = 2048
DEFAULT_SHM_SIZE = 64 << 20
MOST_DIGITS = 9  # of a number of restarts
_RESTART_POLICIES: dict[str, RestartPolicy] = {
    "": "no",
    "no": "no",
    "on-failure": "on-failure",
    "always": "always",
    "unless-stopped": "unless-stopped",
}


class InvalidOption(UsageError):
    """A value that an option does not take; ``option`` is its long name."""

    def __init__(self, option: str, value: object, problem: str) -> None:
        self.option, self.value, self.problem = option, value, problem
        super().__init__(
            f'invalid argument "{value}" for "--{option.replace("_", "-")}": {problem}'
        )


class VolumeMount(Record):
    """One ``--volume`` or ``--mount``: ``kind`` is ``bind``, ``volume`` or ``tmpfs``."""

    kind: str
    source: str
    target: str
    readonly: bool = False
    options: tuple[str, ...] = ()  # propagation and MOUNT_ATTR words, as in the OCI spec
    size_bytes: int | None = None
    mode: int | None = None
    create_source: bool = False  # -v makes a missing folder, --mount refuses
    nocopy: bool = False  # an empty volume stays so, whatever the image has there
    labels: tuple[tuple[str, str], ...] = ()  # of the volume, if it is made
    driver_options: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False  # the volume was made for this container, without a name
    inherited: bool = False  # by --volumes-from


class Ulimit(Record):
    """One ``--ulimit``: ``name`` without RLIMIT_, -1 is unlimited."""

    name: str
    soft: int
    hard: int


class PortSpec(Record):
    """One port of a container that the host is to offer; an empty address is any of the host's.

    ``host_port`` 0 is any that is free, and with ``host_end`` any between the two.
    """

    host_address: str = ""
    host_port: int = 0
    host_end: int = 0
    port: int
    protocol: str = "tcp"


class DeviceLimit(Record):
    """One ``--device-read-bps`` or its kin: a device's path and a rate a second."""

    device: str
    rate: int


class RunOptions(Record):
    """Everything that was asked for, parsed.  ``None`` is: not asked."""

    image: str = ""
    command: tuple[str, ...] = ()
    name: str | None = None
    rm: bool = False
    interactive: bool = False
    tty: bool = False
    rootfs: bool = False  # image is the path of a plain folder
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    hostname: str | None = None
    domainname: str | None = None
    network: str = "none"
    ip: str | None = None
    ip6: str | None = None
    mac_address: str | None = None
    network_alias: tuple[str, ...] = ()
    pid: str | None = None
    ipc: str | None = None
    uts: str | None = None
    userns: str | None = None
    uidmap: tuple[str, ...] = ()
    gidmap: tuple[str, ...] = ()
    cgroup_parent: str = ""
    memory: int | None = None
    memory_swap: int | None = None  # memory and swap together; -1 is no limit
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    cpus: float | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None  # -1 is no limit
    blkio_weight: int | None = None
    device_read_bps: tuple[DeviceLimit, ...] = ()
    device_write_bps: tuple[DeviceLimit, ...] = ()
    device_read_iops: tuple[DeviceLimit, ...] = ()
    device_write_iops: tuple[DeviceLimit, ...] = ()
    oom_score_adj: int | None = None
    ulimit: tuple[Ulimit, ...] = ()
    sysctl: tuple[tuple[str, str], ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    volatile: bool | None = None  # None: for --rm runs
    tmpfs: tuple[VolumeMount, ...] = ()
    volume: tuple[VolumeMount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    shm_size: int = DEFAULT_SHM_SIZE
    storage_size: int | None = None  # bytes of the writable layer
    init: bool = False
    label: tuple[tuple[str, str], ...] = ()
    stop_signal: str | None = None
    stop_timeout: int | None = None
    restart: str = "no"
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    publish: tuple[PortSpec, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()  # 80/tcp
    timeout_s: float | None = None
    cpu_time_s: float | None = None
    output_limit: int | None = None
    log_driver: str = "file"  # or "none"
    log_max_size: int = 10 << 20
    log_max_file: int = 3
    log_labels: tuple[str, ...] = ()  # names of what `logs --details` shows
    log_env: tuple[str, ...] = ()
    allow_unenforced: tuple[str, ...] = ()
    platform: str | None = None
    health_cmd: tuple[str, ...] = ()  # as in an image: CMD or CMD-SHELL, and what to run
    health_interval_s: float | None = None
    health_timeout_s: float | None = None
    health_retries: int | None = None
    health_start_period_s: float | None = None
    health_start_interval_s: float | None = None
    no_healthcheck: bool = False

    @property
    def has_health_options(self) -> bool:
        """Something was asked about checks, beside that there be none."""
        return bool(
            self.health_cmd
            or self.health_retries
            or self.health_interval_s
            or self.health_timeout_s
            or self.health_start_period_s
            or self.health_start_interval_s
        )

    @property
    def has_volumes(self) -> bool:
        """Something is mounted that this engine keeps."""
        return any(mount.kind == "volume" for mount in self.volume)


# The plural and short forms that people use in Python.
ALIASES = {
    "pids": "pids_limit",
    "volumes": "volume",
    "envs": "env",
    "environment": "env",
    "devices": "device",
    "labels": "label",
    "sysctls": "sysctl",
    "ulimits": "ulimit",
    "mounts": "mount",
    "ports": "publish",
    "remove": "rm",
    "working_dir": "workdir",
    "stdin_open": "interactive",
}


def parse_options(
    image: str, command: str | Iterable[str] = (), keywords: Mapping[str, Any] | None = None
) -> RunOptions:
    """Check every keyword; returns the parsed whole.

    Values may be what the command line gives (strings, lists of strings) or
    the natural Python types (numbers, dicts for ``env``, ``label``, ``sysctl``).
    ``None`` is the same as leaving an option out.
    """
    if isinstance(command, str):
        raise UsageError("the command is a list of strings, not one string", hint='["sh", "-c", …]')
    try:
        values: dict[str, Any] = {"image": image, "command": _words("command", command)}
    except ValueError as error:
        raise UsageError(f"invalid command: {error}") from error
    mounts: list[VolumeMount] = []
    for given, value in (keywords or {}).items():
        option = ALIASES.get(given, given)
        if value is None:
            continue
        if option == "mount":
            mounts += [parse_mount(text) for text in _words(option, value)]
        elif option in _PARSERS:
            field, parse = _PARSERS[option]
            values[field] = _checked(option, value, parse)
        else:
            raise UsageError(f"unknown option {given!r}", hint="`sandbox run --help` lists all")
    if mounts:
        values["volume"] = (*values.get("volume", ()), *mounts)
    if "log_opt" in values:
        values |= _log_options(values.pop("log_opt"))
    options = RunOptions(**values)
    check_together(options)
    return options


def parse_some(keywords: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """Check keywords one by one; the values by the fields of `RunOptions`, unset ones left out."""
    values = {}
    for given, value in keywords.items():
        option = ALIASES.get(given, given)
        if option not in allowed:
            raise UsageError(f"unknown option {given!r}", hint=f"there are {', '.join(allowed)}")
        if value is not None:
            field, parse = _PARSERS[option]
            values[field] = _checked(option, value, parse)
    return {field: value for field, value in values.items() if value is not None}


def _checked(option: str, value: Any, parse: Callable[[str, Any], Any]) -> Any:
    try:
        return parse(option, value)
    except (ValueError, TypeError) as error:
        raise InvalidOption(option, value, str(error)) from error


def check_together(options: RunOptions) -> None:
    """Refuse values that contradict one another, or that no container can have."""
    cpus_here = len(os.sched_getaffinity(0))
    if options.cpus is not None and not 0.01 <= options.cpus <= cpus_here:
        raise UsageError(
            f"Range of CPUs is from 0.01 to {cpus_here:.2f}, "
            f"as there are only {cpus_here} CPUs available"
        )
    if options.cpus is not None and (options.cpu_quota or options.cpu_period):
        raise UsageError("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
    if options.memory is not None and options.memory < MINIMUM_MEMORY:
        raise UsageError("Minimum memory limit allowed is 6MB")
    if options.memory_swap is not None and options.memory_swap != -1:
        if options.memory is None:
            raise UsageError(
                "You should always set the Memory limit when using Memoryswap limit, see usage"
            )
        if options.memory_swap < options.memory:
            raise UsageError(
                "Minimum memoryswap limit should be larger than memory limit, see usage"
            )
    if options.cpu_shares is not None and options.cpu_shares < 0:
        raise UsageError("shares: invalid argument")
    policy, _most = restart_policy(options.restart)
    if options.rm and policy != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if options.pids_limit is not None and options.pids_limit < -1:
        raise UsageError(f"pids limit {options.pids_limit} is out of range")
    if options.no_healthcheck and options.has_health_options:
        raise UsageError("--no-healthcheck conflicts with --health-* options")
    if options.log_driver not in ("file", "none", "json-file", "local"):
        raise UsageError(
            f"error looking up logging plugin {options.log_driver}: "
            f'plugin "{options.log_driver}" not found'
        )
    if options.name is not None:
        check_container_name(options.name)
    if options.network.startswith("container:"):
        for asked, what in (
            (options.publish or options.publish_all, "publishing"),
            (options.expose, "exposing"),
        ):
            if asked:
                raise UsageError(
                    f"conflicting options: port {what} and the container type network mode"
                )
    if options.network != "none":
        check_network(options)


def check_network(options: RunOptions) -> None:
    """Refuse what the chosen network does not allow, in docker's words."""
    network = options.network
    shared = network == "host" or network.startswith("container:")
    if network.startswith("container:"):
        if network == "container:":
            raise UsageError("Invalid network mode: invalid container format container:<name|id>")
        for name, value in (
            ("hostname", options.hostname),
            ("dns", options.dns or options.dns_search or options.dns_option),
            ("custom host-to-IP mapping", options.add_host),
        ):
            if value:
                raise UsageError(f"conflicting options: {name} and the network mode")
    if shared and options.mac_address:
        raise UsageError("conflicting options: mac-address and the network mode")
    if network == "bridge" or shared:
        if options.ip or options.ip6:
            raise UsageError("user specified IP address is supported on user defined networks only")
        if options.network_alias:
            raise UsageError(
                "network-scoped alias is supported only for containers in user defined networks"
            )


def restart_policy(text: str) -> tuple[RestartPolicy, int]:
    """The policy's name, and the most restarts (0 is any number), of ``on-failure:3``."""
    name, colon, most = text.partition(":")
    if colon and not name:
        raise UsageError("invalid restart policy format: no policy provided before colon")
    policy = _RESTART_POLICIES.get(name)
    if policy is None:
        raise UsageError(f"invalid restart policy '{name}'")
    digits = most.removeprefix("-")
    if most and not (digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS):
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    count = int(most or "0")
    if count and policy != "on-failure":
        raise UsageError(f"maximum retry count cannot be used with restart policy '{name}'")
    if count < 0:
        raise UsageError("maximum retry count cannot be negative")
    return policy, count


def check_container_name(name: str) -> None:
    """Refuse what is no container name, in docker's words."""
    good = (
        len(name) > 1
        and len(name) < 128
        and name.isascii()
        and name[0].isalnum()
        and all(c.isalnum() or c in "_.-" for c in name)
    )
    if not good:
        raise UsageError(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )


def check_volume_name(name: str) -> None:
    """Refuse what is no volume name, in docker's words."""
    if len(name) == 1:
        raise UsageError(
            f"create {name}: volume name is too short, "
            "names should be at least two alphanumeric characters"
        )
    if not (name[:1].isalnum() and name.isascii() and all(c.isalnum() or c in "_.-" for c in name)):
        raise UsageError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    if len(name) > 255:
        raise UsageError(f"create {name}: volume name is too long, over 255 characters")


def _text(_option: str, value: Any) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a string")
    text = str(value)
    if "\0" in text:
        raise ValueError("a NUL inside")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ValueError("not a text that has bytes") from error
    return text


def _flag(_option: str, value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() in ("true", "1", "t"):
            return True
        if value.lower() in ("false", "0", "f"):
            return False
        raise ValueError(f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return bool(value)


def _integer(_option: str, value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None


def _number(_option: str, value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f'failed to parse "{value}" as a rational number') from None
    if not 0 <= number < 1e9:
        raise ValueError(f'"{value}" is out of range')
    return number


def _cpus(option: str, value: Any) -> float | None:
    return _number(option, value) or None


def _size(_option: str, value: Any) -> int:
    return parse_size(value)


def _positive_size(_option: str, value: Any) -> int | None:
    return parse_size(value) or None


def _swap(_option: str, value: Any) -> int | None:
    return -1 if str(value) == "-1" else (parse_size(value) or None)


def _seconds(_option: str, value: Any) -> float | None:
    return parse_duration(value) or None


def _health_seconds(option: str, value: Any) -> float | None:
    _refuse_negative(option, value)
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise ValueError(f'time: invalid duration "{value}"') from None
    if 0 < seconds < 0.001:
        what = "".join(word.capitalize() for word in option.split("_")[1:])
        raise UsageError(f"{what} in Healthcheck cannot be less than 1ms")
    return seconds or None


def _health_retries(option: str, value: Any) -> int | None:
    _refuse_negative(option, value)
    return _integer(option, value) or None


def _refuse_negative(option: str, value: Any) -> None:
    if str(value).startswith("-") and str(value)[1:2].isdigit():
        raise UsageError(f"--{option.replace('_', '-')} cannot be negative")


def _health_command(option: str, value: Any) -> tuple[str, ...]:
    """A text is for the image's shell, as docker's; a list of words is executed as it is."""
    if isinstance(value, str):
        return ("CMD-SHELL", _text(option, value)) if value else ()
    words = _words(option, value)
    return ("CMD", *words) if words else ()


def _words(option: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, int, float)):
        value = (value,)
    if not hasattr(value, "__iter__"):
        raise InvalidOption(option, value, "not a list of strings")
    return tuple(_text(option, item) for item in value)


def _network(option: str, value: Any) -> str:
    """``default`` is docker's word for its bridge."""
    text = _text(option, value)
    return "bridge" if text == "default" else text or "none"


def _address(option: str, value: Any) -> str | None:
    """An address as the kernel writes it; `socket` itself is not worth its price here."""
    import _socket

    text = _text(option, value)
    if not text:
        return None
    family = _socket.AF_INET if option == "ip" else _socket.AF_INET6
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, text))
    except (OSError, UnicodeError):
        kind = "IPv4" if option == "ip" else "IPv6"
        raise ValueError(f"{text} is not an {kind} address") from None


def _mac(option: str, value: Any) -> str | None:
    text = _text(option, value).lower().replace("-", ":")
    if not text:
        return None
    parts = text.split(":")
    is_one = len(parts) == 6 and all(
        len(part) == 2 and not part.strip("0123456789abcdef") for part in parts
    )
    if not is_one or int(parts[0], 16) & 1:
        raise UsageError(f"{value} is not a valid mac address")
    return text


def _pairs(option: str, value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple((_text(option, key), _text(option, item)) for key, item in value.items())
    pairs = []
    for text in _words(option, value):
        name, _, item = text.partition("=")
        if not name:
            raise ValueError(f"invalid value: {text}")
        pairs.append((name, item))
    return tuple(pairs)


def _env(option: str, value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple((_env_name(str(key)), _text(option, item)) for key, item in value.items())
    pairs = []
    for text in _words(option, value):
        name, equals, item = text.partition("=")
        _env_name(name, text)
        if not equals:
            # docker: a bare name takes the caller's value, or nothing at all.
            if name not in os.environ:
                continue
            item = os.environ[name]
        pairs.append((name, item))
    return tuple(pairs)


def _env_name(name: str, text: str = "") -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(f"invalid environment variable: {text or name}")
    return name


def _entrypoint(option: str, value: Any) -> tuple[str, ...]:
    return _words(option, value) if value != "" else ()


def _ulimits(option: str, value: Any) -> tuple[Ulimit, ...]:
    found = []
    for text in (
        [f"{name}={item}" for name, item in value.items()]
        if isinstance(value, dict)
        else _words(option, value)
    ):
        name, equals, numbers = text.partition("=")
        soft, colon, hard = numbers.partition(":")
        try:
            if not equals:
                raise ValueError
            low = -1 if soft in ("-1", "unlimited") else int(soft)
            high = (-1 if hard in ("-1", "unlimited") else int(hard)) if colon else low
            if low < -1 or high < -1:
                raise ValueError
        except ValueError:
            raise ValueError(f"invalid ulimit argument: {text}") from None
        if high != -1 and (low == -1 or low > high):
            raise ValueError(
                f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}"
            )
        found.append(Ulimit(name=name, soft=low, hard=high))
    return tuple(found)


def _device_limits(option: str, value: Any) -> tuple[DeviceLimit, ...]:
    found = []
    for text in _words(option, value):
        device, colon, rate = text.rpartition(":")
        if not colon or not device.startswith("/dev/"):
            raise ValueError(f"bad format: {text}")
        size = int(rate) if option.endswith("iops") else parse_size(rate)
        found.append(DeviceLimit(device=device, rate=size))
    return tuple(found)


_BIND_WORDS = {
    "rshared",
    "shared",
    "rslave",
    "slave",
    "rprivate",
    "private",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "rbind",
    "bind",
    "idmap",
}


def _absolute_target(text: str, target: str, kind: str) -> None:
    if not target.startswith("/"):
        raise UsageError(
            f"invalid volume specification: '{text}': invalid mount config for type "
            f"\"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        )
    if target.rstrip("/") == "" or "/../" in target + "/":
        raise UsageError(f"invalid volume specification: '{text}': destination can't be '/'")


def _volumes(option: str, value: Any) -> tuple[VolumeMount, ...]:
    if isinstance(value, dict):
        # docker-py's habit: {"/host": {"bind": "/ctr", "mode": "ro"}}, or {"/host": "/ctr"}.
        value = [
            f"{source}:{item['bind']}:{item.get('mode', 'rw')}"
            if isinstance(item, dict)
            else f"{source}:{item}"
            for source, item in value.items()
        ]
    found = []
    for text in _words(option, value):
        parts = text.split(":")
        if len(parts) > 3 or not all(parts):
            raise UsageError(f"invalid volume specification: '{text}'")
        if len(parts) == 1:
            source, target, words = "", parts[0], []
        else:
            source, target = parts[0], parts[1]
            words = parts[2].split(",") if len(parts) == 3 else []
        if source.startswith((".", "~")):
            source = os.path.abspath(os.path.expanduser(source))
        kind = "bind" if source.startswith("/") else "volume"
        _absolute_target(text, target, kind)
        unknown = [w for w in words if w not in _BIND_WORDS | {"ro", "rw", "z", "Z", "nocopy"}]
        if kind == "bind":
            unknown += [word for word in words if word == "nocopy"]
        if unknown:
            raise UsageError(f"invalid volume specification: '{text}': invalid mode: {unknown[0]}")
        if kind == "volume" and source:
            check_volume_name(source)
        found.append(
            VolumeMount(
                kind=kind,
                source=source,
                target=target,
                readonly="ro" in words,
                options=tuple(word for word in words if word in _BIND_WORDS),
                create_source=True,
                nocopy="nocopy" in words,
            )
        )
    return tuple(found)


def _tmpfs(option: str, value: Any) -> tuple[VolumeMount, ...]:
    if isinstance(value, dict):
        value = [f"{target}:{words}" if words else target for target, words in value.items()]
    found = []
    for text in _words(option, value):
        target, _, words = text.partition(":")
        _absolute_target(text, target, "tmpfs")
        found.append(
            VolumeMount(
                kind="tmpfs",
                source="tmpfs",
                target=target,
                options=tuple(word for word in words.split(",") if word),
            )
        )
    return tuple(found)


def parse_mount(text: str) -> VolumeMount:
    """One ``--mount type=bind,src=…,dst=…[,readonly][,bind-propagation=…]``."""
    values: dict[str, str] = {}
    repeated: dict[str, list[tuple[str, str]]] = {"volume-label": [], "volume-opt": []}
    for part in _comma_separated(text):
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if key in repeated:
            name, _, item = value.partition("=")
            repeated[key].append((name, item))
        else:
            values[key] = value if equals else "true"
    kind = values.pop("type", "volume")
    source = values.pop("source", values.pop("src", ""))
    target = ""
    for key in ("target", "destination", "dst"):
        target = values.pop(key, target)
    readonly = any(values.pop(key, "false") not in ("false", "0") for key in ("readonly", "ro"))
    if kind not in ("bind", "volume", "tmpfs"):
        raise UsageError(f"invalid mount config: unknown mount type {kind!r}")
    if not target:
        raise UsageError(f'invalid mount config for type "{kind}": field Target must not be empty')
    _absolute_target(text, target, kind)
    options = []
    if "bind-propagation" in values:
        options.append(values.pop("bind-propagation"))
    if values.pop("bind-nonrecursive", "false") not in ("false", "0"):
        options.append("bind")
    if values.pop("idmap", "false") not in ("false", "0"):
        options.append("idmap")
    size = values.pop("tmpfs-size", None)
    mode = values.pop("tmpfs-mode", None)
    of_volumes = [*(key for key in values if key.startswith("volume-"))]
    of_volumes += [key for key, pairs in repeated.items() if pairs]
    if of_volumes and kind != "volume":
        raise InvalidOption(
            "mount", text, f"cannot mix 'volume-*' options with mount type '{kind}'"
        )
    nocopy = values.pop("volume-nocopy", "false") not in ("false", "0")
    driver = values.pop("volume-driver", "local") or "local"
    if "volume-subpath" in values:
        raise UsageError("volume-subpath is not supported", hint="mount the whole volume")
    if kind == "volume":
        from .volumes import check_driver  # only who mounts a volume pays for it

        if source:
            check_volume_name(source)
        check_driver(source, driver, dict(repeated["volume-opt"]))
    if values:
        raise UsageError(f"invalid field {next(iter(values))!r} in --mount {text}")
    if kind == "bind":
        if not source:
            raise UsageError('invalid mount config for type "bind": field Source must not be empty')
        if not source.startswith("/"):
            raise UsageError(
                f"invalid mount config for type \"bind\": invalid mount path: '{source}' "
                "mount path must be absolute"
            )
    return VolumeMount(
        kind=kind,
        source=source or ("tmpfs" if kind == "tmpfs" else ""),
        target=target,
        readonly=readonly,
        options=tuple(options),
        size_bytes=None if size is None else parse_size(size),
        mode=None if mode is None else int(mode, 8),
        nocopy=nocopy,
        labels=tuple(repeated["volume-label"]),
        driver_options=tuple(repeated["volume-opt"]),
    )


def _comma_separated(text: str) -> list[str]:
    """The fields of one line of CSV: one in double quotes may hold commas."""
    fields, rest = [], text
    while True:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            while end >= 0 and rest[end + 1 : end + 2] == '"':
                end = rest.find('"', end + 2)
            if end < 0 or rest[end + 1 : end + 2] not in ("", ","):
                raise InvalidOption("mount", text, 'extraneous or missing " in quoted-field')
            fields.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :]
        else:
            field, comma, after = rest.partition(",")
            fields.append(field)
            rest = comma + after
        if not rest:
            return fields
        rest = rest[1:]


def _publish(option: str, value: Any) -> tuple[PortSpec, ...]:
    from .portspec import of_mapping, parse_publish  # only who publishes pays for it

    texts = tuple(of_mapping(value)) if isinstance(value, dict) else _words(option, value)
    return tuple(dict.fromkeys(spec for text in texts for spec in parse_publish(text)))


def _expose(option: str, value: Any) -> tuple[str, ...]:
    from .portspec import parse_expose

    return tuple(
        dict.fromkeys(port for text in _words(option, value) for port in parse_expose(text))
    )


def _storage(option: str, value: Any) -> int | None:
    for name, item in _pairs(option, value):
        if name != "size":
            raise ValueError(f"unknown storage option {name!r}; there is size=BYTES")
        return parse_size(item)
    return None


def _log_options(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, item in pairs:
        if name not in ("max-size", "max-file", "labels", "env"):
            raise UsageError(f"unknown log opt '{name}' for file log driver")
        try:
            if name in ("labels", "env"):
                values[f"log_{name}"] = tuple(word for word in item.split(",") if word)
            elif name == "max-size":
                values["log_max_size"] = parse_size(item)
            else:
                values["log_max_file"] = int(item)
        except ValueError as error:
            raise UsageError(f"invalid value for log opt '{name}': {item}") from error
    return values


# keyword: (field of RunOptions, parser)
_PARSERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    **{
        name: (name, _text)
        for name in (
            "name workdir user hostname domainname pid ipc uts userns cgroup_parent "
            "cpuset_cpus cpuset_mems stop_signal restart log_driver platform"
        ).split()
    },
    **{
        name: (name, _flag)
        for name in (
            "rm interactive tty rootfs privileged read_only volatile init no_healthcheck "
            "publish_all"
        ).split()
    },
    **{
        name: (name, _integer)
        for name in (
            "memory_swappiness cpu_period cpu_quota cpu_shares pids_limit blkio_weight "
            "oom_score_adj stop_timeout"
        ).split()
    },
    **{
        name: (name, _words)
        for name in (
            "group_add uidmap gidmap cap_add cap_drop security_opt device add_host dns "
            "dns_search dns_option allow_unenforced volumes_from network_alias"
        ).split()
    },
    **{
        f"device_{way}_{unit}": (f"device_{way}_{unit}", _device_limits)
        for way in ("read", "write")
        for unit in ("bps", "iops")
    },
    "network": ("network", _network),
    "ip": ("ip", _address),
    "ip6": ("ip6", _address),
    "mac_address": ("mac_address", _mac),
    "env": ("env", _env),
    "entrypoint": ("entrypoint", _entrypoint),
    "memory": ("memory", _positive_size),
    "memory_swap": ("memory_swap", _swap),
    "memory_reservation": ("memory_reservation", _positive_size),
    "cpus": ("cpus", _cpus),
    "ulimit": ("ulimit", _ulimits),
    "sysctl": ("sysctl", _pairs),
    "label": ("label", _pairs),
    "volume": ("volume", _volumes),
    "tmpfs": ("tmpfs", _tmpfs),
    "publish": ("publish", _publish),
    "expose": ("expose", _expose),
    "shm_size": ("shm_size", _size),
    "storage_opt": ("storage_size", _storage),
    "log_opt": ("log_opt", _pairs),
    "timeout": ("timeout_s", _seconds),
    "cpu_time": ("cpu_time_s", _seconds),
    "output_limit": ("output_limit", _positive_size),
    "health_cmd": ("health_cmd", _health_command),
    "health_retries": ("health_retries", _health_retries),
    **{
        f"health_{name}": (f"health_{name}_s", _health_seconds)
        for name in ("interval", "timeout", "start_period", "start_interval")
    },
}


# Fields that hold records, for reading a kept document back.
_RECORD_FIELDS: dict[str, type[Record]] = {
    "tmpfs": VolumeMount,
    "volume": VolumeMount,
    "publish": PortSpec,
    "ulimit": Ulimit,
    "device_read_bps": DeviceLimit,
    "device_write_bps": DeviceLimit,
    "device_read_iops": DeviceLimit,
    "device_write_iops": DeviceLimit,
}
_DEFAULTS = fields_of(RunOptions())


def options_document(options: RunOptions) -> dict[str, Any]:
    """What differs from the defaults, as JSON values."""
    return {
        field: _plain(value)
        for field, value in fields_of(options).items()
        if value != _DEFAULTS[field]
    }


def options_from_document(document: Mapping[str, Any]) -> RunOptions:
    """The options that `options_document` wrote; unknown fields are those of another version."""
    values: dict[str, Any] = {}
    for field, value in document.items():
        if field not in _DEFAULTS:
            continue
        kind = _RECORD_FIELDS.get(field)
        if kind is not None:
            values[field] = tuple(
                kind(**{key: _frozen(item) for key, item in each.items()}) for each in value
            )
        else:
            values[field] = _frozen(value)
    return RunOptions(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {key: _plain(item) for key, item in fields_of(value).items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
