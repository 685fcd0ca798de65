"""``network inspect``: everything about networks, as JSON or by a template."""

from __future__ import annotations

from .inspect import run

__all__ = ["run"]
