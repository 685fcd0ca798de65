"""What a launch needs beside the `Spec`: where things are on this host, and what the monitor does.

The `Spec` says what the container is; these settings say how it is kept.  Paths
are the host's.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from ..native.plan import Op


class Disk(Record):
    """A file system image for the writable layer."""

    path: str
    fstype: str = "ext4"
    options: str = ""


class RootMount(Record):
    """How the root is made.

    ``overlay``: ``lowers`` top first under ``upper`` (with ``work``); both are
    empty when a ``disk`` holds them.  ``host_root`` says that the lowest layer
    is this machine's ``/``.  ``bind``: the one folder in ``lowers`` itself.
    """

    kind: Literal["overlay", "bind"]
    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    volatile: bool = False
    readonly: bool = False
    host_root: bool = False
    disk: Disk | None = None


class Log(Record):
    """Kept output: the current file, bytes a file, number of files."""

    path: str
    max_bytes: int = 0
    max_files: int = 1


class Restart(Record):
    """When the monitor carries out the plan again; ``max`` 0 is no bound."""

    policy: Literal["no", "on-failure", "always", "unless-stopped"] = "no"
    max: int = 0


class Group(Record):
    """One hierarchy's cgroup, made already: version 1 or 2, controllers joined by commas."""

    version: int
    controllers: str
    path: str


class Filter(Record):
    """A compiled seccomp program and its ``SECCOMP_FILTER_FLAG_*``."""

    program: bytes
    flags: int = 0


class Check(Record):
    """How to ask whether the container is well: an exec's encoded plan, and when to carry it out.

    The plan joins nobody yet (its ``enter`` has zeros); the times are what native/health.h says.
    """

    plan: bytes
    interval_ms: int
    timeout_ms: int
    retries: int
    start_period_ms: int
    start_interval_ms: int


class Plumbing(Record):
    """One attachment to a bridge network, as messages for the kernel; ``netns.packed`` makes them.

    ``link`` is the end on the host, a port of ``bridge``, and ``name`` the one in the container.
    ``make``, ``plumb`` and ``settle`` are the three rows of ``packed.plumbing``.  Without
    ``ipv6`` the inner end has none of it, not even an address of the link.
    """

    link: str
    name: str
    bridge: str
    ipv6: bool
    make: bytes
    plumb: bytes
    settle: bytes


class ExitCommand(Record):
    """What the monitor becomes when all is over."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()


class LaunchSettings(Record):
    """Everything of a launch that is not in the `Spec`.

    ``seccomp`` is the filter that is loaded; ``linux.seccomp`` of the `Spec` is
    only read when it is None.  ``cgroup_view`` False leaves ``/sys/fs/cgroup``
    an empty read-only folder: a dozen mounts less on a host with cgroup v1.
    ``events`` is the log that the monitor appends to; empty for none.
    ``endpoints`` are the networks of a container with a network namespace of its own.  None is
    for one that has no networks; an empty tuple compiles a plan that can be given endpoints
    later (``with_settings`` of ``native.plan`` with `endpoint_ops`).
    ``capability_bound`` has the capabilities that can be handed on, others are left
    out of all sets; None asks this process for its own, or is all of them in a new
    user namespace.
    """

    id: str
    state_dir: str
    run_dir: str
    mount_point: str
    root: RootMount
    groups: tuple[Group, ...] = ()
    tty: bool = False
    stdin_open: bool = False
    stdin_once: bool = False
    rows: int = 0
    columns: int = 0
    log: Log | None = None
    wall_ms: int = 0
    cpu_us: int = 0
    output_bytes: int = 0
    with_launcher: bool = False
    exit_command: ExitCommand | None = None
    restart: Restart | None = None
    health: Check | None = None
    events: str = ""
    endpoints: tuple[Plumbing, ...] | None = None
    init: bool = False
    seccomp: Filter | None = None
    cgroup_view: bool = True
    capability_bound: int | None = None


def endpoint_ops(endpoints: Iterable[Plumbing]) -> list[Op]:
    """The settings that give a container its links; its plan has the operation "network"."""
    # Not with what compiles plans: a start from a kept one does without.
    from ..native.plan import ENDPOINT_IPV6, op

    return [
        op(
            "endpoint",
            *(each.link, each.name, each.bridge, ENDPOINT_IPV6 * each.ipv6),
            *(each.make, each.plumb, each.settle),
        )
        for each in endpoints
    ]
