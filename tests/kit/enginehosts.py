"""A host of a test's own for a whole engine: its store works in a network namespace.

The namespaces come from the fixtures of ``tests/system/engine/conftest``; nothing of the
machine's own network is touched.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netns import Namespace, Netlink

if TYPE_CHECKING:
    from conftest import Store

GRACE_S = 10.0


@dataclass
class Wired:
    """A store whose programs are started in a network namespace."""

    store: Store
    host: Namespace

    def run(
        self, *arguments: str, stdin: bytes = b"", timeout_s: float = 60, **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        with self.host.entered():
            return self.store.program(*arguments, stdin=stdin, timeout_s=timeout_s, **environ)

    def said(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode != 0, done.stdout.decode()
        return done.stderr.decode().strip()

    def inspected(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said(*arguments))[0]
        return found

    def address(self, container: str, network: str, key: str = "IPAddress") -> str:
        found = self.inspected("inspect", container)["NetworkSettings"]["Networks"]
        return str(found[network][key])

    def links(self, prefix: str = "sb") -> list[str]:
        """The host's links that are the engine's ends of containers' links."""
        with Netlink.open(self.host) as netlink:
            names = [link.name for link in netlink.links()]
        return [name for name in names if name.startswith(prefix) and not name.startswith("sb-")]

    def leases(self) -> list[str]:
        """Leases and endpoint files that there are."""
        found = []
        for path in sorted(self.store.run.glob("networks/*/leases")):
            found += [line for line in path.read_text().splitlines() if line.startswith("lease")]
        found += [path.name for path in sorted(self.store.run.glob("networks/*/endpoints/*"))]
        return found


def becomes(condition: Callable[[], bool], grace_s: float = GRACE_S) -> bool:
    """Whether it is so, or soon becomes so; what the kernel does in the background takes time."""
    deadline = time.monotonic() + grace_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
