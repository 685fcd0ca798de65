"""Containers on networks: who reaches whom, and what is there after them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requires
from conftest import program_path
from kit.enginehosts import Wired, becomes
from kit.nethosts import OUTSIDE4, OUTSIDE6

from netns import Namespace, Netlink

pytestmark = [requires.root, requires.overlay, requires.program("nft")]

SERVE = "exec httpd -f -p 80"
RUNS = int(os.environ.get("SANDBOX_NETWORK_RUNS", "48"))
KILLS = int(os.environ.get("SANDBOX_NETWORK_KILLS", "12"))


@contextmanager
def web_server(where: Namespace, folder: Path) -> Iterator[None]:
    """HTTP on port 80 of a host that is not the engine's."""
    (folder / "page").write_text("outside\n")
    with where.entered():
        server = subprocess.Popen(["busybox", "httpd", "-f", "-p", "80", "-h", str(folder)])
    try:
        with where.entered():
            asked = ["busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/page"]
            assert becomes(lambda: subprocess.run(asked, check=False).returncode == 0)
        yield
    finally:
        server.kill()
        server.wait()


def asked(wired: Wired, network: str, address: str, *, wait_s: int = 5) -> bool:
    """Whether a container on a network gets an answer by HTTP."""
    where = f"[{address}]" if ":" in address else address
    done = wired.run(
        *("run", "--rm", "--timeout", str(wait_s), "--network", network, "busybox"),
        *("wget", "-q", "-O", "-", f"http://{where}/"),
    )
    return b"It works" in done.stdout


def serving(wired: Wired, network: str, name: str = "web", *options: str) -> str:
    wired.said(
        "run", "-d", "--name", name, "--network", network, *options, "busybox", "sh", "-c", SERVE
    )
    address = wired.address(name, network)
    listens = ["exec", name, "wget", "-q", "-O", "-", "http://127.0.0.1/"]
    assert becomes(lambda: wired.run(*listens).returncode == 0)
    return address


def test_container_on_the_bridge_reaches_a_host_outside(
    wired: Wired, outside: Namespace, tmp_path: Path
) -> None:
    with web_server(outside, tmp_path):
        done = wired.run(
            *("run", "--rm", "--timeout", "5", "--network", "bridge", "busybox"),
            *("wget", "-q", "-O", "-", f"http://{OUTSIDE4}/page"),
        )

    assert b"outside" in done.stdout, done.stderr.decode()
    assert wired.leases() == []
    assert becomes(lambda: wired.links() == [])


def test_two_containers_of_a_network_talk_and_others_are_kept_out(wired: Wired) -> None:
    wired.said("network", "create", "one")
    wired.said("network", "create", "two")
    address = serving(wired, "one")

    assert asked(wired, "one", address)
    assert not asked(wired, "two", address, wait_s=1)
    assert not asked(wired, "bridge", address, wait_s=1)


def test_internal_network_talks_inside_and_has_no_way_out(
    wired: Wired, outside: Namespace, tmp_path: Path
) -> None:
    wired.said("network", "create", "--internal", "inner")
    address = serving(wired, "inner")

    with web_server(outside, tmp_path):
        out = wired.run(
            *("run", "--rm", "--timeout", "1", "--network", "inner", "busybox"),
            *("wget", "-q", "-O", "-", f"http://{OUTSIDE4}/page"),
        )

    assert asked(wired, "inner", address)
    assert out.returncode != 0
    routes = wired.said("exec", "web", "ip", "route")
    assert "default" not in routes


def test_network_with_ipv6_has_it_and_another_has_none(
    wired: Wired, outside: Namespace, tmp_path: Path
) -> None:
    wired.said("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six")
    wired.said("network", "create", "four")
    serving(wired, "six")
    address = wired.address("web", "six", "GlobalIPv6Address")

    shown = wired.said("run", "--rm", "--network", "four", "busybox", "ip", "addr", "show", "eth0")
    with web_server(outside, tmp_path):
        out = wired.run(
            *("run", "--rm", "--timeout", "5", "--network", "six", "busybox"),
            *("wget", "-q", "-O", "-", f"http://[{OUTSIDE6}]/page"),
        )

    assert address.startswith("fd00:77::")
    assert asked(wired, "six", address)
    assert b"outside" in out.stdout, out.stderr.decode()
    assert "inet6" not in shown


def test_bridge_and_rules_removed_by_others_are_made_again(wired: Wired) -> None:
    address = serving(wired, "bridge")
    record = wired.inspected("network", "inspect", "bridge")
    bridge = record["Options"]["com.docker.network.bridge.name"]

    with wired.host.entered():
        subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert asked(wired, "bridge", address)
    with Netlink.open(wired.host) as netlink:
        netlink.remove(bridge)

    # What runs is on the new one, too.
    assert asked(wired, "bridge", address)


