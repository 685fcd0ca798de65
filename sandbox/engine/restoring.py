"""Which containers are to run again after a reboot, by their restart policies.

As docker's daemon decides when it starts: ``always`` runs again, also after a
stop by hand; ``unless-stopped`` does unless it was stopped by hand;
``on-failure`` when its last run failed or was cut off.  What ended in this boot
was the monitor's to start again, unless the monitor itself was lost; what never
ran is nobody's.
"""

from __future__ import annotations

from ..errors import ContainerNotFound, SandboxError, WrongStatus
from .journal import boot_id
from .options import restart_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..monitor.exitrecord import ExitRecord
    from .container import Container
    from .engine import Engine


def due(engine: Engine) -> tuple[Container, ...]:
    """Those that should run and do not, the oldest first."""
    boot = boot_id()
    found = [each for each in engine.containers(all=True) if _is_due(each, boot)]
    return tuple(reversed(found))


def _is_due(container: Container, boot: str) -> bool:
    try:
        policy, most = restart_policy(container.options.restart)
        if policy == "no" or container.status().is_live:
            return False
        record = container.last_exit()
    except (ContainerNotFound, WrongStatus):
        return False  # never ran, or is being removed
    except SandboxError:
        return True  # the start will say what is wrong with it
    if record.status != "lost" and record.boot_id in ("", boot):
        return False
    if policy == "always":
        return True
    if was_stopped(record):
        return False
    return policy == "unless-stopped" or _has_failed(record, most)


def was_stopped(record: ExitRecord) -> bool:
    """Somebody asked for the end, or at least sent a signal."""
    return bool(record.stopping or record.user_signal) or record.kill_reason in ("user", "stop")


def _has_failed(record: ExitRecord, most: int) -> bool:
    return record.exit_code != 0 and (most == 0 or (record.restarts or 0) < most)
