"""What this host is, in Go's words."""

from __future__ import annotations

import os
import sys

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

ARCHITECTURE = _MACHINES.get(os.uname().machine, os.uname().machine)
PLATFORM = f"linux/{ARCHITECTURE}"


def version() -> str:
    """This distribution's version."""
    return str(sys.modules["sandbox"].__version__)
