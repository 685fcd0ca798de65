"""Docker's JSON of containers and images, and our report of a run.

Keys and their order are docker's (API 1.41); what this engine does not have is
there with docker's empty value.  ``Sandbox`` is the one key that docker does
not have: verdict, receipt, and how each limit is enforced.
"""

from __future__ import annotations

import time

from ..errors import SandboxError
from ..monitor import exitrecord
from ..oci import imageconfig
from ..oci.imageconfig import ImageConfig
from ..record import Record
from ..runtime.defaults import MASKED_PATHS, READONLY_PATHS
from ..state import networks
from .joining import memberships_of
from .options import restart_policy
from .publishing import bindings_document, exposed, ports_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.store import Image as Image
    from ..jsontext import Json
    from ..monitor.exitrecord import ExitRecord as ExitRecord
    from ..monitor.exitrecord import Receipt as Receipt
    from ..monitor.logs import LogEntry as LogEntry
    from ..state.containers import Membership
    from ..state.networks import EndpointRecord, NetworkRecord
    from .container import Attachment, Container
    from .engine import Engine
    from .options import DeviceLimit, RunOptions, VolumeMount
    from .result import Enforced
    from .status import Status

NEVER = "0001-01-01T00:00:00Z"
# What docker's number field gets when nobody knows: never an invented 0.
UNKNOWN_EXIT_CODE = 255


class Report(Record):
    """How a run ended, what it used, and how its limits were enforced."""

    verdict: str
    detail: str
    exit_code: int | None
    signal: int | None
    receipt: Receipt
    enforcement: tuple[Enforced, ...]

    def document(self) -> dict[str, Json]:
        """The report as JSON has it; a number that this host cannot give is null."""
        return {
            "verdict": self.verdict,
            "detail": self.detail,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "receipt": self.receipt.as_json(),
            "enforcement": {each.limit: each.by for each in self.enforcement},
        }


def report_of_run(attachment: Attachment, record: ExitRecord) -> Report:
    """The report of a run that has just been waited for; its container may be gone."""
    verdict, detail = exitrecord.verdict_of(record)
    return Report(
        verdict=verdict,
        detail=detail,
        exit_code=record.exit_code,
        signal=record.signal,
        receipt=exitrecord.receipt_of(record, layer_bytes=attachment.written_bytes),
        enforcement=attachment.enforcement,
    )


def report_of_container(container: Container) -> Report:
    """The report of a container's last run.  `WrongStatus` when it never ran."""
    record = container.last_exit()
    verdict, detail, _receipt, enforcement = container.report()
    return Report(
        verdict=verdict,
        detail=detail,
        exit_code=record.exit_code,
        signal=record.signal,
        receipt=exitrecord.receipt_of(record, layer_bytes=container.size()[0]),
        enforcement=enforcement,
    )


def inspect_container(container: Container, *, with_size: bool = False) -> dict[str, Json]:
    """Docker's document about a container."""
    status = container.status()
    options = container.options
    first, *rest = container.command or ("",)
    image = _image_of(container)
    made: dict[str, Json] = {
        "Id": container.id,
        "Created": timestamp(container.created_ns),
        "Path": first,
        "Args": [*rest],
        "State": _state(status) | _health(container),
        "Image": container.image_id,
        "ResolvConfPath": f"{container.folder}/resolv.conf",
        "HostnamePath": f"{container.folder}/hostname",
        "HostsPath": f"{container.folder}/hosts",
        "LogPath": container.log_path if options.log_driver != "none" else "",
        "Name": f"/{container.name}",
        "RestartCount": status.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(options),
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(reversed(image.layers)) if image is not None else "",
                "MergedDir": "",
                "UpperDir": f"{container.folder}/upper",
                "WorkDir": f"{container.folder}/work",
            },
            "Name": "overlay2",
        },
    }
    if with_size:
        written, whole = container.size()
        made |= {"SizeRw": written, "SizeRootFs": whole}
    volumes = f"{container._engine.paths.root}/volumes"
    made["Mounts"] = [_mount(mount, volumes) for mount in options.volume]
    made["Config"] = _config(container, image)
    made["NetworkSettings"] = _network_settings(container, status)
    made["Sandbox"] = _sandbox(container, status)
    return made


