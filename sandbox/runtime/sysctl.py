"""Kernel settings that belong to a namespace; all others are the host's and refused."""

from __future__ import annotations

from ..errors import UsageError
from ..native.plan import op
from .namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..native.plan import Op

_IPC = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
_UTS = frozenset({"kernel.domainname", "kernel.hostname"})


def parse_sysctl(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, refused with docker's words when no namespace has it."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not namespace_of(name):
        raise UsageError(
            f"sysctl '{text}' is not allowed",
            hint="net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm* are a container's own",
        )
    return name, value.strip()


def namespace_of(name: str) -> int:
    """The ``CLONE_NEW*`` of the namespace that a setting belongs to, 0 for the host's."""
    parts = _parts(name)
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        return 0
    if parts[0] == "net":
        return CLONE_NEWNET
    dotted = ".".join(parts)
    if dotted in _IPC or (parts[:2] == ["fs", "mqueue"] and len(parts) > 2):
        return CLONE_NEWIPC
    return CLONE_NEWUTS if dotted in _UTS else 0


def setting_ops(settings: Iterable[tuple[str, str]], made: int, joined: int = 0) -> list[Op]:
    """One operation a setting; its namespace must be new or joined, never the host's."""
    ops = []
    for name, value in settings:
        kind = namespace_of(name)
        if not kind:
            raise UsageError(f"sysctl '{name}={value}' is not allowed")
        if not kind & (made | joined):
            namespace = {CLONE_NEWNET: "network", CLONE_NEWIPC: "IPC"}.get(kind, "UTS")
            raise UsageError(f"sysctl '{name}={value}' not allowed in host {namespace} namespace")
        ops.append(op("sysctl", name, value))
    return ops


def _parts(name: str) -> list[str]:
    # The path below /proc/sys.  As in sysctl(8), whichever of "." and "/" comes first is the
    # separator, and the other one is a part of a name (an interface called eth0.100).
    slash, dot = name.find("/"), name.find(".")
    if dot >= 0 and (slash < 0 or dot < slash):
        return [part.replace("/", ".") for part in name.split(".")]
    return name.split("/")
