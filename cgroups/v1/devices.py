"""Allow and deny lists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import DeviceRule, Plan, Step


def plan(rules: tuple[DeviceRule, ...]) -> Plan:
    """Deny everything, then each rule in order.

    A rule for everything clears what was said before it, so the last such rule
    is where the writing begins.  Rules for one file go through one descriptor.
    """
    start, allow_all = 0, False
    for index, rule in enumerate(rules):
        if is_everything(rule):
            start, allow_all = index + 1, rule.allow
    steps: Plan = [_step(allow_all, "a")]
    for rule in rules[start:]:
        step = _step(rule.allow, *texts(rule))
        if step[1] == steps[-1][1]:
            steps[-1] = (step[0], step[1], steps[-1][2] + step[2])
        else:
            steps.append(step)
    return steps


def is_everything(rule: DeviceRule) -> bool:
    """Whether a rule is about every device and every access."""
    return rule.major is None and rule.minor is None and rule.kind == "a" and len(rule.access) == 3


def texts(rule: DeviceRule) -> tuple[str, ...]:
    """A rule as the kernel reads it: ``c 1:3 rwm``.

    To the kernel ``a`` is everything, whatever follows it.
    """
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    kinds = "bc" if rule.kind == "a" else rule.kind
    return tuple(f"{kind} {major}:{minor} {rule.access}" for kind in kinds)


def _step(allow: bool, *values: str) -> Step:
    return ("devices", "devices.allow" if allow else "devices.deny", values)