def inspect_image(engine: Engine, image: Image) -> dict[str, Json]:
    """Docker's document about an image."""
    try:
        document = imageconfig.parse(engine.store.read_blob(image.id), what=f"image {image.id}")
        author, history = document.author, document.history
        diff_ids = document.diff_ids
    except (OSError, SandboxError):
        author, history, diff_ids = "", (), ()
    config = _image_config(image)
    config |= {"Image": ""}
    return {
        "Id": image.id,
        "RepoTags": [*image.names],
        "RepoDigests": [*image.digests],
        "Parent": "",
        "Comment": next((step.comment for step in reversed(history) if step.comment), ""),
        "Created": image.created,
        "Container": "",
        "ContainerConfig": _empty_config(),
        "DockerVersion": "",
        "Author": author,
        "Config": config,
        "Architecture": image.architecture,
        **({"Variant": image.variant} if image.variant else {}),
        "Os": image.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {
            "Data": {
                **(
                    {"LowerDir": ":".join(reversed(image.layers[:-1]))}
                    if len(image.layers) > 1
                    else {}
                ),
                "MergedDir": "",
                "UpperDir": image.layers[-1] if image.layers else "",
                "WorkDir": "",
            },
            "Name": "overlay2",
        },
        "RootFS": {"Type": "layers", "Layers": [*diff_ids]},
        "Metadata": {"LastTagTime": NEVER},
    }


def timestamp(then_ns: int) -> str:
    """RFC 3339 in UTC, with nanoseconds as far as they are not zero; docker's never for 0."""
    if then_ns <= 0:
        return NEVER
    seconds, nanoseconds = divmod(then_ns, 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def _image_of(container: Container) -> Image | None:
    if not container.image_id:
        return None
    try:
        return container._engine.image(container.image_id)
    except SandboxError:
        return None


def _state(status: Status) -> dict[str, Json]:
    number = status.exit_code
    if number is None:
        number = 128 + status.signal if status.signal is not None else 0
        if status.word == "exited" and status.signal is None:
            number = UNKNOWN_EXIT_CODE
    return {
        "Status": status.word,
        "Running": status.is_live,
        "Paused": status.word == "paused",
        "Restarting": status.word == "restarting",
        "OOMKilled": status.verdict == exitrecord.OOM,
        "Dead": False,
        "Pid": status.pid,
        "ExitCode": number,
        "Error": status.error,
        "StartedAt": timestamp(status.started_ns),
        "FinishedAt": timestamp(status.finished_ns),
    }


def _health(container: Container) -> dict[str, Json]:
    health = container.health()
    if health is None:
        return {}
    log: list[Json] = [
        {
            "Start": timestamp(each.started_ns),
            "End": timestamp(each.finished_ns),
            "ExitCode": each.exit_code,
            "Output": each.output,
        }
        for each in health.log
    ]
    return {"Health": {"Status": health.status, "FailingStreak": health.failing_streak, "Log": log}}


def _sandbox(container: Container, status: Status) -> Json:
    if status.record is None or status.is_live:
        return {"Verdict": status.verdict or None, "Detail": status.detail, "Receipt": None}
    try:
        report = report_of_container(container)
    except SandboxError:
        return {"Verdict": status.verdict or None, "Detail": status.detail, "Receipt": None}
    return {
        "Verdict": report.verdict,
        "Detail": report.detail,
        "Receipt": report.receipt.as_json(),
        "Enforcement": {each.limit: each.by for each in report.enforcement},
    }


def _mount(mount: VolumeMount, volumes: str) -> Json:
    made: dict[str, Json] = {"Type": mount.kind}
    source = mount.source
    if mount.kind == "volume":
        made["Name"] = source
        source = f"{volumes}/{source}/_data"
    propagation = [word for word in mount.options if word.endswith(("private", "shared", "slave"))]
    made |= {
        "Source": "" if mount.kind == "tmpfs" else source,
        "Destination": mount.target,
    }
    if mount.kind == "volume":
        made["Driver"] = "local"
    made |= {
        "Mode": "ro" if mount.readonly else "",
        "RW": not mount.readonly,
        "Propagation": propagation[0]
        if propagation
        else "rprivate"
        if mount.kind == "bind"
        else "",
    }
    return made


def _bind(mount: VolumeMount) -> str:
    words = [*(["ro"] if mount.readonly else []), *mount.options]
    return ":".join([mount.source, mount.target, *([",".join(words)] if words else [])])


def _host_config(options: RunOptions) -> dict[str, Json]:
    policy, most = restart_policy(options.restart)
    binds: list[Json] = [
        _bind(mount)
        for mount in options.volume
        if mount.kind != "tmpfs" and not mount.anonymous and not mount.inherited
    ]
    tmpfs: dict[str, Json] = {each.target: ",".join(each.options) for each in options.tmpfs}
    return {
        "Binds": binds or None,
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": options.log_driver,
            "Config": {
                "max-file": str(options.log_max_file),
                "max-size": str(options.log_max_size),
                **({"labels": ",".join(options.log_labels)} if options.log_labels else {}),
                **({"env": ",".join(options.log_env)} if options.log_env else {}),
            },
        },
        "NetworkMode": options.network,
        "PortBindings": bindings_document(options),
        "RestartPolicy": {
            "Name": policy,
            "MaximumRetryCount": most,
        },
        "AutoRemove": options.rm,
        "VolumeDriver": "",
        "VolumesFrom": _words(options.volumes_from),
        "CapAdd": _words(options.cap_add),
        "CapDrop": _words(options.cap_drop),
        "CgroupnsMode": "private",
        "Dns": [*options.dns],
        "DnsOptions": [*options.dns_option],
        "DnsSearch": [*options.dns_search],
        "ExtraHosts": _words(options.add_host),
        "GroupAdd": _words(options.group_add),
        "IpcMode": options.ipc or "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": options.oom_score_adj or 0,
        "PidMode": options.pid or "",
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": _words(options.security_opt),
        **({"StorageOpt": {"size": str(options.storage_size)}} if options.storage_size else {}),
        **({"Tmpfs": tmpfs} if tmpfs else {}),
        "UTSMode": options.uts or "",
        "UsernsMode": options.userns or "",
        "ShmSize": options.shm_size,
        **({"Sysctls": dict(options.sysctl)} if options.sysctl else {}),
        "Runtime": "sandbox",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        **_limits(options),
        "MaskedPaths": [] if options.privileged else [*MASKED_PATHS],
        "ReadonlyPaths": [] if options.privileged else [*READONLY_PATHS],
    }


