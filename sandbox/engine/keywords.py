"""The types of ``run``'s keywords, for the type checker and for people.

Never imported when a program runs: `sandbox.engine.options` is what checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

Size: TypeAlias = int | str
Seconds: TypeAlias = float | str
Words: TypeAlias = str | Sequence[str]
Pairs: TypeAlias = Mapping[str, str] | Sequence[str]


class RunKeywords(TypedDict, total=False):
    """Each is the flag of ``sandbox run`` with underscores; ``sandbox run --help`` explains."""

    name: str | None
    rm: bool
    interactive: bool
    tty: bool
    rootfs: bool
    env: Pairs | None
    workdir: str | None
    user: str | int | None
    group_add: Words | None
    entrypoint: Words | None
    hostname: str | None
    domainname: str | None
    network: str | None
    ip: str | None
    ip6: str | None
    mac_address: str | None
    network_alias: Words | None
    pid: str | None
    ipc: str | None
    uts: str | None
    userns: str | None
    uidmap: Words | None
    gidmap: Words | None
    cgroup_parent: str | None
    memory: Size | None
    memory_swap: Size | None
    memory_reservation: Size | None
    memory_swappiness: int | None
    cpus: float | str | None
    cpu_period: int | None
    cpu_quota: int | None
    cpu_shares: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    pids: int | None
    pids_limit: int | None
    blkio_weight: int | None
    device_read_bps: Words | None
    device_write_bps: Words | None
    device_read_iops: Words | None
    device_write_iops: Words | None
    oom_score_adj: int | None
    ulimit: Words | Mapping[str, str | int] | None
    ulimits: Words | Mapping[str, str | int] | None
    sysctl: Pairs | None
    sysctls: Pairs | None
    cap_add: Words | None
    cap_drop: Words | None
    security_opt: Words | None
    privileged: bool
    read_only: bool
    volatile: bool | None
    tmpfs: Words | Mapping[str, str] | None
    volume: Words | Mapping[str, str | Mapping[str, str]] | None
    volumes: Words | Mapping[str, str | Mapping[str, str]] | None
    volumes_from: Words | None
    mount: Words | None
    mounts: Words | None
    device: Words | None
    devices: Words | None
    shm_size: Size | None
    storage_opt: Pairs | None
    init: bool
    label: Pairs | None
    labels: Pairs | None
    stop_signal: str | None
    stop_timeout: int | None
    restart: str | None
    add_host: Words | None
    dns: Words | None
    dns_search: Words | None
    dns_option: Words | None
    timeout: Seconds | None
    cpu_time: Seconds | None
    output_limit: Size | None
    log_driver: str | None
    log_opt: Pairs | None
    allow_unenforced: Words | None
    platform: str | None
    health_cmd: Words | None
    health_interval: Seconds | None
    health_timeout: Seconds | None
    health_retries: int | None
    health_start_period: Seconds | None
    health_start_interval: Seconds | None
    no_healthcheck: bool


class ExecKeywords(TypedDict, total=False):
    """The same for ``sandbox exec``."""

    env: Pairs | None
    interactive: bool
    privileged: bool
    timeout: Seconds | None
    tty: bool
    user: str | int | None
    workdir: str | None
