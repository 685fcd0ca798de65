"""The life of a network's resolver: a process of its own, which starts and leaves in time."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requires
from kit.dnshosts import ask, code, values
from kit.nethosts import Fabric

from netns import Namespace, names
from netns.names import Named
from sandbox.engine import resolving
from sandbox.errors import HostLacks
from sandbox.monitor import children

pytestmark = [requires.root, requires.program("nft")]

GATEWAY = "10.9.1.1"
ROUNDS = int(os.environ.get("SANDBOX_RESOLVER_ROUNDS", "12"))


@dataclass
class Life:
    """One network, its run folder and a container that asks."""

    fabric: Fabric
    client: Namespace
    folder: Path

    def ensure(self, *, leave_after_s: float = 60.0, internal: bool = True) -> None:
        with self.fabric.host.entered():
            resolving.ensure(
                str(self.folder),
                name="mynet",
                subnets=(("10.9.1.0/24", GATEWAY),),
                internal=internal,
                leave_after_s=leave_after_s,
            )

    def join(self, owner: str, number: int) -> None:
        named = Named(owner=owner, addresses=(f"10.9.1.{number}",), names=(owner,))
        names.write(f"{self.folder}/endpoints", named)

    def leave(self, owner: str) -> None:
        names.remove(f"{self.folder}/endpoints", owner)

    def wait_gone(self, timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while resolving.is_alive(str(self.folder)):
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        return int((self.folder / "resolver").read_text())


@pytest.fixture
def life(fabric: Fabric, tmp_path: Path) -> Iterator[Life]:
    network = fabric.network()
    folder = tmp_path / "networks" / "one"
    folder.mkdir(parents=True)
    yield Life(fabric, fabric.container(network), folder)
    resolving.stop(str(folder))
    deadline = time.monotonic() + 5
    while children._let_go and time.monotonic() < deadline:
        time.sleep(0.01)  # one that left by itself lets go of its lock a moment before its end
        children.reap()
    log = folder / "resolver.log"
    assert not log.exists() or log.read_text() == ""


def test_it_is_there_with_the_first_and_leaves_after_the_last(life: Life) -> None:
    life.join("c1", 10)
    life.ensure(leave_after_s=0.2)
    first = life.pid

    assert values(ask(life.client, GATEWAY, "c1")) == ["10.9.1.10"]
    life.join("c2", 11)
    life.ensure()
    assert life.pid == first
    life.leave("c1")
    time.sleep(0.5)
    assert values(ask(life.client, GATEWAY, "c2")) == ["10.9.1.11"]
    life.leave("c2")

    life.wait_gone()


def test_it_is_nobodys_child_to_wait_for_and_holds_nothing_of_its_launcher(life: Life) -> None:
    life.join("c1", 10)
    life.ensure()
    assert values(ask(life.client, GATEWAY, "c1")) == ["10.9.1.10"]

    held = [os.readlink(f"/proc/{life.pid}/fd/{number}") for number in range(3)]
    every = {os.readlink(each) for each in Path(f"/proc/{life.pid}/fd").iterdir()}

    assert held == ["/dev/null", "/dev/null", f"{life.folder}/resolver.log"]
    files = {each for each in every if each.startswith("/") and each != "/dev/null"}
    assert files == {f"{life.folder}/resolver", f"{life.folder}/resolver.log"}
    assert sum(each.startswith("socket:") for each in every) == 2
    assert os.getsid(life.pid) == life.pid
    assert os.readlink(f"/proc/{life.pid}/cwd") == "/"


def test_it_is_small(life: Life) -> None:
    life.join("c1", 10)
    life.ensure()
    for _ in range(200):
        ask(life.client, GATEWAY, "c1")

    status = Path(f"/proc/{life.pid}/status").read_text()
    own = next(line for line in status.splitlines() if line.startswith("RssAnon"))

    assert int(own.split()[1]) < 20 * 1024


def test_one_that_was_killed_is_started_again_at_the_next_use(life: Life) -> None:
    life.join("c1", 10)
    for _ in range(3):
        life.ensure()
        assert values(ask(life.client, GATEWAY, "c1")) == ["10.9.1.10"]
        os.kill(life.pid, signal.SIGKILL)
        life.wait_gone()


def test_it_can_be_ended_at_any_time_and_twice(life: Life) -> None:
    folder = str(life.folder)
    resolving.stop(folder)
    life.join("c1", 10)
    for pause in (0.0, 0.05, 0.3):
        life.ensure()
        time.sleep(pause)
        resolving.stop(folder)
        resolving.stop(folder)
        assert not resolving.is_alive(folder)


def test_a_stopped_one_is_not_confused_with_who_has_its_number_now(life: Life) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (life.folder / "resolver").write_text(f"{other.pid}\n")
            (life.folder / "resolver.gate").touch()
            held = life.folder / "resolver"
            with held.open() as file:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
                resolving.stop(str(life.folder))
            assert other.poll() is None
        finally:
            other.kill()


def test_many_launchers_at_once_start_one(life: Life) -> None:
    life.join("c1", 10)
    threads = [threading.Thread(target=life.ensure) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    found = [
        pid
        for pid in os.listdir("/proc")
        if pid.isdigit() and str(life.folder).encode() in _words_of(pid)
    ]
    assert found == [str(life.pid)]


def _words_of(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_taken_port_is_said_and_the_next_use_tries_again(life: Life) -> None:
    with life.fabric.host.entered():
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    life.join("c1", 10)
    with other:
        other.bind(("0.0.0.0", 53))
        with pytest.raises(HostLacks, match=r"mynet .*10\.9\.1\.1:53/udp is in use"):
            life.ensure()
        assert not resolving.is_alive(str(life.folder))

    life.ensure()
    assert values(ask(life.client, GATEWAY, "c1")) == ["10.9.1.10"]


def test_whoever_starts_finds_one_however_the_last_one_is_leaving(life: Life) -> None:
    """Three launchers come and go on their own while the resolver leaves as soon as it can."""
    wrong: list[str] = []

    def come_and_go(number: int) -> None:
        chance = random.Random(number)
        owner = f"c{number}"
        try:
            for round_ in range(ROUNDS):
                life.join(owner, 10 + number)
                life.ensure(leave_after_s=0.04)
                found = values(ask(life.client, GATEWAY, owner))
                if found != [f"10.9.1.{10 + number}"]:
                    wrong.append(f"{owner} round {round_}: {found}")
                life.leave(owner)
                time.sleep(chance.random() * 0.15)
        except Exception as error:
            wrong.append(f"{owner}: {error!r}")

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert wrong == []
    life.wait_gone()


def test_names_of_a_gone_network_end_its_resolver(life: Life) -> None:
    life.join("c1", 10)
    life.ensure(leave_after_s=0.1)
    assert code(ask(life.client, GATEWAY, "nobody")) == "NXDOMAIN"

    subprocess.run(["rm", "-r", str(life.folder)], check=True)

    deadline = time.monotonic() + 10
    while any(str(life.folder).encode() in _words_of(pid) for pid in os.listdir("/proc")):
        children.reap()
        assert time.monotonic() < deadline
        time.sleep(0.02)
