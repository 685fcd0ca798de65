"""The part ``network`` of scripts/bench: start-up on the default network, and throughput.

Beside docker (a dockerd of its own) and podman, each with network namespaces of its own for
the host and for a second host on a wire to it, so that nothing is changed on this machine and no
engine's rules slow another's packets.  Throughput is iperf3's, one TCP stream: between two
containers, from a container to its host, and from the second host to a published port.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from netns import Namespace, Netlink

IMAGE = "localhost/sandbox-bench-iperf:latest"
HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
PORT = 5201
SECONDS = 2
# Others set these limits themselves, and may not where the caller's are lower.
RUN = ("--network", "bridge", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
ROUNDS = 6
WAYS = ("container to container", "container to host", "published port")

Report = Callable[[dict[str, list[float]], str, dict[str, float]], dict[str, Any]]
Race = Callable[[dict[str, Callable[[], float]], int], dict[str, list[float]]]


class Failed(Exception):
    """A contender that does not work on this host."""


class Engine:
    """One engine on a host of its own; ``argv`` is what each of its commands begins with."""

    def __init__(self, name: str, argv: tuple[str, ...], here: str, outside: str) -> None:
        self.name, self.argv, self.here, self.outside = name, argv, here, outside

    def __call__(self, *arguments: str) -> str:
        """One command on the engine's host: what it prints."""
        return succeed(*within(self.here, *self.argv, *arguments))

    def start(self) -> float:
        """One container on the default network; its wall time."""
        argv = within(self.here, *self.argv, "run", "--rm", *RUN, IMAGE, "true")
        began = time.perf_counter()
        succeed(*argv)
        return time.perf_counter() - began

    def address(self, container: str) -> str:
        """The address of a container on the default network."""
        shown = self("inspect", "-f", "{{.NetworkSettings.IPAddress}}", container)
        return shown.strip()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Two containers, one with a server whose port is published, and a server on the host."""
        server = within(self.here, "iperf3", "-s", "-p", str(PORT + 1))
        with ExitStack() as stack:
            for name, command in (("s", ("iperf3", "-s")), ("c", ("sleep", "100000"))):
                ports = ("-p", f"{PORT}:{PORT}") if name == "s" else ()
                self("run", "-d", "--name", f"bench-{name}", *RUN, *ports, IMAGE, *command)
                stack.callback(self, "rm", "-f", f"bench-{name}")
            process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(0.5)
            yield

    def throughput(self, way: str) -> float:
        """Gigabits a second."""
        client = ("iperf3", "-J", "-t", str(SECONDS), "-c")
        if way == "container to container":
            shown = self("exec", "bench-c", *client, self.address("bench-s"))
        elif way == "container to host":
            shown = self("exec", "bench-c", *client, HOST, "-p", str(PORT + 1))
        else:
            shown = succeed(*within(self.outside, *client, HOST, "-p", str(PORT)))
        sent = json.loads(shown)["end"]["sum_received"]["bits_per_second"]
        return float(sent) / 1e9


def measure(folder: Path, program: str, runs: int, race: Race, report: Report) -> dict[str, Any]:
    """The rows; ``folder`` is to work in."""
    work = folder / "network"
    work.mkdir()
    with ExitStack() as stack:
        tree = image(work)
        engines = []
        for name, begin in (("sandbox", sandbox), ("docker", docker), ("podman", podman)):
            try:
                here, outside = stack.enter_context(hosts(work / f"{name}-host"))
                argv = stack.enter_context(begin(work / name, here, program))
                engine = Engine(name, argv, here, outside)
                engine("import", str(tree), IMAGE)
                engine.start()
            except (Failed, OSError) as error:
                print(f"  without {name}: {error}", file=sys.stderr)
                continue
            engines.append(engine)
        starts = {f"{each.name} run, bridge": each.start for each in engines}
        rows = report(
            race(starts, runs),
            "sandbox run, bridge",
            {"docker run, bridge": 1 / 8, "podman run, bridge": 1 / 8},
        )
        found = throughputs(engines)
    rows["throughput"] = found
    for way, by_engine in found.items():
        ours = by_engine.get("sandbox", 0.0)
        for name, gigabits in by_engine.items():
            line = f"{way:24} {name:8} {gigabits:7.1f} Gbit/s"
            if name != "sandbox" and gigabits:
                line += f"   sandbox has {ours / gigabits:.2f} x"
            rows["lines"].append(line)
    return rows


def throughputs(engines: list[Engine]) -> dict[str, dict[str, float]]:
    """The median of each way, by engine; they take turns."""
    found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    with ExitStack() as stack:
        serving = []
        for each in engines:
            try:
                stack.enter_context(each.serving())
            except Failed as error:
                print(f"  throughput without {each.name}: {error}", file=sys.stderr)
                continue
            serving.append(each)
        for way in WAYS:
            for number in range(ROUNDS):
                # Nobody is always the one after the same other.
                for each in serving if number % 2 else serving[::-1]:
                    try:
                        found[way].setdefault(each.name, []).append(each.throughput(way))
                    except (Failed, KeyError) as error:
                        if number == 0:
                            print(f"  {way} without {each.name}: {error}", file=sys.stderr)
    return {
        way: {name: statistics.median(each) for name, each in by_engine.items() if each}
        for way, by_engine in found.items()
    }


@contextmanager
def hosts(at: Path) -> Iterator[tuple[str, str]]:
    """A host and a second one on a wire to it, pinned: their paths."""
    at.mkdir()
    with ExitStack() as stack:
        made = []
        for name in ("here", "outside"):
            made.append(stack.enter_context(Namespace.create(str(at / name))))
            stack.callback(succeed, "umount", str(at / name))
        with Netlink.open(made[0]) as one, Netlink.open(made[1]) as two:
            one.add_veth("wire", peer="wire", peer_namespace=made[1])
            for end, address in ((one, HOST), (two, OUTSIDE)):
                end.change("lo", up=True)
                end.add_address("wire", f"{address}/24")
                end.change("wire", up=True)
        yield made[0].path, made[1].path


@contextmanager
def sandbox(at: Path, _here: str, program: str) -> Iterator[tuple[str, ...]]:
    yield (program, "--root", str(at / "store"), "--run", str(at / "run"))


@contextmanager
def docker(at: Path, here: str, _program: str) -> Iterator[tuple[str, ...]]:
    """A daemon on that host, with its own folders, and cgroups of v1 where the host has both."""
    if not shutil.which("dockerd"):
        raise Failed("there is no dockerd")
    at.mkdir()
    socket = f"unix://{at}/docker.sock"
    script = (
        "[ ! -e /sys/fs/cgroup/unified/cgroup.controllers ] || umount /sys/fs/cgroup/unified\n"
        'exec "$@"'
    )
    command = (
        *("dockerd", "--data-root", str(at / "data"), "--exec-root", str(at / "exec")),
        *("-H", socket, "--pidfile", str(at / "pid"), "--iptables=true"),
    )
    with (at / "log").open("wb") as log:
        daemon = subprocess.Popen(
            within(here, "unshare", "--mount", "sh", "-c", script, "sh", *command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 30
        while subprocess.run(["docker", "-H", socket, "info"], capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                last = (at / "log").read_text(errors="replace").strip().splitlines()[-1:]
                raise Failed(f"dockerd does not start: {''.join(last)}")
            time.sleep(0.1)
        yield ("docker", "-H", socket)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


@contextmanager
def podman(at: Path, _here: str, _program: str) -> Iterator[tuple[str, ...]]:
    if not shutil.which("podman"):
        raise Failed("there is no podman")
    script = (
        "[ ! -e /sys/fs/cgroup/unified/cgroup.controllers ] || umount /sys/fs/cgroup/unified\n"
        'exec "$@"'
    )
    own = ("--root", str(at / "root"), "--runroot", str(at / "run"), "--storage-driver", "overlay")
    yield ("unshare", "--mount", "sh", "-c", script, "sh", "podman", *own)


def image(work: Path) -> Path:
    """A tree with busybox and this host's iperf3, as a tar."""
    iperf3 = shutil.which("iperf3")
    if not iperf3:
        raise Failed("there is no iperf3")
    tree = work / "tree"
    for folder in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (tree / folder).mkdir(parents=True)
    for name in ("busybox", "sh", "true", "sleep"):
        shutil.copy("/bin/busybox", tree / "bin" / name)
    shutil.copy(iperf3, tree / "bin" / "iperf3")
    for line in succeed("ldd", iperf3).splitlines():
        for word in line.split():
            if word.startswith("/"):
                to = tree / word[1:]
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, to)
    packed = work / "tree.tar"
    succeed("tar", "-C", str(tree), "-cf", str(packed), ".")
    return packed


def within(namespace: str, *argv: str) -> tuple[str, ...]:
    """The command on that host."""
    return ("nsenter", f"--net={namespace}", "--", *argv)


def succeed(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        raise Failed(f"{' '.join(argv[2:6])}: {said.splitlines()[-1]}")
    return done.stdout
