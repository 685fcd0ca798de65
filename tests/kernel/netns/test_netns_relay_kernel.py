"""The relay, between hosts of the test's own, where no rule sends anything on."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requires
from kit.nethosts import HOST4, HOST6, TIMEOUT_S, Fabric, Server, call, family_of

from netns import Namespace, PortMapping, ports, relay

pytestmark = [requires.root, requires.program("nft")]

Serve = Callable[..., Server]
Relayed = Callable[..., int]


@pytest.fixture
def inside(fabric: Fabric) -> Namespace:
    return fabric.container(fabric.network(ipv6=True))


@pytest.fixture
def relayed(fabric: Fabric) -> Iterator[Relayed]:
    """Relay port 80 of the first container from a port of the host; answers with the relay's pid.

    All relays end with the fixture, by the end of the pipe that they watch.
    """
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    pids = []

    def begin(**fields: object) -> int:
        wanted = {"host_port": 8080, "address": "10.9.1.2", "port": 80} | fields
        reserved = ports.reserve((PortMapping(**wanted),), namespace=fabric.host)
        with reserved, fabric.host.entered():
            started = relay.start(reserved.mappings, reserved.sockets, theirs)
        pids.append(started.pid)
        return started.pid

    yield begin
    os.close(ours)
    os.close(theirs)
    for pid in pids:
        ended = os.pidfd_open(pid)
        assert select.select([ended], [], [], TIMEOUT_S)[0]
        os.close(ended)
        assert os.waitpid(pid, 0)[1] == 0


def connected(where: Namespace, address: str, port: int = 8080) -> socket.socket:
    with where.entered():
        made = socket.socket(family_of(address), socket.SOCK_STREAM)
    made.settimeout(TIMEOUT_S)
    made.connect((address, port))
    return made


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_clients_are_served_from_everywhere_and_seen_as_the_host(
    fabric: Fabric,
    outside: Namespace,
    inside: Namespace,
    serve: Serve,
    relayed: Relayed,
    protocol: str,
) -> None:
    relayed(protocol=protocol)
    server = serve(inside, "10.9.1.2", 80, protocol)

    assert call(outside, server, HOST4, 8080, protocol) == "10.9.1.1"
    assert call(fabric.host, server, "127.0.0.1", 8080, protocol) == "10.9.1.1"
    assert call(fabric.host, server, HOST4, 8080, protocol) == "10.9.1.1"
    stranger = fabric.container(fabric.network())
    assert call(stranger, server, HOST4, 8080, protocol) == "10.9.1.1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_ipv6_leads_to_ipv6_and_to_ipv4(
    fabric: Fabric,
    outside: Namespace,
    inside: Namespace,
    serve: Serve,
    relayed: Relayed,
    protocol: str,
) -> None:
    relayed(protocol=protocol, address="fd00:1::2")
    relayed(protocol=protocol, host_address="::1", host_port=8081)
    server6 = serve(inside, "fd00:1::2", 80, protocol)
    server4 = serve(inside, "10.9.1.2", 80, protocol)

    assert call(outside, server6, HOST6, 8080, protocol) == "fd00:1::1"
    assert call(fabric.host, server6, "::1", 8080, protocol) == "fd00:1::1"
    assert call(fabric.host, server4, "::1", 8081, protocol) == "10.9.1.1"


def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    relayed()
    server = serve(inside, "10.9.1.2", 80).socket
    with connected(outside, HOST4) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(TIMEOUT_S)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert accepted.recv(100) == b"question"
            assert accepted.recv(100) == b""

            accepted.sendall(b"answer")
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""


def test_a_reset_is_passed_on(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    relayed()
    server = serve(inside, "10.9.1.2", 80).socket
    with connected(outside, HOST4) as client:
        client.sendall(b"x")
        accepted, _ = server.accept()
        accepted.settimeout(TIMEOUT_S)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()

        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_port_where_nobody_listens_ends_the_connection(
    outside: Namespace, inside: Namespace, relayed: Relayed
) -> None:
    relayed()

    with outside.entered():
        client = socket.socket()
    client.settimeout(TIMEOUT_S)
    with client:
        # The reset may come as early as the connection.
        said = client.connect_ex((HOST4, 8080)) or read_error(client)

    assert said == errno.ECONNRESET


def test_megabytes_arrive_whole_in_both_directions(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    relayed()
    server = serve(inside, "10.9.1.2", 80).socket
    data = os.urandom(1 << 20) * 24

    def echo() -> None:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(TIMEOUT_S)
            while piece := accepted.recv(1 << 16):
                accepted.sendall(piece)

    def feed() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    with connected(outside, HOST4) as client:
        both = [threading.Thread(target=echo), threading.Thread(target=feed)]
        for each in both:
            each.start()
        came = bytearray()
        while piece := client.recv(1 << 16):
            came += piece
        for each in both:
            each.join()

    assert came == data


def test_who_does_not_read_stops_the_other_side_and_no_memory_is_taken(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    pid = relayed()
    server = serve(inside, "10.9.1.2", 80).socket
    with connected(outside, HOST4) as client:
        accepted, _ = server.accept()
        with accepted:
            client.settimeout(1)
            with pytest.raises(TimeoutError):
                client.sendall(bytes(64 << 20))
            before = cpu_ticks(pid)
            time.sleep(0.3)

            # Nor does it turn in circles.
            assert cpu_ticks(pid) - before <= 2
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                assert int(file.read().split()[1]) * 4096 < 64 << 20


def test_hundreds_of_connections_at_once(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    relayed()
    server = serve(inside, "10.9.1.2", 80).socket
    clients, accepted = [], []
    for _ in range(300):
        # All are open at once; none waits in the server's queue, which is shorter.
        clients.append(connected(outside, HOST4))
        accepted.append(server.accept()[0])
    for number, each in enumerate(clients):
        each.sendall(b"%d" % number)

    # Connections come in any order, and each is one pair.
    said = set()
    for each in accepted:
        each.settimeout(TIMEOUT_S)
        word = each.recv(100)
        said.add(int(word))
        each.sendall(b"to " + word)
    answers = [each.recv(100) for each in clients]

    assert said == set(range(300))
    assert answers == [b"to %d" % number for number in range(300)]
    for each in (*clients, *accepted):
        each.close()


def test_udp_clients_are_told_apart_and_a_large_datagram_is_whole(
    outside: Namespace, inside: Namespace, serve: Serve, relayed: Relayed
) -> None:
    relayed(protocol="udp")
    server = serve(inside, "10.9.1.2", 80, "udp").socket
    clients = []
    for number in range(20):
        with outside.entered():
            clients.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        clients[-1].settimeout(TIMEOUT_S)
        clients[-1].connect((HOST4, 8080))
        clients[-1].send(b"%d" % number)
    heard = [server.recvfrom(100) for _ in clients]
    for word, address in reversed(heard):
        server.sendto(b"to " + word, address)

    assert [each.recv(100) for each in clients] == [b"to %d" % n for n in range(20)]
    large = os.urandom(60000)
    clients[0].send(large)
    assert server.recv(65535) == large
    for each in clients:
        each.close()


def test_the_relay_is_nobody(inside: Namespace, relayed: Relayed) -> None:
    pid = relayed()

    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == 0


def read_error(client: socket.socket) -> int:
    try:
        client.recv(100)
    except OSError as error:
        return error.errno or 0
    return 0


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
