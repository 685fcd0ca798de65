"""The names of the capabilities, and what ``--cap-add`` and ``--cap-drop`` make of a set."""

from __future__ import annotations

import os

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The kernel's numbers are the positions.
NAMES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
        "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
        "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
        "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
        "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
        "CHECKPOINT_RESTORE"
    ).split()
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

# Docker's fourteen.
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)


def to_bits(names: Iterable[str]) -> int:
    """The bit set of these names; one that this table does not have is left out.

    A document may name what a newer kernel has: the specification asks for a
    warning, not a failure, and not having a capability is the safe side.
    """
    bits = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def to_names(bits: int) -> tuple[str, ...]:
    """The names in a bit set, by number."""
    return tuple([name for number, name in enumerate(NAMES) if bits >> number & 1])


def tweak(
    add: Iterable[str] = (), drop: Iterable[str] = (), *, base: tuple[str, ...] = DEFAULT
) -> tuple[str, ...]:
    """Docker's rule: drops are taken from the base, then what is added is added.

    ``ALL`` added is everything except the drops; ``ALL`` dropped leaves only
    what is added.
    """
    added = _normalized(add, "CapAdd")
    dropped = _normalized(drop, "CapDrop")
    if "ALL" in added:
        return tuple([name for name in NAMES if name not in dropped])
    if "ALL" in dropped:
        return tuple(dict.fromkeys(added))
    kept = [name for name in base if name not in dropped]
    return tuple(dict.fromkeys([*kept, *added]))


def available(status: str = "/proc/self/status") -> int:
    """The bounding set of this process: what no program it starts can pass."""
    fd = os.open(status, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 1 << 14)
    finally:
        os.close(fd)
    at = text.index(b"CapBnd:") + 7
    return int(text[at : text.index(b"\n", at)], 16)


def _normalized(names: Iterable[str], option: str) -> list[str]:
    made = []
    for text in names:
        name = text.strip().upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != "ALL" and name not in NUMBERS:
            raise UsageError(
                f'invalid {option}: unknown capability: "{name}"',
                hint="capabilities are named as in capabilities(7), with or without CAP_",
            )
        made.append(name)
    return made
