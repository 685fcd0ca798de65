"""Published ports of containers: real clients on hosts of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path
from kit.nethosts import (
    HOST4,
    HOST6,
    OUTSIDE4,
    OUTSIDE6,
    TIMEOUT_S,
    Server,
    call,
    family_of,
    is_silent,
)

from netns import Namespace, Netlink, nftables, settings

if TYPE_CHECKING:
    from conftest import Store

pytestmark = [requires.root, requires.overlay, requires.program("nft")]

SLEEP = ("sleep", "1000")


@dataclass
class Host:
    """The engine on a host of its own, and a second host on a wire to it."""

    store: Store
    here: Namespace
    outside: Namespace
    has_nftables: bool = True

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        hidden = 'for n in /usr/sbin/nft /sbin/nft; do mount -B /dev/null $n; done; exec "$@"'
        before = () if self.has_nftables else ("unshare", "--mount", "sh", "-c", hidden, "sh")
        with self.here.entered():
            return subprocess.run(
                [*before, program_path(), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                env=self.store.environ,
                check=False,
            )

    def did(self, *arguments: str) -> str:
        done = self.program(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, name: str, *options: str, command: tuple[str, ...] = SLEEP) -> str:
        options = options if "--network" in options else ("--network", "bridge", *options)
        return self.did("run", "-d", "--name", name, *options, "busybox", *command).strip()

    def inside(self, name: str) -> Namespace:
        """The network of a container."""
        return Namespace.of_process(int(self.did("inspect", "-f", "{{.State.Pid}}", name)))

    @contextmanager
    def serving(
        self, name: str, address: str, port: int, protocol: str = "tcp"
    ) -> Iterator[Server]:
        """A server in a container, made by the test: it says whom it sees."""
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with self.inside(name) as inside, inside.entered():
            made = socket.socket(family_of(address), kind)
        with made:
            made.settimeout(TIMEOUT_S)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            if protocol == "tcp":
                made.listen()
            yield Server(made)

    def seen(
        self,
        where: Namespace,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        inside: tuple[str, int] = ("0.0.0.0", 80),
        name: str = "web",
    ) -> str:
        """Whom the container takes a client for that calls this address."""
        with self.serving(name, *inside, protocol) as server:
            return call(where, server, address, port, protocol)

    def published(self) -> int:
        """How many ports the rules send on."""
        with self.here.entered():
            shown = subprocess.check_output(["nft", "list", "ruleset"], text=True)
        return shown.count("comment") - shown.count("counter")


@pytest.fixture
def host(busybox: Store) -> Iterator[Host]:
    """With strict reverse path filtering, and a firewall that forwards nothing, as docker's."""
    with ExitStack() as stack:
        here, outside = (stack.enter_context(Namespace.create()) for _ in range(2))
        for each in (here, outside):
            with each.entered():
                for name in ("all", "default"):
                    settings.write(f"ipv4/conf/{name}/rp_filter", "1")
                    settings.write(f"ipv6/conf/{name}/accept_dad", "0", optional=True)
        with Netlink.open(here) as one, Netlink.open(outside) as two:
            one.add_veth("wire", peer="wire", peer_namespace=outside)
            for end, addresses in ((one, (HOST4, HOST6)), (two, (OUTSIDE4, OUTSIDE6))):
                end.change("lo", up=True)
                end.add_address("wire", f"{addresses[0]}/24")
                end.add_address("wire", f"{addresses[1]}/64")
                end.change("wire", up=True)
            one.link("wire")
        forward = "chain FORWARD { type filter hook forward priority 0; policy drop; }"
        for family in ("ip", "ip6"):
            nftables.run_text(f"table {family} filter {{\n{forward}\n}}\n", namespace=here)
        made = Host(busybox, here, outside)
        yield made
        found = made.did("ps", "-aq").split()
        if found:
            made.did("rm", "-f", *found)


def refused(where: Namespace, address: str, port: int) -> bool:
    with where.entered():
        client = socket.socket(family_of(address), socket.SOCK_STREAM)
    with client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect((address, port))
        except ConnectionRefusedError:
            return True
    return False


def test_tcp_and_udp_are_reached_from_everywhere_and_clients_are_seen(host: Host) -> None:
    host.run("web", "-p", "8080:80", "-p", "5353:53/udp")
    host.run("other")

    for protocol, port, number in (("tcp", 8080, 80), ("udp", 5353, 53)):
        inside = ("0.0.0.0", number)
        assert host.seen(host.outside, HOST4, port, protocol, inside=inside) == OUTSIDE4
        host.seen(host.here, "127.0.0.1", port, protocol, inside=inside)
        host.seen(host.here, HOST4, port, protocol, inside=inside)
        with host.inside("other") as other:
            host.seen(other, HOST4, port, protocol, inside=inside)
    assert host.did("port", "web") == "53/udp -> 0.0.0.0:5353\n80/tcp -> 0.0.0.0:8080\n"


