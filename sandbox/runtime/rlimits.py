"""Resource limits: names, ``--ulimit``, and what this process may set."""

from __future__ import annotations

from ..errors import HostLacks, UsageError
from ..native.plan import op
from ..oci.spec import Rlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..native.plan import Op

INFINITY = -1
CAP_SYS_RESOURCE = 24

# The kernel's numbers (asm-generic/resource.h) are the positions.
NAMES = (
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
)
NUMBERS = {f"RLIMIT_{name.upper()}": number for number, name in enumerate(NAMES)}

# How /proc/PID/limits calls them, by number.
_TITLES = (
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
)


def parse_ulimit(text: str) -> Rlimit:
    """``NAME=SOFT[:HARD]``, with docker's words for what is wrong."""
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(f"invalid ulimit argument: {text}")
    if name not in NAMES:
        raise UsageError(f"invalid ulimit type: {name}", hint=f"there are {', '.join(NAMES)}")
    parts = values.split(":")
    if len(parts) > 2:
        raise UsageError(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    soft = _value(parts[0], text)
    hard = _value(parts[1], text) if len(parts) == 2 else soft
    if hard != INFINITY and (soft == INFINITY or soft > hard):
        raise UsageError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return Rlimit(type=f"RLIMIT_{name.upper()}", soft=soft, hard=hard)


def check(
    limits: Iterable[Rlimit], *, may_raise: bool, hard_limits: Mapping[str, int] | None = None
) -> None:
    """Refuse what only CAP_SYS_RESOURCE may set, when this process does not have it."""
    if may_raise:
        return
    held = current_hard_limits() if hard_limits is None else hard_limits
    for limit in limits:
        most = held.get(limit.type, INFINITY)
        if _above(limit.hard, most):
            name = limit.type[7:].lower()
            raise HostLacks(
                f"cannot set ulimit {name} to {_shown(limit.hard)}: "
                f"the hard limit here is {most} and this process has no CAP_SYS_RESOURCE",
                hint=f"ask for at most {most}, or raise the hard limit of the calling process",
            )


def clamp(
    limits: Iterable[Rlimit], *, hard_limits: Mapping[str, int] | None = None
) -> tuple[Rlimit, ...]:
    """The same limits, lowered to what this process may set without CAP_SYS_RESOURCE."""
    held = current_hard_limits() if hard_limits is None else hard_limits
    made = []
    for limit in limits:
        most = held.get(limit.type, INFINITY)
        hard = most if _above(limit.hard, most) else limit.hard
        soft = hard if _above(limit.soft, hard) else limit.soft
        made.append(Rlimit(type=limit.type, soft=soft, hard=hard))
    return tuple(made)


def current_hard_limits(path: str = "/proc/self/limits") -> dict[str, int]:
    """This process's hard limits; a text file is cheaper than importing ``resource``."""
    held = {}
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            for number, title in enumerate(_TITLES):
                if line.startswith(f"{title}  "):
                    hard = line[len(title) :].split()[1]
                    name = f"RLIMIT_{NAMES[number].upper()}"
                    held[name] = INFINITY if hard == "unlimited" else int(hard)
    return held


def limit_ops(limits: Iterable[Rlimit]) -> list[Op]:
    """One operation a limit; an unknown or a repeated name is a `UsageError`."""
    ops = []
    seen = set()
    for limit in limits:
        number = NUMBERS.get(limit.type)
        if number is None:
            raise UsageError(f"invalid rlimit type: {limit.type}")
        if number in seen:
            raise UsageError(f"duplicated rlimit: {limit.type}")
        seen.add(number)
        ops.append(op("rlimit", number, limit.soft, limit.hard))
    return ops


def _value(text: str, whole: str) -> int:
    digits = text[1:] if text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise UsageError(f"invalid ulimit argument: {whole}: {text!r} is not a number")
    value = int(text)
    if value < INFINITY or value > (1 << 63) - 1:
        raise UsageError(f"invalid ulimit argument: {whole}: {text} is out of range")
    return value


def _above(value: int, most: int) -> bool:
    return most != INFINITY and (value == INFINITY or value > most)


def _shown(value: int) -> str:
    return "unlimited" if value == INFINITY else str(value)
