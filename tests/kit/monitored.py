"""Run a program under the monitor alone: no image, no root of its own, no engine.

The launch is `stub_launch.c`: a pid namespace and execve.  What the real launch
adds is tested where it lives.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from sandbox.monitor import client, exitrecord
from sandbox.monitor.exitrecord import ExitRecord
from sandbox.native.build_monitor import MONITOR_SOURCES, build_monitor
from sandbox.native.plan import (
    LIFETIME_WITH_LAUNCHER,
    STDIO_STDIN,
    STDIO_TTY,
    Op,
    encode,
    op,
)

CLONE_NEWPID = 0x20000000
ENVIRONMENT = ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/"]
SANITIZED = os.environ.get("SANDBOX_TEST_SANITIZED") == "1"


def build(folder: Path, *, sanitized: bool = SANITIZED) -> str:
    """Compile the monitor over the stub; with SANDBOX_TEST_SANITIZED=1 with sanitizers.

    SANDBOX_TEST_MONITOR names another program to take: the real one, say.
    """
    if os.environ.get("SANDBOX_TEST_MONITOR") and not sanitized:
        return os.environ["SANDBOX_TEST_MONITOR"]
    out = str(folder / "monitor")
    build_monitor(
        out,
        sanitize="address,undefined" if sanitized else "",
        sources=(*MONITOR_SOURCES, "plan.c"),
        extra_sources=(str(Path(__file__).with_name("stub_launch.c")),),
    )
    return out


class Monitored:
    """One container folder and what is asked of its monitor."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.program = program
        self.state, self.run = folder / "state", folder / "run"
        self.state.mkdir()
        self.run.mkdir()
        self.log = self.state / "log"
        self.launch: client.Launch | None = None
        self.settings: dict[str, tuple[object, ...]] = {}

    def plan(self, argv: Sequence[str], **settings: tuple[object, ...]) -> bytes:
        """The smallest plan; ``settings`` are more operations, by name.

        ``terminal`` is the operation "stdio", whose name is taken.
        """
        ops: list[Op] = [
            op("id", "test"),
            op("folders", str(self.state), str(self.run), "/mnt"),
        ]
        with_defaults: dict[str, tuple[object, ...]] = {
            "stdio": settings.pop("terminal", (0, 0, 0)),
            "log": (str(self.log), 0, 1),
            "namespaces": (CLONE_NEWPID,),
            "lifetime": (LIFETIME_WITH_LAUNCHER,),
        }
        cgroups = settings.pop("cgroups", ())
        ids = settings.pop("ids", None)
        for name, values in (with_defaults | settings).items():
            ops.append(op(name, *values))  # type: ignore[arg-type]  # known to the caller
        ops += [op("cgroup", *values) for values in cgroups]  # type: ignore[misc]  # ditto
        if ids is not None:
            ops.append(op("ids", *ids))  # type: ignore[arg-type]  # ditto
        ops.append(op("exec", list(argv), ENVIRONMENT, 0))
        return encode(ops)

    def start(
        self,
        argv: Sequence[str],
        *,
        stdio: tuple[int, int, int] | None = None,
        **settings: tuple[object, ...],
    ) -> client.Launch:
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        lock = os.open(self.run / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.launch = client.start(
                self.plan(argv, **settings),
                run_dir=str(self.run),
                lock_fd=lock,
                stdio=stdio or (nothing, nothing, nothing),
                id="test",
                executable=self.program,
            )
        finally:
            os.close(lock)
            os.close(nothing)
        return self.launch

    def shell(
        self,
        script: str,
        *,
        stdio: tuple[int, int, int] | None = None,
        **settings: tuple[object, ...],
    ) -> client.Launch:
        return self.start(["sh", "-c", script], stdio=stdio, **settings)

    def end(self) -> ExitRecord:
        """Wait for the container and for the monitor."""
        assert self.launch is not None
        record = self.launch.wait(timeout_s=30)
        self.launch.close()
        self.launch.wait_gone()
        return record

    def outcome(self, script: str, **settings: tuple[object, ...]) -> ExitRecord:
        self.shell(script, **settings)
        return self.end()

    def exit_file(self) -> ExitRecord:
        return exitrecord.parse((self.state / "exit").read_bytes())

    def close(self) -> None:
        """End what a failed test left running."""
        if self.launch is not None:
            self.launch.close()
            self.launch.wait_gone()


STDIN = STDIO_STDIN
TTY = STDIO_TTY | STDIO_STDIN