def test_ipv6_is_published_too_where_the_network_has_it(host: Host) -> None:
    host.did("network", "create", "--ipv6", "--subnet", "fd00:9::/64", "six")
    ports = ("-p", "8080:80", "-p", "[::1]:8081:80", "-p", "5353:80/udp")
    host.run("web", "--network", "six", *ports)

    assert host.did("port", "web", "80") == "0.0.0.0:8080\n[::]:8080\n[::1]:8081\n"
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4
    assert host.seen(host.outside, HOST6, 8080, inside=("::", 80)) == OUTSIDE6
    assert host.seen(host.outside, HOST6, 5353, "udp", inside=("::", 80)) == OUTSIDE6
    # By a relay: the client is the host, by its address on the bridge.
    assert host.seen(host.here, "::1", 8081, inside=("::", 80)).startswith("fd00:9::")
    host.did("rm", "-f", "web")
    host.did("network", "rm", "six")


def test_a_port_of_one_address_is_there_alone(host: Host) -> None:
    host.run("web", "-p", "127.0.0.1:8080:80", "-p", "[::1]:8080:80")

    assert host.seen(host.here, "127.0.0.1", 8080)
    assert host.seen(host.here, "::1", 8080)
    assert refused(host.outside, HOST4, 8080)
    assert refused(host.outside, HOST6, 8080)


def test_everything_is_taken_back_and_a_port_can_be_had_again(host: Host) -> None:
    for _ in range(2):
        host.run("web", "-p", "8080:80", "-p", "[::1]:8081:80")
        assert host.published() == 1
        host.did("rm", "-f", "web")
        assert host.published() == 0
        assert refused(host.here, "127.0.0.1", 8080)
    host.did("run", "--rm", "--network", "bridge", "-p", "8080:80", "busybox", "true")
    assert host.published() == 0


def test_a_restart_and_a_stop_and_a_start_keep_the_port(host: Host) -> None:
    host.run("web", "-p", "8080:80", "-P", "--expose", "81")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4

    host.did("restart", "-t", "0", "web")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4
    host.did("stop", "-t", "0", "web")
    assert host.did("port", "web") == ""
    assert host.published() == 0
    host.did("start", "web")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4


def test_a_monitors_restart_keeps_the_port(host: Host) -> None:
    host.run("web", "-p", "8080:80", "--restart", "always")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4

    pid = int(host.did("inspect", "-f", "{{.State.Pid}}", "web"))
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while int(host.did("inspect", "-f", "{{.State.Pid}}", "web")) in (0, pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4


def test_a_port_that_another_container_has_names_it(host: Host) -> None:
    host.run("web", "-p", "8080:80")

    for address in ("", "127.0.0.1:"):
        done = host.program(
            *("run", "--name", "late", "--network", "bridge", "-p", f"{address}8080:80"),
            *("busybox", "true"),
        )
        shown = address.rstrip(":") or "0.0.0.0"
        assert done.returncode == 125
        assert "driver failed programming external connectivity on endpoint late (" in done.stderr
        assert f"): Bind for {shown}:8080 failed: port is already allocated\n" in done.stderr
        assert "hint: container web has the port\n" in done.stderr
        host.did("rm", "late")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4


def test_a_port_that_a_program_of_the_host_has_says_so(host: Host) -> None:
    with host.here.entered():
        server = socket.create_server(("0.0.0.0", 8080))
    with server:
        done = host.program(
            *("run", "--rm", "--network", "bridge", "-p", "8080:80", "busybox", "true")
        )

    assert done.returncode == 125
    assert "failed to bind host port 0.0.0.0:8080/tcp: address already in use\n" in done.stderr
    assert "hint: a process of this host has it" in done.stderr


def test_one_of_a_range_is_picked_and_a_range_is_a_row(host: Host) -> None:
    host.run("one", "-p", "8080-8081:80")
    host.run("two", "-p", "8080-8081:80")
    host.run("row", "-p", "9080-9082:80-82", "-p", "80-81:80-81", "--expose", "99")

    assert host.did("port", "one", "80") == "0.0.0.0:8080\n"
    assert host.did("port", "two", "80/tcp") == "0.0.0.0:8081\n"
    shown = host.did("ps", "--format", "{{.Names}}: {{.Ports}}")
    assert (
        "row: 0.0.0.0:80-81->80-81/tcp, 99/tcp, 0.0.0.0:9080->80/tcp, "
        "0.0.0.0:9081->81/tcp, 0.0.0.0:9082->82/tcp\n" in shown
    )
    assert "0.0.0.0:8081->80/tcp" in host.did("ps")


def test_all_that_is_exposed_is_published_at_random_and_remembered(host: Host) -> None:
    host.run("web", "-P", "--expose", "80", "--expose", "53/udp", "-p", "127.0.0.1::81")

    document = json.loads(host.did("inspect", "web"))[0]
    ports = document["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "53/udp", "81/tcp"}
    assert ports["81/tcp"][0]["HostIp"] == "127.0.0.1"
    port = int(ports["80/tcp"][0]["HostPort"])
    assert host.seen(host.outside, HOST4, port) == OUTSIDE4
    assert host.did("port", "web", "80") == f"0.0.0.0:{port}\n"
    assert document["HostConfig"]["PublishAllPorts"] is True
    assert document["HostConfig"]["PortBindings"] == {
        "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]
    }
    assert set(document["Config"]["ExposedPorts"]) == {"80/tcp", "53/udp", "81/tcp"}
    found = host.did("ps", "-q", "--no-trunc", "--filter", f"publish={port}")
    assert found == host.did("ps", "-q", "--no-trunc", "--filter", "expose=50-60/udp")
    assert found
    assert host.did("ps", "-q", "--filter", "publish=1") == ""
    assert "Invalid filter 'publish=x'" in host.program("ps", "--filter", "publish=x").stderr


def test_an_internal_network_publishes_nothing(host: Host) -> None:
    host.did("network", "create", "--internal", "shut")
    host.run("web", "--network", "shut", "-p", "8080:80")

    assert host.did("port", "web") == ""
    assert host.did("ps", "--format", "{{.Ports}}") == "80/tcp\n"
    host.did("rm", "-f", "web")
    host.did("network", "rm", "shut")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-p", "99999:80"), "invalid hostPort: 99999"),
        (
            ("-p", "198.51.100.1:8080:80"),
            "failed to bind host port: cannot assign requested address 198.51.100.1",
        ),
    ],
)
def test_what_cannot_be_published_is_an_error_and_leaves_nothing(
    host: Host, options: tuple[str, ...], message: str
) -> None:
    done = host.program("run", "--rm", "--network", "bridge", *options, "busybox", "true")

    assert done.returncode == 125
    assert message in done.stderr
    assert host.did("ps", "-aq") == ""