def test_no_address_left_is_an_error_that_says_so(wired: Wired) -> None:
    wired.said("network", "create", "--subnet", "10.99.0.0/30", "tiny")
    wired.said("run", "-d", "--name", "first", "--network", "tiny", "busybox", "sleep", "60")

    said = wired.refused("run", "--rm", "--network", "tiny", "busybox", "true")

    assert "no available IPv4 addresses on this network's address pools: tiny" in said
    assert "larger --subnet" in said
    wired.said("rm", "-f", "first")
    wired.said("run", "--rm", "--network", "tiny", "busybox", "true")


def test_asked_addresses_are_had_or_refused(wired: Wired) -> None:
    wired.said("network", "create", "--subnet", "10.98.0.0/24", "net1")
    options = ("--network", "net1", "--mac-address", "02:aa:bb:cc:dd:ee")

    shown = wired.said(
        *("run", "--rm", *options, "--ip", "10.98.0.77", "busybox", "ip", "addr", "show", "eth0")
    )
    taken = wired.refused("run", "--rm", *options, "--ip", "10.98.0.1", "busybox", "true")
    strange = wired.refused("run", "--rm", *options, "--ip", "1.2.3.4", "busybox", "true")
    default = wired.refused(
        *("run", "--rm", "--network", "bridge", "--ip", "172.17.0.77", "busybox", "true")
    )

    assert "10.98.0.77/24" in shown
    assert "02:aa:bb:cc:dd:ee" in shown
    assert taken.startswith("sandbox: Address already in use")
    assert strange.startswith(
        "sandbox: Invalid address 1.2.3.4: It does not belong to any of this network's subnets"
    )
    assert default.startswith(
        "sandbox: user specified IP address is supported on user defined networks only"
    )


def test_connect_and_disconnect_of_a_running_container(wired: Wired) -> None:
    wired.said("network", "create", "one")
    wired.said("network", "create", "two")
    first = serving(wired, "one")
    assert not asked(wired, "two", first, wait_s=1)

    wired.said("network", "connect", "two", "web")
    second = wired.address("web", "two")
    assert asked(wired, "two", second)
    assert "already exists in network two" in wired.refused("network", "connect", "two", "web")

    wired.said("network", "disconnect", "one", "web")
    assert not asked(wired, "one", first, wait_s=1)
    assert asked(wired, "two", second)
    assert "is not connected to network one" in wired.refused("network", "disconnect", "one", "web")


def test_networks_of_a_stopped_container_are_joined_at_its_next_start(wired: Wired) -> None:
    wired.said("network", "create", "one")
    wired.said("network", "create", "two")
    serving(wired, "one")
    wired.said("stop", "-t", "0", "web")
    wired.said("network", "connect", "--alias", "shop", "two", "web")
    wired.said("network", "disconnect", "one", "web")

    wired.said("start", "web")

    networks = wired.inspected("inspect", "web")["NetworkSettings"]["Networks"]
    assert list(networks) == ["two"]
    assert networks["two"]["Aliases"] == ["shop"]
    assert becomes(lambda: asked(wired, "two", wired.address("web", "two")))


def test_restarted_container_keeps_its_place(wired: Wired) -> None:
    address = serving(wired, "bridge")

    for _round in range(3):
        wired.said("restart", "-t", "0", "web")

    assert asked(wired, "bridge", wired.address("web", "bridge"))
    assert len(wired.leases()) == 2
    assert address


def test_monitor_restarts_a_container_with_its_links(wired: Wired) -> None:
    wired.said(
        *("run", "-d", "--name", "again", "--network", "bridge", "--restart", "on-failure:2"),
        *("busybox", "sh", "-c", "ip -o -4 addr show eth0; exit 3"),
    )

    wired.said("wait", "again")

    lines = wired.said("logs", "again").splitlines()
    assert len(lines) == 3
    assert len({line.split()[3] for line in lines}) == 1
    assert becomes(lambda: wired.leases() == [])


def test_killed_monitor_leaves_nothing_after_the_next_command(wired: Wired) -> None:
    wired.said("run", "-d", "--name", "web", "--network", "bridge", "busybox", "sleep", "600")
    status = wired.inspected("inspect", "web")
    with open(f"/proc/{status['State']['Pid']}/stat") as file:
        monitor = int(file.read().rpartition(")")[2].split()[1])

    os.kill(monitor, signal.SIGKILL)

    assert becomes(lambda: wired.run("ps", "-a").returncode == 0 and wired.leases() == [])
    assert becomes(lambda: wired.links() == [])


