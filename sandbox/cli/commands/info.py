"""``info``: the store and the host, in figures."""

from __future__ import annotations

import os

from ..facts import print_facts
from ..host import ARCHITECTURE, version
from ..output import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print it as a block, or by ``--format``."""
    engine = call.engine
    words = [container.status().word for container in engine.containers(all=True)]
    layout = engine.layout
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    counts: dict[str, object] = {
        "Containers": len(words),
        "ContainersRunning": words.count("running"),
        "ContainersPaused": words.count("paused"),
        "ContainersStopped": len(words) - words.count("running") - words.count("paused"),
        "Images": len(engine.images()),
    }
    facts: dict[str, object] = {
        "Driver": "overlay2",
        "LoggingDriver": "file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if layout.kind == "unified" else "1",
        "CgroupLayout": layout.kind,
        "KernelVersion": os.uname().release,
        "OSType": "linux",
        "Architecture": os.uname().machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": memory,
        "SandboxRootDir": engine.paths.root,
        "SandboxRunDir": engine.paths.run,
        "DockerRootDir": engine.paths.root,
        "Name": os.uname().nodename,
        "ServerVersion": version(),
    }
    block = (
        f"Containers: {counts['Containers']}\n Running: {counts['ContainersRunning']}\n"
        f" Paused: {counts['ContainersPaused']}\n Stopped: {counts['ContainersStopped']}\n"
        f"Images: {counts['Images']}\nVersion: {facts['ServerVersion']}\n"
        f"Storage Driver: overlay2\nCgroups: {layout.kind}\n"
        f"Kernel Version: {facts['KernelVersion']}\nArchitecture: {ARCHITECTURE}\n"
        f"CPUs: {facts['NCPU']}\nTotal Memory: {binary_size(memory)}\n"
        f"Root Dir: {engine.paths.root}\nRun Dir: {engine.paths.run}\n"
    )
    return print_facts(counts | facts, call.options.get("format", ""), block)
