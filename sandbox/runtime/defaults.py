"""What a container gets when nothing is asked for: docker's contract, as data.

The lists of paths and capabilities are those of current moby, not of the version
that a distribution ships.
"""

from __future__ import annotations

import os

from ..oci.spec import (
    Capabilities,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Root,
    Spec,
)
from ..record import replace
from . import capabilities, devices, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..oci.spec import Device, DeviceCgroup, IdMapping

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_BYTES = 64 << 20

_PRIVATE = ("nosuid", "noexec", "nodev")

MOUNTS = (
    Mount(destination="/proc", type="proc", source="proc", options=_PRIVATE),
    Mount(
        destination="/dev",
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "strictatime", "mode=755", "size=65536k"),
    ),
    Mount(
        destination="/dev/pts",
        type="devpts",
        source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_PRIVATE, "ro")),
    Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=("ro", *_PRIVATE)),
    Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_PRIVATE),
)

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

NAMESPACES = ("mount", "network", "uts", "pid", "ipc", "cgroup")

# A program in a network namespace of its own may use any port and send pings.
SYSCTLS = (
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
)


def shm_mount(size_bytes: int = SHM_BYTES) -> Mount:
    """``/dev/shm``."""
    return Mount(
        destination="/dev/shm",
        type="tmpfs",
        source="shm",
        options=(*_PRIVATE, "mode=1777", f"size={size_bytes}"),
    )


def masked_paths(cpus: str = "/sys/devices/system/cpu") -> tuple[str, ...]:
    """The masked paths, with each processor's ``thermal_throttle`` on a host that has them."""
    # A host has them for all of its processors or for none, so most pay one stat.
    if not _exists(f"{cpus}/cpu0/thermal_throttle"):
        return MASKED_PATHS
    names = [name for name in os.listdir(cpus) if name[:3] == "cpu" and name[3:].isdigit()]
    return (
        *MASKED_PATHS,
        *[
            f"/sys/devices/system/cpu/{name}/thermal_throttle"
            for name in sorted(names, key=lambda name: int(name[3:]))
            if _exists(f"{cpus}/{name}/thermal_throttle")
        ],
    )


def default_namespaces(
    *, host: Iterable[str] = (), joined: Iterable[tuple[str, str]] = (), user: bool = False
) -> tuple[Namespace, ...]:
    """All six, without those that stay the host's; some joined by path; a user namespace too."""
    host = frozenset(host)
    paths = dict(joined)
    wanted = (*NAMESPACES, "user") if user else NAMESPACES
    return tuple(
        [Namespace(type=kind, path=paths.get(kind, "")) for kind in wanted if kind not in host]
    )


def default_capabilities(
    names: tuple[str, ...] = capabilities.DEFAULT, *, ambient: tuple[str, ...] = ()
) -> Capabilities:
    """These in the bounding, effective and permitted sets; nothing is inheritable."""
    return Capabilities(
        bounding=names,
        effective=names,
        permitted=names,
        inheritable=ambient,
        ambient=ambient,
    )


def environment(
    wanted: Iterable[str] = (), *, hostname: str = "", home: str = "", terminal: bool = False
) -> tuple[str, ...]:
    """PATH, HOSTNAME and TERM as docker sets them, replaced by what is wanted; HOME if unset.

    A ``NAME`` without ``=`` takes the variable away.
    """
    made = {"PATH": PATH[5:]}
    if hostname:
        made["HOSTNAME"] = hostname
    if terminal:
        made["TERM"] = "xterm"
    for item in wanted:
        name, equals, value = item.partition("=")
        if equals:
            made[name] = value
        else:
            made.pop(name, None)
    if home and "HOME" not in made:
        made["HOME"] = home
    return tuple([f"{name}={value}" for name, value in made.items()])


def default_spec(
    process: Process,
    *,
    hostname: str = "",
    domainname: str = "",
    root: Root | None = None,
    extra_mounts: Iterable[Mount] = (),
    extra_devices: tuple[Device, ...] = (),
    extra_rules: tuple[DeviceCgroup, ...] = (),
    namespaces: tuple[Namespace, ...] | None = None,
    uid_mappings: tuple[IdMapping, ...] = (),
    gid_mappings: tuple[IdMapping, ...] = (),
    resources: Resources | None = None,
    sysctl: tuple[tuple[str, str], ...] = (),
    shm_bytes: int = SHM_BYTES,
    privileged: bool = False,
    annotations: tuple[tuple[str, str], ...] = (),
) -> Spec:
    """The `Spec` of a container that docker's defaults make, with these differences.

    ``resources`` come without device rules, which are added.  A process without
    capabilities is given the default ones, or all when ``privileged``.
    """
    if namespaces is None:
        namespaces = default_namespaces()
    new = {each.type for each in namespaces if not each.path}
    if process.capabilities is None:
        names = capabilities.NAMES if privileged else capabilities.DEFAULT
        process = replace(process, capabilities=default_capabilities(names))
    base = [*MOUNTS, shm_mount(shm_bytes)]
    if privileged:
        base = [_writable(each) for each in base]
    if "network" in new and "user" not in new:
        given = {name for name, _value in sysctl}
        sysctl = (*[each for each in SYSCTLS if each[0] not in given], *sysctl)
    return Spec(
        process=process,
        root=root,
        hostname=hostname,
        domainname=domainname,
        mounts=mounts.merge(base, extra_mounts),
        annotations=annotations,
        linux=Linux(
            namespaces=namespaces,
            uid_mappings=uid_mappings,
            gid_mappings=gid_mappings,
            devices=(*devices.host_devices(), *extra_devices) if privileged else extra_devices,
            resources=replace(
                resources or Resources(),
                devices=devices.ALL_RULES if privileged else (*devices.DEFAULT_RULES, *extra_rules),
            ),
            sysctl=sysctl,
            masked_paths=() if privileged else masked_paths(),
            readonly_paths=() if privileged else READONLY_PATHS,
        ),
    )


def _writable(mount: Mount) -> Mount:
    if "ro" not in mount.options:
        return mount
    options = tuple(["rw" if word == "ro" else word for word in mount.options])
    return Mount(
        destination=mount.destination, type=mount.type, source=mount.source, options=options
    )


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