@pytest.mark.timeout(120 + KILLS)
def test_runs_killed_at_any_moment_leave_nothing(wired: Wired) -> None:
    chance = random.Random(20)
    wired.said("run", "--rm", "--network", "bridge", "busybox", "true")
    words = ["run", "--rm", "--network", "bridge", "busybox", "true"]

    for _kill in range(KILLS):
        with wired.host.entered():
            process = subprocess.Popen(
                [program_path(), *words],
                env=wired.store.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
        try:
            process.wait(chance.uniform(0, 0.25))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    assert becomes(lambda: wired.said("ps", "-aq") == "")
    assert becomes(lambda: wired.leases() == [])
    assert becomes(lambda: wired.links() == [])


@pytest.mark.timeout(120 + RUNS)
def test_many_runs_at_once_leave_nothing(wired: Wired) -> None:
    wired.said("run", "--rm", "--network", "bridge", "busybox", "true")

    def one(_number: int) -> str:
        done = wired.run(
            *("run", "--rm", "--network", "bridge", "busybox"),
            *("ip", "-o", "-4", "addr", "show", "eth0"),
        )
        return done.stdout.decode().split()[3] if done.returncode == 0 else done.stderr.decode()

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(one, range(RUNS)))

    assert [text for text in said if not text.endswith("/16")] == []
    assert wired.leases() == []
    assert becomes(lambda: wired.links() == [])


def test_stores_of_one_host_have_subnets_and_tables_of_their_own(wired: Wired) -> None:
    store = wired.store
    other = Wired(
        type(store)(
            root=store.root.with_name("other"),
            run=store.run.with_name("otherrun"),
            environ=store.environ
            | {
                "SANDBOX_ROOT": str(store.root.with_name("other")),
                "SANDBOX_RUN": str(store.run.with_name("otherrun")),
            },
        ),
        wired.host,
    )

    first = wired.inspected("network", "inspect", "bridge")
    second = other.inspected("network", "inspect", "bridge")

    assert first["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"
    assert second["IPAM"]["Config"][0]["Subnet"] == "172.18.0.0/16"
    with wired.host.entered():
        tables = subprocess.run(
            ["nft", "list", "tables"], check=True, capture_output=True, text=True
        ).stdout
    assert tables.count("table inet sandbox_") == 2


def test_damaged_leases_are_made_again_from_the_endpoints(wired: Wired) -> None:
    wired.said("run", "-d", "--name", "web", "--network", "bridge", "busybox", "sleep", "600")
    (path,) = wired.store.run.glob("networks/*/leases")
    path.write_text("what is this\n")

    shown = wired.said(
        "run", "--rm", "--network", "bridge", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"
    )

    assert wired.address("web", "bridge") not in shown
    assert len([line for line in wired.leases() if line.startswith("lease")]) == 1


def test_network_in_use_is_not_removed(wired: Wired) -> None:
    wired.said("network", "create", "one")
    wired.said("run", "-d", "--name", "web", "--network", "one", "busybox", "sleep", "600")

    said = wired.refused("network", "rm", "one")
    wired.said("rm", "-f", "web")

    assert "error while removing network: network one id " in said
    assert "has active endpoints" in said
    assert wired.said("network", "rm", "one") == "one"
    assert "one" not in wired.said("network", "ls", "--format", "{{.Name}}").split()


def test_containers_of_a_network_have_names_and_those_of_the_bridge_have_hosts(
    wired: Wired, tmp_path: Path
) -> None:
    wired.said("network", "create", "one")
    serving(wired, "one", "web", "--network-alias", "shop")
    serving(wired, "bridge", "plain")

    for name in ("web", "shop"):
        assert asked(wired, "one", name)
    assert asked(wired, "bridge", "plain")
    assert not asked(wired, "bridge", "web", wait_s=3)
    wired.said("rm", "-f", "plain")
    shown = wired.said("run", "--rm", "--network", "bridge", "busybox", "cat", "/etc/hosts")
    assert "plain" not in shown


def test_default_network_is_the_bridge_or_what_the_environment_names(wired: Wired) -> None:
    words = ("run", "--rm", "busybox", "ls", "/sys/class/net")

    usual = wired.run(*words, SANDBOX_NETWORK="").stdout.decode().split()
    none = wired.run(*words, SANDBOX_NETWORK="none").stdout.decode().split()
    wired.said("network", "create", "mine")
    mine = wired.run("run", "-d", "--name", "it", "busybox", "sleep", "60", SANDBOX_NETWORK="mine")

    assert (usual, none) == (["eth0", "lo"], ["lo"])
    assert mine.returncode == 0, mine.stderr.decode()
    assert list(wired.inspected("inspect", "it")["NetworkSettings"]["Networks"]) == ["mine"]
