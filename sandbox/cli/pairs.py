"""``NAME=VALUE`` texts of a flag that may be repeated."""

from __future__ import annotations

from .errors import FlagError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def parse(texts: Iterable[str]) -> dict[str, str]:
    """By name; without a ``=`` the value is empty."""
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name:
            raise FlagError(f"invalid value, without a name: {text}")
        pairs[name] = value
    return pairs
