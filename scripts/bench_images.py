"""The parts ``load`` and ``pull`` of scripts/bench: an image of Debian with python3.

Beside docker, podman and umoci, and beside bench_unpack.c, which only inflates, hashes
and makes files: the limit.  ``pull`` is from a registry on a loopback port.

Each run has a store of its own that nothing was ever in, a dockerd of its own included, all of
them on one new ext4 where nothing is removed before the end: ext4 does not give a removed file's
inode to a new one for some minutes, and looks at each of them at each creation, so who comes
after a removal pays for it many times over.  What others have written is on the disk before a
run begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.append(str(CHECKOUT / "tests"))
NAME = "debian-python:test"
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sandbox-bench")
BUDGET = 1 / 4
RUNS = 5
DISK_BYTES = 32 << 30
DISK_INODES = 1_500_000

# One run in a fresh folder: its seconds, and the peak memory of the command in KiB.
Run = Callable[[Path], tuple[float, int]]
# Figures of everyone, whose are ours, and which share of another's they may be: rows and lines.
Report = Callable[[dict[str, list[float]], str, dict[str, float]], dict[str, Any]]


class Failed(Exception):
    """A contender that does not work on this host."""


class Images:
    """The image in the forms that the contenders take, and the registry that has it."""

    def __init__(self, work: Path, program: str) -> None:
        from kit import debian

        self.work = work
        self.program = program
        KEPT.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault(debian.KEPT, str(KEPT))
        made = debian.archive(work)
        self.layout = work / "layout"
        succeed("skopeo", "copy", "-q", f"oci-archive:{made}", f"oci:{self.layout}:test")
        self.layers = [str(layer) for layer in debian.layers_of(made, work / "parts")]
        # An OCI layout and docker's format at once: all of them load the same file.
        self.archive = work / "image.tar"
        own = {"SANDBOX_ROOT": str(work / "first"), "SANDBOX_RUN": str(work / "first-run")}
        succeed(program, "load", "-i", made, env=os.environ | own)
        succeed(program, "save", "-o", self.archive, NAME, env=os.environ | own)

    def push(self, host: str) -> None:
        """Put it into a registry."""
        to = f"docker://{host}/{NAME}"
        succeed("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.layout}:test", to)

    def loads(self) -> dict[str, Run]:
        """Whoever can load it."""
        return {
            "sandbox load": lambda at: self._sandbox(at, "load", "-i", str(self.archive)),
            "limit": self._limit(),
            "docker load": lambda at: docker(at, "load", "-q", "-i", str(self.archive)),
            "podman load": lambda at: podman(at, "load", "-q", "-i", str(self.archive)),
            "umoci unpack": self._umoci,
        }

    def pulls(self, host: str) -> dict[str, Run]:
        """Whoever can pull it; umoci cannot, and unpacks what is there already."""
        name = f"{host}/{NAME}"
        return {
            "sandbox pull": lambda at: self._sandbox(at, "pull", "-q", name),
            "limit": self._limit(),
            "docker pull": lambda at: docker(at, "pull", "-q", name),
            "podman pull": lambda at: podman(at, "pull", "-q", "--tls-verify=false", name),
            "umoci unpack": self._umoci,
        }

    def _sandbox(self, at: Path, *arguments: str) -> tuple[float, int]:
        own = {"SANDBOX_ROOT": str(at / "store"), "SANDBOX_RUN": str(at / "run")}
        return timed(self.program, *arguments, env=os.environ | own)

    def _umoci(self, at: Path) -> tuple[float, int]:
        return timed("umoci", "unpack", "--image", f"{self.layout}:test", str(at / "bundle"))

    def _limit(self) -> Run:
        built = self.work / "bench_unpack"
        if not built.exists():
            source = CHECKOUT / "scripts" / "bench_unpack.c"
            flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
            succeed("cc", *flags, "-o", built, source, "-lisal", "-lcrypto", "-lpthread")
        return lambda at: timed(str(built), str(at), *self.layers)


def podman(at: Path, *arguments: str) -> tuple[float, int]:
    own = ("--root", str(at / "root"), "--storage-driver", "overlay")
    # It takes no long name for this one.
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as run:
        return timed(
            *("podman", *own, "--runroot", run, *arguments),
            env=os.environ | {"TMPDIR": str(at)},
        )


def docker(at: Path, *arguments: str) -> tuple[float, int]:
    with dockerd(at) as socket:
        return timed("docker", "-H", socket, *arguments)


@contextmanager
def dockerd(at: Path) -> Iterator[str]:
    """A daemon of its own, ready to answer, with no part in the host's network; its socket."""
    socket = f"unix://{at}/docker.sock"
    folders = ("--data-root", str(at / "data"), "--exec-root", str(at / "exec"))
    network = ("--bridge=none", "--iptables=false", "--ip6tables=false")
    with (at / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                *("unshare", "--mount", "dockerd", *folders, *network),
                *("-H", socket, "--pidfile", str(at / "pid")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 30
        while subprocess.run(["docker", "-H", socket, "info"], capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                raise Failed(f"dockerd does not start, see {at}/log")
            time.sleep(0.1)
        succeed("sync", "-f", at)
        yield socket
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


# The peak that the kernel tells of a child includes what its parent was when it became the program.
SPAWN = """
import os, sys, time
quiet = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, quiet, number) for number in (0, 1, 2)]
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def timed(*argv: str, env: dict[str, str] | None = None) -> tuple[float, int]:
    """Run a program to its end: its wall time, and its peak memory in KiB."""
    spawn = [os.path.abspath(sys.executable), "-I", "-S", "-c", SPAWN, *argv]
    done = subprocess.run(spawn, capture_output=True, text=True, check=True, env=env)
    seconds, peak, status = done.stdout.split()
    if status != "0":
        raise Failed(f"{argv[0]}: exit status {status}")
    return float(seconds), int(peak)


def succeed(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise Failed(f"{Path(argv[0]).name}: {last}")


def race(contenders: dict[str, Run], runs: int, work: Path) -> tuple[dict[str, Any], int]:
    """Let all take turns, each in a fresh folder; seconds by name, and the first one's peak."""
    work.mkdir()
    found: dict[str, list[float]] = {}
    peaks = []
    ours = next(iter(contenders))
    for number in range(runs + 1):
        for name, contender in contenders.items():
            at = work / f"{name.replace(' ', '-')}-{number}"
            if number and name not in found:
                continue
            at.mkdir()
            succeed("sync", "-f", at)
            try:
                seconds, peak = contender(at)
            except (Failed, OSError) as error:
                print(f"  without {name}: {error}", file=sys.stderr)
                found.pop(name, None)
                continue
            if name == ours:
                peaks.append(peak)
            found.setdefault(name, [])
            if number:  # the first warms the page cache
                found[name].append(seconds)
    return found, max(peaks, default=0)


@contextmanager
def disk(image: Path) -> Iterator[Path]:
    """A new file system in a file, mounted beside it."""
    at = image.with_suffix("")
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    succeed("mkfs.ext4", "-q", "-F", "-N", str(DISK_INODES), "-E", "nodiscard", image)
    succeed("mount", "-o", "loop,noinit_itable", image, at)
    try:
        yield at
    finally:
        succeed("umount", at)
        image.unlink()


def measure(verb: str, folder: Path, program: str, runs: int, report: Report) -> dict[str, Any]:
    """The rows of ``load`` or ``pull``; ``folder`` is to work in."""
    from kit.registries import docker_registry

    with disk(folder / f"{verb}.disk") as work:
        images = Images(work, program)
        if verb == "load":
            return _rows(verb, images.loads(), runs, work, report)
        with docker_registry(work / "registry") as host:
            images.push(host)
            return _rows(verb, images.pulls(host), runs, work, report)


def _rows(
    verb: str, contenders: dict[str, Run], runs: int, work: Path, report: Report
) -> dict[str, Any]:
    found, peak = race(contenders, min(runs, RUNS), work / "runs")
    peers = (f"docker {verb}", f"podman {verb}", "umoci unpack")
    rows = report(found, f"sandbox {verb}", dict.fromkeys(peers, BUDGET))
    rows["peak_kib"] = peak
    rows["lines"].append(f"peak memory of sandbox {verb}: {peak / 1024:.0f} MiB (budget 150)")
    return rows
