"""``volume inspect``: everything about volumes, as JSON or by a template."""

from __future__ import annotations

from .inspect import run

__all__ = ["run"]
