"""What goes over the wires, as tcpdump sees it, is what netns/README.md says of NAT and ports."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requires
from kit.nethosts import HOST4, OUTSIDE4, TABLE, TIMEOUT_S, Fabric, Server, call

from netns import Namespace, PortMapping, ports

pytestmark = [requires.root, requires.program("nft"), requires.program("tcpdump")]

Serve = Callable[..., Server]
IPV4 = 0x0800
PROTOCOLS = {6: "tcp", 17: "udp"}


class Capture:
    """A file that tcpdump writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def flows(self) -> set[str]:
        """``udp 10.9.1.2 > 192.0.2.1:53``: each direction, with the port that has a service."""
        return {flow for flow in map(flow_of, packets(self.path.read_bytes())) if flow}


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., object]:
    @contextmanager
    def begin(where: Namespace, link: str) -> Iterator[Capture]:
        path = tmp_path / f"{link}.pcap"
        argv = ["tcpdump", "-Z", "root", "-U", "-n", "-i", link, "-w", str(path), "tcp or udp"]
        with where.entered():
            process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        try:
            assert process.stderr is not None
            assert b"listening on" in b"".join(iter_until(process.stderr, b"listening on"))
            yield Capture(path)
            wait_for_quiet(path)
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)

    return begin


def iter_until(stream: object, word: bytes) -> Iterator[bytes]:
    for line in stream:  # type: ignore[attr-defined]
        yield line
        if word in line:
            return


def wait_for_quiet(path: Path) -> None:
    """tcpdump has a block of packets from the kernel every now and then."""
    deadline = time.monotonic() + TIMEOUT_S
    size = -1
    while time.monotonic() < deadline and (size != path.stat().st_size or size <= 24):
        size = path.stat().st_size
        time.sleep(1.1)


def packets(data: bytes) -> Iterator[bytes]:
    """The Ethernet frames of a capture file."""
    assert struct.unpack_from("=I", data)[0] == 0xA1B2C3D4
    at = 24
    while at + 16 <= len(data):
        _, _, kept, _ = struct.unpack_from("=IIII", data, at)
        yield data[at + 16 : at + 16 + kept]
        at += 16 + kept


def flow_of(frame: bytes) -> str:
    if struct.unpack_from("!H", frame, 12)[0] != IPV4:
        return ""
    header = frame[14:]
    source, target = (".".join(map(str, header[at : at + 4])) for at in (12, 16))
    ends = struct.unpack_from("!HH", header, (header[0] & 15) * 4)
    # Of the two ports the one that the kernel did not pick.
    shown = [f":{port}" if port < 10000 else "" for port in ends]
    return f"{PROTOCOLS[header[9]]} {source}{shown[0]} > {target}{shown[1]}"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_leaves_a_network_has_the_hosts_address_on_the_wire(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    capture: Callable[..., object],
    protocol: str,
) -> None:
    inside = fabric.container(fabric.network())
    server = serve(outside, OUTSIDE4, 80, protocol)

    with capture(fabric.host, "br1") as bridge, capture(outside, "wire") as wire:
        call(inside, server, OUTSIDE4, 80, protocol)

    assert bridge.flows() == {
        f"{protocol} 10.9.1.2 > {OUTSIDE4}:80",
        f"{protocol} {OUTSIDE4}:80 > 10.9.1.2",
    }
    assert wire.flows() == {
        f"{protocol} {HOST4} > {OUTSIDE4}:80",
        f"{protocol} {OUTSIDE4}:80 > {HOST4}",
    }


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_another_on_the_bridge_and_the_client_the_same(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    capture: Callable[..., object],
    protocol: str,
) -> None:
    inside = fabric.container(fabric.network())
    asked = PortMapping(host_port=8080, protocol=protocol, address="10.9.1.2", port=80)
    ports.publish(TABLE, (asked,), namespace=fabric.host)
    server = serve(inside, "10.9.1.2", 80, protocol)

    with capture(fabric.host, "br1") as bridge, capture(outside, "wire") as wire:
        call(outside, server, HOST4, 8080, protocol)

    assert wire.flows() == {
        f"{protocol} {OUTSIDE4} > {HOST4}:8080",
        f"{protocol} {HOST4}:8080 > {OUTSIDE4}",
    }
    assert bridge.flows() == {
        f"{protocol} {OUTSIDE4} > 10.9.1.2:80",
        f"{protocol} 10.9.1.2:80 > {OUTSIDE4}",
    }


def test_loopback_and_neighbours_come_as_the_host(
    fabric: Fabric, outside: Namespace, serve: Serve, capture: Callable[..., object]
) -> None:
    network = fabric.network()
    inside, neighbour = fabric.container(network), fabric.container(network)
    ports.publish(
        TABLE, (PortMapping(host_port=8080, address="10.9.1.2", port=80),), namespace=fabric.host
    )
    server = serve(inside, "10.9.1.2", 80)

    with capture(inside, "eth0") as seen, capture(outside, "wire") as wire:
        call(fabric.host, server, "127.0.0.1", 8080)
        call(neighbour, server, HOST4, 8080)
        call(outside, server, HOST4, 8080)  # so that there is something on the wire

    assert seen.flows() == {
        "tcp 10.9.1.1 > 10.9.1.2:80",
        "tcp 10.9.1.2:80 > 10.9.1.1",
        f"tcp {OUTSIDE4} > 10.9.1.2:80",
        f"tcp 10.9.1.2:80 > {OUTSIDE4}",
    }
    # Nothing of a private network, nor of loopback, was ever on the wire.
    assert wire.flows() == {
        f"tcp {OUTSIDE4} > {HOST4}:8080",
        f"tcp {HOST4}:8080 > {OUTSIDE4}",
    }
