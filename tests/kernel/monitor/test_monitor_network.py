"""Containers on a bridge: the real monitor makes the links, and the container uses them.

The host is a network namespace of the test's own, which the monitor is started in.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requires
from kit.launch import ALL, MOUNTS, NEWNET, NEWUSER, SAFE, Box
from kit.nethosts import Fabric

from netns import Endpoint, Namespace, Netlink, Network, Route, packed, settings
from sandbox.errors import LaunchFailed, UsageError
from sandbox.monitor import client
from sandbox.monitor.exitrecord import ExitRecord, verdict_of
from sandbox.native import plan
from sandbox.native.plan import Op, op
from sandbox.record import replace
from sandbox.runtime import identity
from sandbox.runtime.connect import connect_endpoint, set_endpoints
from sandbox.runtime.launch import Plumbing, endpoint_ops

pytestmark = [requires.root, requires.overlay, requires.program("busybox")]

IDS = (op("id_map", "0 100000 65536\n", "0 100000 65536\n"),)
SYS = op("mount", "sysfs", "sysfs", "/sys", SAFE, (), 0)
PING = "ping -c 1 -W 5 {} >/dev/null && echo answered"


@dataclass
class Wired:
    """Containers that are started by a monitor in ``fabric.host``."""

    fabric: Fabric
    box: Box
    launches: list[client.Launch] = field(default_factory=list)

    def endpoint(self, network: Network, **options: Any) -> Endpoint:
        self.fabric.containers += 1
        last = self.fabric.containers + 1
        addresses = tuple(
            f"{s.gateway[:-1]}{last}/{s.cidr.partition('/')[2]}" for s in network.config.subnets
        )
        wanted = {"link": f"ve{self.fabric.containers}", "addresses": addresses} | options
        return network.filled(Endpoint(**wanted))

    def plumbing(self, network: Network, **options: Any) -> Plumbing:
        endpoint = self.endpoint(network, **options)
        with self.fabric.host.entered(), packed.Wire() as wire:
            bridge, _ = wire.look_up(network.config.bridge)
        make, plumb, settle = packed.plumbing(endpoint, network.config.bridge, bridge)
        return Plumbing(
            link=endpoint.link,
            name=endpoint.name,
            bridge=network.config.bridge,
            ipv6=any(":" in each for each in endpoint.addresses),
            make=make,
            plumb=plumb,
            settle=settle,
        )

    def start(
        self,
        script: str,
        *links: Plumbing,
        settings: Sequence[Op] = (),
        namespaces: int = ALL,
        before: Sequence[Op] = (),
        fds: tuple[int, ...] = (),
        **options: Any,
    ) -> client.Launch:
        ops = self.box.plan(
            "sh",
            "-c",
            script,
            namespaces=namespaces,
            settings=(*self.kept, *settings),
            before=(op("network"), *before),
            **options,
        )
        made = plan.with_settings(plan.encode(ops), endpoint_ops(links))
        folder = self.box.folder
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        lock = os.open(folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.fabric.host.entered():
                launch = client.spawn(
                    run_dir=str(folder),
                    lock_fd=lock,
                    stdio=(nothing,) * 3,
                    id="box",
                    executable=os.environ.get("SANDBOX_TEST_MONITOR") or None,
                )
            self.launches.append(launch)
            launch.send_plan(made, fds)
        finally:
            os.close(lock)
            os.close(nothing)
        return launch

    def outcome(self, script: str, *links: Plumbing, **options: Any) -> tuple[ExitRecord, str]:
        launch = self.start(script, *links, **options)
        record = launch.wait(timeout_s=30)
        launch.close()
        launch.wait_gone()
        return record, self.output()

    @property
    def kept(self) -> tuple[Op, ...]:
        return (op("log", str(self.log), 0, 1), op("lifetime", plan.LIFETIME_WITH_LAUNCHER))

    @property
    def log(self) -> Path:
        return self.box.folder / "log"

    def output(self) -> str:
        from sandbox.monitor import logs

        return b"".join(entry.text for entry in logs.read(str(self.log))).decode()

    def links(self) -> set[str]:
        with Netlink.open(self.fabric.host) as netlink:
            return {each.name for each in netlink.links()}

    def close(self) -> None:
        for launch in self.launches:
            launch.close()
            launch.wait_gone()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def fabric(stack: ExitStack) -> Fabric:
    def new() -> Namespace:
        made = stack.enter_context(Namespace.create())
        with Netlink.open(made) as netlink:
            netlink.change("lo", up=True)
        return made

    host = new()
    with host.entered():
        settings.write("ipv6/conf/default/accept_dad", "0")
    return Fabric(host, new)


@pytest.fixture
def wired(fabric: Fabric, tmp_path: Path) -> Iterator[Wired]:
    made = Wired(fabric, Box(driver=Path("/none"), folder=tmp_path / "box").make())
    for applet in ("ping", "tr"):
        link = made.box.image / "bin" / applet
        if not link.is_symlink():
            link.symlink_to("busybox")
    yield made
    made.close()


def gone_soon(wired: Wired, link: str) -> bool:
    """The kernel drops a namespace, and the links in it, when it comes to it."""
    deadline = time.monotonic() + 60
    while link in wired.links():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_container_reaches_the_gateway_with_its_first_packet(wired: Wired) -> None:
    network = wired.fabric.network(ipv6=True)
    link = wired.plumbing(network)

    record, said = wired.outcome(f"{PING.format('10.9.1.1')}; {PING.format('fd00:1::1')}", link)

    assert verdict_of(record)[0] == "ok", (said, record)
    assert said == "answered\nanswered\n"
    assert gone_soon(wired, link.link)


def test_the_container_has_what_was_asked_for(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network, mac="02:42:00:00:00:07", mtu=1400, hairpin=True)

    launch = wired.start(
        "ip -o address; ip route; ip link show eth0; echo done; exec sleep 60", link
    )
    launch.wait_started(timeout_s=20)
    wait_for(lambda: "done" in wired.output())
    with Netlink.open(wired.fabric.host) as netlink:
        outer = netlink.link(link.link)
        bridge = netlink.link(network.config.bridge)
    with wired.fabric.host.entered():
        ipv6 = settings.read(f"ipv6/conf/{link.link}/disable_ipv6")
    launch.kill()
    launch.wait(timeout_s=20)

    said = wired.output()
    assert "inet 10.9.1.2/24 scope global eth0" in said
    assert "default via 10.9.1.1 dev eth0" in said
    assert "02:42:00:00:00:07" in said
    assert "mtu 1400" in said
    assert "inet 127.0.0.1/8" not in said  # this plan has no loopback_up
    assert (outer.master, outer.mtu, outer.is_up) == (bridge.index, 1400, True)
    assert ipv6 == "1"


def test_a_restart_makes_the_links_again(wired: Wired) -> None:
    network = wired.fabric.network()

    record, said = wired.outcome(
        f"{PING.format('10.9.1.1')}; exit 1",
        wired.plumbing(network),
        settings=(op("restart", 1, 2),),
    )

    assert (record.restarts, record.exit_code) == (2, 1)
    assert said == "answered\n" * 3


def test_a_restart_finds_a_bridge_that_was_made_again(wired: Wired) -> None:
    network = wired.fabric.network()
    launch = wired.start(
        f"trap 'exit 1' USR1; {PING.format('10.9.1.1')};"
        "test -e /again || { touch /again; sleep 60 & wait; }",
        wired.plumbing(network),
        settings=(op("restart", 1, 1),),
    )
    launch.wait_started(timeout_s=20)
    wait_for(lambda: "answered" in wired.output())

    with Netlink.open(wired.fabric.host) as netlink:
        netlink.remove(network.config.bridge)
    network.ensure()
    launch.signal(signal.SIGUSR1)
    record = launch.wait(timeout_s=30)

    assert (record.status, record.restarts) == ("exited", 1)
    assert wired.output() == "answered\n" * 2


def test_a_link_of_an_earlier_run_that_is_still_there_is_replaced(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network)
    with Netlink.open(wired.fabric.host) as netlink:
        netlink.add_veth(link.link, peer="other", peer_namespace=wired.fabric.host)

    _, said = wired.outcome(PING.format("10.9.1.1"), link)

    assert said == "answered\n"


@requires.user_namespaces
def test_in_a_user_namespace(wired: Wired) -> None:
    network = wired.fabric.network(ipv6=True)

    record, said = wired.outcome(
        f"{PING.format('10.9.1.1')}; {PING.format('fd00:1::1')}; id -u",
        wired.plumbing(network),
        settings=IDS,
        namespaces=ALL | NEWUSER,
        root=wired.box.root(plan.OVERLAY_IDMAPPED | plan.OVERLAY_VOLATILE),
    )

    assert verdict_of(record)[0] == "ok", (said, record)
    assert said == "answered\nanswered\n0\n"


def test_two_networks_are_two_links(wired: Wired) -> None:
    first, second = wired.fabric.network(), wired.fabric.network()

    _, said = wired.outcome(
        f"{PING.format('10.9.1.1')}; {PING.format('10.9.2.1')}; ip route",
        wired.plumbing(first),
        wired.plumbing(second, name="eth1"),
    )

    assert said.count("answered") == 2
    assert "10.9.2.0/24 dev eth1" in said


def test_without_ipv6_the_link_has_no_address_of_it(wired: Wired) -> None:
    network = wired.fabric.network()

    _, said = wired.outcome(
        "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 /proc/sys/net/ipv6/conf/eth0/accept_ra;"
        "ip -6 address show eth0",
        wired.plumbing(network),
    )

    assert said == "1\n0\n"


def test_kernel_settings_of_the_links_come_after_them(wired: Wired) -> None:
    network = wired.fabric.network()

    _, said = wired.outcome(
        "cat /proc/sys/net/ipv4/conf/eth0/arp_ignore",
        wired.plumbing(network),
        before=(op("sysctl", "net.ipv4.conf.eth0.arp_ignore", "2"),),
    )

    assert said == "2\n"


def failure(wired: Wired, *links: Plumbing, **options: Any) -> LaunchFailed:
    launch = wired.start("true", *links, **options)
    with pytest.raises(LaunchFailed) as caught:
        launch.wait_started(timeout_s=20)
    launch.wait(timeout_s=20)
    launch.close()
    launch.wait_gone()
    return caught.value


def test_a_bridge_that_is_gone_is_said_so_and_nothing_is_left(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network)
    network.remove()

    error = failure(wired, link)

    assert str(error) == "cannot make the network link br1: no such device (ioctl)"
    assert gone_soon(wired, link.link)


def test_a_gateway_out_of_reach_is_said_so_and_nothing_is_left(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network, routes=(Route(destination="default", gateway="10.1.1.1"),))

    error = failure(wired, link)

    said = "cannot set up the network link eth0: network is unreachable (RTM_NEWROUTE)"
    assert str(error) == said
    assert gone_soon(wired, link.link)


def test_endpoints_need_a_network_of_their_own(wired: Wired) -> None:
    network = wired.fabric.network()

    error = failure(wired, wired.plumbing(network), namespaces=ALL & ~NEWNET)

    assert "no network of its own" in str(error)


def test_a_failure_before_the_network_is_the_one_that_is_told(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network)

    error = failure(wired, link, root=op("root_bind", "/not/there", 0))

    assert "/not/there" in str(error)
    assert gone_soon(wired, link.link)


@pytest.mark.parametrize("row", ["make", "plumb", "settle"])
def test_messages_that_are_none_are_refused(wired: Wired, row: str) -> None:
    network = wired.fabric.network()
    good = wired.plumbing(network)
    data = getattr(good, row)
    long = (1028).to_bytes(4, "little") + data[4:] + bytes(1024)
    no_ack = data[:6] + bytes(2) + data[8:]

    for wrong in (data[:-4], data + bytes(4), long, no_ack, bytes(16)):
        error = failure(wired, replace(good, **{row: wrong}))
        assert error.step == "endpoint", wrong


def test_a_monitor_that_is_killed_at_any_moment_leaves_no_link(wired: Wired) -> None:
    network = wired.fabric.network()
    dice = random.Random(5)
    links = [wired.plumbing(network) for _ in range(30)]

    for link in links:
        launch = wired.start("exec sleep 60", link)
        time.sleep(dice.random() * 0.012)
        os.kill(launch.monitor_pid, signal.SIGKILL)
        launch.close()
        launch.wait_gone()

    assert all(gone_soon(wired, link.link) for link in links)


def test_a_launcher_that_goes_before_the_start_takes_the_link_with_it(wired: Wired) -> None:
    network = wired.fabric.network()
    dice = random.Random(6)
    links = [wired.plumbing(network) for _ in range(10)]

    for link in links:
        launch = wired.start("exec sleep 60", link)
        time.sleep(dice.random() * 0.012)
        launch.close()
        launch.wait_gone()

    assert all(gone_soon(wired, link.link) for link in links)


def test_what_is_reserved_stays_open_over_restarts_and_is_not_the_container_s(
    wired: Wired, stack: ExitStack
) -> None:
    network = wired.fabric.network()
    with wired.fabric.host.entered():
        held = [stack.enter_context(socket.socket()) for _ in range(300)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]

    launch = wired.start(
        "ls /proc/self/fd | wc -l; test -e /go || { touch /go; exit 1; }; exec sleep 60",
        wired.plumbing(network),
        settings=(op("restart", 1, 1),),
        fds=tuple(each.fileno() for each in held),
    )
    launch.wait_started(timeout_s=20)
    for each in held:
        each.close()
    wait_for(lambda: wired.output().count("\n") == 2)

    # 0 to 2, and the folder that is looked at.
    assert wired.output() == "4\n4\n"
    assert [port for port in (ports[0], ports[-1]) if is_free(wired.fabric.host, port)] == []
    launch.kill()
    launch.wait(timeout_s=20)
    launch.close()
    launch.wait_gone()
    assert is_free(wired.fabric.host, ports[0])
    assert is_free(wired.fabric.host, ports[-1])


@pytest.mark.parametrize("settings", [(), IDS], ids=["", "user-namespace"])
def test_a_running_container_is_connected(wired: Wired, settings: tuple[Op, ...]) -> None:
    first, second = wired.fabric.network(), wired.fabric.network(ipv6=True)
    options: dict[str, Any] = {}
    if settings:
        options = {
            "namespaces": ALL | NEWUSER,
            "root": wired.box.root(plan.OVERLAY_IDMAPPED | plan.OVERLAY_VOLATILE),
        }
    launch = wired.start(
        "until ip link show eth1 2>/dev/null | grep -q ,UP; do usleep 1000; done;"
        f"{PING.format('10.9.2.1')}; {PING.format('fd00:2::1')}; ip route",
        wired.plumbing(first),
        settings=settings,
        **options,
    )
    started = launch.wait_started(timeout_s=20)

    with wired.fabric.host.entered():
        connect_endpoint(started.pid, started.start_time, wired.plumbing(second, name="eth1"))
    launch.wait(timeout_s=20)

    said = wired.output()
    assert said.count("answered") == 2
    assert "10.9.2.0/24 dev eth1" in said


def test_what_cannot_be_connected_is_said_so_and_nothing_is_left(wired: Wired) -> None:
    network = wired.fabric.network()
    launch = wired.start("exec sleep 60", wired.plumbing(network))
    started = launch.wait_started(timeout_s=20)
    far = wired.plumbing(
        network, name="eth1", routes=(Route(destination="default", gateway="10.1.1.1"),)
    )
    same = wired.plumbing(network, name="eth0")
    good = wired.plumbing(network, name="eth1")
    no_bridge = replace(good, bridge="nobody")

    with wired.fabric.host.entered():
        before = wired.links()
        for link, number in ((far, errno.ENETUNREACH), (same, errno.EEXIST)):
            with pytest.raises(LaunchFailed) as caught:
                connect_endpoint(started.pid, started.start_time, link)
            assert caught.value.errno == number
        with pytest.raises(LaunchFailed, match="cannot make the network link"):
            connect_endpoint(started.pid, started.start_time, no_bridge)
        with pytest.raises(LaunchFailed) as caught:
            connect_endpoint(started.pid, started.start_time + 1, good)
        assert caught.value.errno == errno.ESRCH
        assert wired.links() == before
        connect_endpoint(started.pid, started.start_time, good)
        assert wired.links() == before | {good.link}


def test_the_network_of_the_host_is_given_no_link(wired: Wired) -> None:
    network = wired.fabric.network()
    link = wired.plumbing(network)
    own = identity.start_time(os.getpid())
    assert own is not None

    with pytest.raises(LaunchFailed, match="it has the host's network"):
        connect_endpoint(os.getpid(), own, link)


def test_a_restart_makes_the_links_that_the_monitor_was_told_of(wired: Wired) -> None:
    first, second = wired.fabric.network(), wired.fabric.network()
    launch = wired.start(
        "trap 'exit 0' USR1; ls /sys/class/net | tr '\\n' ' '; echo;"
        "test -e /again || { touch /again; sleep 60 & wait; }",
        wired.plumbing(first),
        settings=(op("restart", 2, 2),),
        mounts=(*MOUNTS, SYS),
    )
    launch.wait_started(timeout_s=20)
    links = (wired.plumbing(first, name="one"), wired.plumbing(second, name="two"))

    with client.connect(str(wired.box.folder)) as control:
        set_endpoints(control, links[:1])
        set_endpoints(control, links)
        wait_for(lambda: "\n" in wired.output())
        control.signal(signal.SIGUSR1)
        record = control.wait()

    assert record.restarts == 2
    assert wired.output().splitlines()[1:] == ["lo one two "] * 2


def test_the_monitor_is_told_of_links_alone(wired: Wired) -> None:
    network = wired.fabric.network()
    launch = wired.start("exec sleep 60", wired.plumbing(network))
    launch.wait_started(timeout_s=20)

    with client.connect(str(wired.box.folder)) as control:
        for wrong in (b"", b"x" * 4096, plan.encode([op("network")])[:-8]):
            with pytest.raises(UsageError):
                control.endpoints(wrong)
        set_endpoints(control, ())
        assert control.status()["phase"] == "running"


def is_free(host: Namespace, port: int) -> bool:
    with host.entered(), socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