def test_a_monitor_that_is_killed_leaves_no_port(host: Host) -> None:
    host.run("web", "-p", "8080:80", "-p", "[::1]:8081:80")
    pid = int(host.did("inspect", "-f", "{{.State.Pid}}", "web"))
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        monitor = int(file.read().rpartition(")")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)

    def is_settled() -> bool:
        host.did("ps", "-aq")
        return host.published() == 0 and refused(host.here, "::1", 8081)

    deadline = time.monotonic() + TIMEOUT_S
    while not is_settled():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    host.did("start", "web")
    assert host.seen(host.outside, HOST4, 8080) == OUTSIDE4


def test_port_53_is_published_and_the_networks_resolver_stays(host: Host) -> None:
    """The resolver of a network listens on its gateway's port 53, and both orders failed."""
    host.did("network", "create", "one")
    host.run("before", "--network", "one")
    host.run("web", "--network", "one", "-p", "53:53/udp", "-p", "53:53/tcp")
    host.did("network", "create", "two")
    host.run("after", "--network", "two")

    inside = ("0.0.0.0", 53)
    assert host.seen(host.outside, HOST4, 53, "udp", inside=inside) == OUTSIDE4
    assert host.seen(host.outside, HOST4, 53, inside=inside) == OUTSIDE4
    with host.serving("web", "0.0.0.0", 53, "udp"):
        assert "web" in host.did("exec", "before", "nslookup", "web")
    host.did("rm", "-f", "before", "web", "after")
    host.did("network", "rm", "one", "two")


def test_without_nftables_ports_are_relayed_and_networks_are_islands(host: Host) -> None:
    nftables.run_text("flush ruleset\n", namespace=host.here)
    host.has_nftables = False
    host.did("network", "create", "one")
    host.run("web", "--network", "one", "-p", "8080:80", "-p", "5353:53/udp")
    host.run("other", "--network", "one")
    host.run("far")

    # The client is seen as the host: that is the price.
    assert host.seen(host.outside, HOST4, 8080).endswith(".1")
    assert host.seen(host.outside, HOST4, 5353, "udp", inside=("0.0.0.0", 53)).endswith(".1")
    assert host.seen(host.here, "127.0.0.1", 8080).endswith(".1")
    address = host.did(
        "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web"
    ).strip()
    with host.inside("other") as other, host.inside("far") as far:
        assert host.seen(other, address, 80)
        with host.serving("web", "0.0.0.0", 80):
            assert is_silent(far, address, 80)
        assert is_silent(far, OUTSIDE4, 80)
    assert "0.0.0.0:8080->80/tcp" in host.did("ps")
    host.did("rm", "-f", "web", "other", "far")
    assert refused(host.here, "127.0.0.1", 8080)
    host.did("network", "rm", "one")

    # When there are rules again, the network is made anew with them.
    host.has_nftables = True
    host.run("web", "-p", "8080:80")
    host.did("rm", "-f", "web")


def test_a_network_that_is_left_takes_its_ports_along(host: Host) -> None:
    """The address is somebody else's soon, and the port led there."""
    host.did("network", "create", "one")
    host.run("web", "-p", "8080:80", "--expose", "81")

    host.did("network", "connect", "one", "web")
    host.did("network", "disconnect", "bridge", "web")

    assert host.published() == 0
    assert host.did("port", "web") == ""
    assert host.did("ps", "--format", "{{.Ports}}") == "80-81/tcp\n"
    assert refused(host.outside, HOST4, 8080)
    host.did("rm", "-f", "web")
    host.did("network", "rm", "one")
