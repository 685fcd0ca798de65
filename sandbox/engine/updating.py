"""Other limits for a container: in its present run at once, and kept for the next."""

from __future__ import annotations

import cgroups

from ..errors import LimitUnavailable, MonitorLost, SandboxError, UsageError
from ..record import replace
from ..runtime.resources import to_limits
from ..state import containers, events
from . import options as asking
from .container import read_enforcement, write_enforcement
from .result import Enforced
from .specify import resources_of
from .verbs import group_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..state.containers import ContainerRecord
    from .container import Container
    from .options import RunOptions

CPU = ("cpus", "cpu_period", "cpu_quota", "cpu_shares", "cpuset_cpus", "cpuset_mems")
MEMORY = ("memory", "memory_swap", "memory_reservation")
LIMITS = (*CPU, *MEMORY, "pids_limit")
UPDATABLE = (*LIMITS, "restart")


def parse_limits(keywords: dict[str, Any]) -> dict[str, Any]:
    """Check what is asked, as far as that goes without the container."""
    values = asking.parse_some(keywords, UPDATABLE)
    if not values:
        raise UsageError("You must provide one or more flags when using this command.")
    return values


def update(container: Container, keywords: dict[str, Any]) -> ContainerRecord:
    """Change the living groups, then the document; returns the new one."""
    values = parse_limits(keywords)
    with container._lock():
        record = containers.read(container._paths, container.id)
        before = asking.options_from_document(record.options)
        after = _merged(container, before, values)
        if container.status().is_live:
            if any(field != "restart" for field in values):
                _apply(container, before, after, values)
            if "restart" in values:
                _change_policy(container, after)
        renewed = replace(record, options=asking.options_document(after))
        containers.write(container._paths, renewed, durable=True)
        events.of_container(container._paths, renewed, "update")
    return renewed


def _merged(container: Container, before: RunOptions, values: dict[str, Any]) -> RunOptions:
    cannot = f"Cannot update container {container.id}: "
    memory, swap = values.get("memory"), _swap_of(before)
    if memory is not None and memory < asking.MINIMUM_MEMORY:
        raise UsageError("Minimum memory limit allowed is 6MB")
    if memory is not None and "memory_swap" not in values and swap is not None:
        if memory > swap >= 0:
            raise UsageError(
                f"{cannot}Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time"
            )
        values = values | {"memory_swap": swap}
    if "cpus" in values and (before.cpu_quota or before.cpu_period):
        raise UsageError(
            f"{cannot}Conflicting options: Nano CPUs cannot be updated as CPU "
            f"{'Quota' if before.cpu_quota else 'Period'} has already been set"
        )
    for field, word in (("cpu_quota", "Quota"), ("cpu_period", "Period")):
        if before.cpus is not None and field in values:
            raise UsageError(
                f"{cannot}Conflicting options: CPU {word} cannot be updated as NanoCPUs has "
                "already been set"
            )
    after = replace(before, **values)
    asking.check_together(after)
    return after


def _swap_of(options: RunOptions) -> int | None:
    """Memory and swap together; as much swap as memory where only that was asked for."""
    if options.memory_swap is None and options.memory is not None:
        return 2 * options.memory
    return options.memory_swap


def _apply(
    container: Container, before: RunOptions, after: RunOptions, values: dict[str, Any]
) -> None:
    group = group_of(container)
    allowed = (*after.allow_unenforced, "memory.swap")
    try:
        group.apply(_limits(after, values), allow_missing=allowed)
    except cgroups.CgroupError as error:
        try:
            group.apply(_limits(before, values), allow_missing=allowed)
        except cgroups.CgroupError:
            pass  # the first error counts
        if isinstance(error, cgroups.LimitUnavailable):
            raise LimitUnavailable(error.limit, reason=error.reason) from error
        raise SandboxError(f"Cannot update container {container.id}: {error}") from error
    kept = {each.limit: each for each in read_enforcement(container.folder)}
    kept |= {each.limit: Enforced(limit=each.limit, by=each.by) for each in group.enforcement}
    write_enforcement(container.folder, tuple(kept.values()))


def _change_policy(container: Container, after: RunOptions) -> None:
    policy, most = asking.restart_policy(after.restart)
    try:
        with container._control() as control:
            control.restart_policy(policy, most)
    except MonitorLost:
        pass  # it has just ended: the next start goes by the document


def _limits(options: RunOptions, values: dict[str, Any]) -> cgroups.Limits:
    """Those of the controllers that something was asked of."""
    whole = to_limits(resources_of(options), devices=False)
    return cgroups.Limits(
        cpu=whole.cpu if any(field in values for field in CPU) else None,
        memory=whole.memory if any(field in values for field in MEMORY) else None,
        pids=whole.pids if "pids_limit" in values else None,
    )
