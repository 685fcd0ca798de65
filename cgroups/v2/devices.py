"""Device rules of v2: no file holds them, a program does."""

from __future__ import annotations

from cgroups.errors import LimitUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.limits import DeviceRule


def apply(path: str, rules: tuple[DeviceRule, ...]) -> None:
    """Not yet."""
    raise LimitUnavailable("devices", f"no device program for {path} and {len(rules)} rules")
