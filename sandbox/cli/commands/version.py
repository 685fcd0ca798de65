"""``version``: of this program and what it runs on."""

from __future__ import annotations

import os
import sys

from ..facts import print_facts
from ..host import ARCHITECTURE, PLATFORM, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print it as a block, or by ``--format``."""
    number = version()
    client = {
        "Version": number,
        "PythonVersion": sys.version.split()[0],
        "Os": "linux",
        "Arch": ARCHITECTURE,
    }
    # There is no daemon: the server is the engine in this process.
    server = client | {"KernelVersion": os.uname().release}
    block = (
        f"Client:\n Version:    {number}\n Python:     {client['PythonVersion']}\n"
        f" OS/Arch:    {PLATFORM}\n Kernel:     {server['KernelVersion']}\n"
    )
    return print_facts({"Client": client, "Server": server}, call.options.get("format", ""), block)
