"""Allow and deny lists.

The kernel keeps a default and a list of exceptions to it, each for one device
or a whole class.  It silently ignores a rule that would cut a piece out of a
wider exception; here that is an error.
"""

from __future__ import annotations

from cgroups.errors import InvalidLimit, LimitUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import DeviceRule, Plan

    Device = tuple[str, int | None, int | None]

_FILES = {True: "devices.allow", False: "devices.deny"}


def plan(rules: tuple[DeviceRule, ...], *, fresh: bool) -> Plan:
    """Deny everything, then allow the exceptions, one write each through one descriptor.

    A rule for everything clears what was said before it; after one that allows,
    the exceptions are what is denied.
    """
    start, default = 0, False
    for index, rule in enumerate(rules):
        if rule.kind == "a" and rule.major is rule.minor is None and set(rule.access) == set("rwm"):
            start, default = index + 1, rule.allow
    exceptions: dict[Device, str] = {}
    for rule in rules[start:]:
        if not rule.access or rule.access.strip("rwm"):
            raise InvalidLimit(f"device access is letters of rwm, not {rule.access!r}")
        # To the kernel "a" is everything, whatever follows it.
        for kind in "bc" if rule.kind == "a" else rule.kind:
            device = (kind, rule.major, rule.minor)
            if rule.allow == default:
                _take_back(exceptions, device, rule.access)
            else:
                before = exceptions.get(device, "")
                exceptions[device] = before + "".join(c for c in rule.access if c not in before)
    steps: Plan = []
    # A new group begins as its parent is; to allow what that denies is not ours.
    if not (default and fresh):
        steps.append(("devices", _FILES[default], ("a",)))
    if exceptions:
        values = tuple(_text(device, access) for device, access in exceptions.items())
        steps.append(("devices", _FILES[not default], values))
    return steps


def _take_back(exceptions: dict[Device, str], device: Device, access: str) -> None:
    for other, granted in list(exceptions.items()):
        left = "".join(c for c in granted if c not in access)
        if left == granted or not _overlap(device, other):
            continue
        if not _covers(device, other):
            rule, wider = _text(device, access), _text(other, granted)
            reason = f"cgroup v1 cannot take {rule!r} out of {wider!r}"
            raise LimitUnavailable("devices", reason)
        if left:
            exceptions[other] = left
        else:
            del exceptions[other]


def _overlap(one: Device, two: Device) -> bool:
    return all(a == b or a is None or b is None for a, b in zip(one, two, strict=True))


def _covers(wide: Device, narrow: Device) -> bool:
    return all(w == n or w is None for w, n in zip(wide, narrow, strict=True))


def _text(device: Device, access: str) -> str:
    kind, major, minor = device
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor} {access}"