def _limits(options: RunOptions) -> dict[str, Json]:
    return {
        "CpuShares": options.cpu_shares or 0,
        "Memory": options.memory or 0,
        "NanoCpus": round((options.cpus or 0) * 1_000_000_000),
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight or 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": _rates(options.device_read_bps),
        "BlkioDeviceWriteBps": _rates(options.device_write_bps),
        "BlkioDeviceReadIOps": _rates(options.device_read_iops),
        "BlkioDeviceWriteIOps": _rates(options.device_write_iops),
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": options.cpuset_cpus or "",
        "CpusetMems": options.cpuset_mems or "",
        "Devices": [_device(text) for text in options.device],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": options.memory_swap or 0,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": False,
        "PidsLimit": options.pids_limit,
        "Ulimits": [
            {"Name": each.name, "Hard": each.hard, "Soft": each.soft} for each in options.ulimit
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _device(text: str) -> Json:
    host, _, rest = text.partition(":")
    inside, _, allowed = rest.partition(":")
    if inside and not inside.startswith("/"):
        inside, allowed = "", inside
    return {
        "PathOnHost": host,
        "PathInContainer": inside or host,
        "CgroupPermissions": allowed or "rwm",
    }


def _rates(limits: tuple[DeviceLimit, ...]) -> Json:
    return [{"Path": each.device, "Rate": each.rate} for each in limits]


def _words(values: tuple[str, ...]) -> Json:
    return [*values] or None


def _empty_config() -> dict[str, Json]:
    return {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": "",
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": None,
    }


def _image_config(image: Image) -> dict[str, Json]:
    config = image.config
    made = _empty_config() | {
        "User": config.user,
        "Env": _words(config.env),
        "Cmd": None if config.cmd is None else [*config.cmd],
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": None if config.entrypoint is None else [*config.entrypoint],
        "OnBuild": _words(config.on_build),
        "Labels": dict(config.labels) or None,
    }
    if config.exposed_ports:
        made["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.healthcheck is not None:
        made["Healthcheck"] = config.healthcheck.document()
    if config.stop_signal:
        made["StopSignal"] = config.stop_signal
    return made


def log_details(container: Container) -> tuple[tuple[str, str], ...]:
    """The labels and variables that ``--log-opt labels=,env=`` names, sorted by name."""
    options = container.options
    labels, env = dict(container.labels), _environment(container, _image_of(container))
    found = {name: labels[name] for name in options.log_labels if name in labels}
    found |= {name: env[name] for name in options.log_env if name in env}
    return tuple(sorted(found.items()))


def _environment(container: Container, image: Image | None) -> dict[str, str]:
    env = dict(text.partition("=")[::2] for text in (image.config.env if image else ()))
    return env | dict(container.options.env)


def _config(container: Container, image: Image | None) -> dict[str, Json]:
    options = container.options
    made = _empty_config() if image is None else _image_config(image)
    env = _environment(container, image)
    made |= {
        "Hostname": options.hostname or container.id[:12],
        "Domainname": options.domainname or "",
        "User": options.user or made["User"],
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Cmd": [*options.command] or made["Cmd"],
        "Image": container.image,
        "WorkingDir": options.workdir or made["WorkingDir"],
        "Labels": dict(container.labels),
    }
    if options.publish or options.expose:
        config = ImageConfig() if image is None else image.config
        made["ExposedPorts"] = {port: {} for port in exposed(options, config)}
    if options.entrypoint is not None:
        made["Entrypoint"] = [*options.entrypoint] or None
        made["Cmd"] = [*options.command] or None
    if options.no_healthcheck or options.has_health_options:
        from .health import healthcheck_of  # with all that makes containers

        check = healthcheck_of(options, ImageConfig() if image is None else image.config)
        if check is not None:
            made["Healthcheck"] = check.document()
    unnamed = [each.target for each in options.volume if each.anonymous and not each.inherited]
    if unnamed:
        of_image = image.config.volumes if image is not None else ()
        made["Volumes"] = {path: {} for path in (*of_image, *unnamed)}
    if options.stop_signal:
        made["StopSignal"] = options.stop_signal
    if options.stop_timeout is not None:
        made["StopTimeout"] = options.stop_timeout
    return made


def _network_settings(container: Container, status: Status) -> dict[str, Json]:
    joined = _joined(container, is_live=status.is_live)
    # Docker's old place for the addresses on its default network.
    default = joined.get("bridge") or _endpoint_document()
    names = (
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    )
    return {
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": ports_document(container.ports()),
        "SandboxKey": f"/proc/{status.pid}/ns/net" if status.pid else "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: default[name] for name in names},
        "Networks": dict(joined),
    }


def _joined(container: Container, *, is_live: bool) -> dict[str, dict[str, Json]]:
    """The endpoints of a container by network, with their addresses if it runs."""
    paths, record = container._engine.paths, container.record
    found = {}
    for membership in memberships_of(record):
        try:
            network = networks.read(paths, membership.network)
        except SandboxError:
            found[membership.network] = _endpoint_document(membership)
            continue
        endpoint = networks.read_endpoint(paths, network.id, record.id) if is_live else None
        found[membership.network] = _endpoint_document(membership, network, endpoint)
    if not found and record.networks is None and not container.options.network.startswith("con"):
        found[container.options.network] = _endpoint_document()
    return found


def _endpoint_document(
    membership: Membership | None = None,
    network: NetworkRecord | None = None,
    endpoint: EndpointRecord | None = None,
) -> dict[str, Json]:
    wished: dict[str, Json] = {}
    if membership is not None and membership.ip:
        wished["IPv4Address"] = membership.ip
    if membership is not None and membership.ip6:
        wished["IPv6Address"] = membership.ip6
    made: dict[str, Json] = {
        "IPAMConfig": wished or None,
        "Links": None,
        "Aliases": [*membership.aliases] or None if membership is not None else None,
        "NetworkID": network.id if network is not None else "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": None,
    }
    if network is None or endpoint is None:
        return made
    from .networks import endpoint_id, with_prefixes

    made["EndpointID"] = endpoint_id(network.id, endpoint.container_id)
    made["MacAddress"] = endpoint.mac
    if endpoint.names and network.name != networks.DEFAULT:
        made["DNSNames"] = [*endpoint.names]
    four, six = with_prefixes(network, endpoint.addresses)
    for text, address, length, gateway in (
        (four, "IPAddress", "IPPrefixLen", "Gateway"),
        (six, "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ):
        if text:
            ip, _, prefix = text.partition("/")
            is_ipv6 = ":" in ip
            made[address], made[length] = ip, int(prefix)
            if not network.internal:
                made[gateway] = next(
                    each.gateway for each in network.subnets if (":" in each.cidr) == is_ipv6
                )
    return made
