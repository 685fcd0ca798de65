"""Launches through the driver: a root made of busybox, a plan, and what became of it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.native import plan
from sandbox.native.build_monitor import LAUNCH_SOURCES, build_monitor
from sandbox.native.plan import Op, op

DRIVER_SOURCE = str(Path(__file__).with_name("launch_driver.c"))
APPLETS = (
    *(
        "sh",
        "true",
        "cat",
        "ls",
        "readlink",
        "mount",
        "id",
        "echo",
        "pwd",
        "sleep",
        "stat",
        "touch",
    ),
    *("kill", "ps", "tty", "stty", "env", "mkdir", "rm", "umount", "grep", "wc", "hostname", "seq"),
    *("chmod", "test", "ln", "mknod", "head", "nice", "usleep", "trap", "ulimit", "ip", "unshare"),
)

NEWNS, NEWUTS, NEWIPC = 0x20000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET, NEWCGROUP = 0x10000000, 0x20000000, 0x40000000, 0x2000000
ALL = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
MS_RDONLY, MS_REC, MS_PRIVATE, MS_SLAVE = 1, 0x4000, 1 << 18, 1 << 19
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
SAFE = NOSUID | NODEV | NOEXEC
DOCKER_CAPABILITIES = 0xA80425FB

PROC = op("mount", "proc", "proc", "/proc", SAFE, (), 0)
DEV = op("mount", "tmpfs", "tmpfs", "/dev", NOSUID, ("mode=755", "size=65536k"), 0)
PTS_OPTIONS = ("newinstance", "ptmxmode=0666", "mode=0620")
PTS = op("mount", "devpts", "devpts", "/dev/pts", NOSUID | NOEXEC, PTS_OPTIONS, 0)
NULL = op("mknod", "/dev/null", stat.S_IFCHR | 0o666, 1, 3, 0, 0)
PRIVATE = op("propagation", MS_REC | MS_PRIVATE)
MOUNTS = (PROC, DEV, PTS, NULL)


@dataclass(frozen=True)
class Failure:
    """What the error record says."""

    step: int
    index: int
    errno: int
    syscall: str
    reason: str
    path: str


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str
    failure: Failure | None
    descriptors: tuple[int, int]


def build_driver(out: Path, *, sanitize: str = "", defines: Sequence[str] = ()) -> Path:
    build_monitor(
        str(out),
        sanitize=sanitize,
        defines=defines,
        sources=LAUNCH_SOURCES,
        extra_sources=(DRIVER_SOURCE,),
    )
    return out


@dataclass
class Box:
    """A container root of a test's own, and the driver that launches in it."""

    driver: Path
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def image(self) -> Path:
        return self.folder / "image"

    @property
    def upper(self) -> Path:
        return self.folder / "upper"

    def make(self) -> Box:
        for name in ("image/bin", "image/etc", "image/tmp", "upper", "work", "mnt"):
            (self.folder / name).mkdir(parents=True)
        # mkdtemp's folders are closed to the ids of a user namespace.
        self.folder.chmod(0o755)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, self.image / "bin/busybox")
        for applet in APPLETS:
            (self.image / "bin" / applet).symlink_to("busybox")
        return self

    def settings(self, *, namespaces: int = ALL, extra: Sequence[Op] = ()) -> tuple[Op, ...]:
        folder = str(self.folder)
        return (
            op("id", "box"),
            op("folders", folder, folder, f"{folder}/mnt"),
            op("namespaces", namespaces),
            *extra,
        )

    def root(self, flags: int = plan.OVERLAY_VOLATILE) -> Op:
        upper, work = str(self.upper), str(self.folder / "work")
        return op("root_overlay", (str(self.image),), upper, work, flags)

    def plan(
        self,
        *argv: str,
        namespaces: int = ALL,
        settings: Sequence[Op] = (),
        root: Op | None = None,
        mounts: Sequence[Op] = MOUNTS,
        before: Sequence[Op] = (),
        after: Sequence[Op] = (),
        env: Sequence[str] = ("PATH=/bin",),
        flags: int = 0,
    ) -> tuple[Op, ...]:
        """A whole plan; ``before`` and ``after`` are around the pivot."""
        return (
            *self.settings(namespaces=namespaces, extra=settings),
            PRIVATE,
            root or self.root(),
            *mounts,
            *before,
            op("pivot"),
            *after,
            op("exec", argv, env, flags),
        )

    def write(self, ops: Sequence[Op]) -> str:
        path = self.folder / "plan"
        path.write_bytes(plan.encode(ops))
        return str(path)

    def command(self, ops: Sequence[Op], *arguments: str) -> list[str]:
        return [str(self.driver), self.write(ops), *arguments]

    def launch(self, ops: Sequence[Op], *, timeout_s: float = 30, stdin: bytes = b"") -> Outcome:
        done = subprocess.run(
            self.command(ops, "--leaks"),
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, **self.environ},
            check=False,
        )
        return outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run(self, *argv: str, **options: object) -> Outcome:
        return self.launch(self.plan(*argv, **options))  # type: ignore[arg-type]  # as plan()

    def shell(self, script: str, **options: object) -> Outcome:
        return self.run("sh", "-c", script, **options)


def outcome(status: int, out: str, err: str) -> Outcome:
    failure = None
    descriptors = (0, 0)
    rest = []
    for line in err.splitlines(keepends=True):
        if line.startswith("launch-error\t"):
            _, step, index, error, syscall, reason, path = line.rstrip("\n").split("\t")
            failure = Failure(int(step), int(index), int(error), syscall, reason, path)
        elif line.startswith("fds "):
            _, before, after = line.split()
            descriptors = (int(before), int(after))
        else:
            rest.append(line)
    return Outcome(status, out, "".join(rest), failure, descriptors)


def step(name: str) -> int:
    return plan.OPS[name][0]
