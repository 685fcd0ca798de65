"""Hosts of the test's own: network namespaces, and sockets in them.

``host`` is where bridges and rules are, ``outside`` a second host on a wire of its own, and a
container is a further namespace.  Nothing here touches the network of the machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from netns import Endpoint, Namespace, Netlink, Network, NetworkConfig, Subnet, settings

TABLE = "nettest"
TIMEOUT_S = 10.0
HOST4, OUTSIDE4 = "192.0.2.1", "192.0.2.2"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def new(stack: ExitStack) -> Callable[[], Namespace]:
    """Make a namespace that is gone after the test; loopback is up in it."""

    def make() -> Namespace:
        made = stack.enter_context(Namespace.create())
        with Netlink.open(made) as netlink:
            netlink.change("lo", up=True)
        return made

    return make


@pytest.fixture
def host(new: Callable[[], Namespace]) -> Namespace:
    """A host with strict reverse path filtering."""
    made = new()
    with made.entered():
        for name in ("all", "default"):
            settings.write(f"ipv4/conf/{name}/rp_filter", "1")
    return made


@pytest.fixture
def outside(host: Namespace, new: Callable[[], Namespace]) -> Namespace:
    """A second host on the same wire, which knows no way to the containers."""
    made = new()
    with Netlink.open(host) as one, Netlink.open(made) as two:
        one.add_veth("wire", peer="wire", peer_namespace=made)
        for end, addresses in ((one, (HOST4, HOST6)), (two, (OUTSIDE4, OUTSIDE6))):
            end.add_address("wire", f"{addresses[0]}/24")
            end.add_address("wire", f"{addresses[1]}/64")
            end.change("wire", up=True)
    return made


@dataclass
class Fabric:
    """Networks on the host and containers on them."""

    host: Namespace
    new: Callable[[], Namespace]
    networks: list[Network] = field(default_factory=list)
    containers: int = 0

    def network(self, *, ipv6: bool = False, **options: object) -> Network:
        number = len(self.networks) + 1
        subnets = [Subnet(cidr=f"10.9.{number}.0/24", gateway=f"10.9.{number}.1")]
        if ipv6:
            subnets.append(Subnet(cidr=f"fd00:{number}::/64", gateway=f"fd00:{number}::1"))
        config = NetworkConfig(bridge=f"br{number}", table=TABLE, subnets=tuple(subnets), **options)
        made = Network(config, host=self.host)
        made.ensure()
        self.networks.append(made)
        return made

    def container(self, network: Network, **options: object) -> Namespace:
        self.containers += 1
        made = self.new()
        last = self.containers + 1
        addresses = tuple(
            f"{s.gateway[:-1]}{last}/{s.cidr.partition('/')[2]}" for s in network.config.subnets
        )
        options = {"link": f"ve{self.containers}", "addresses": addresses} | options
        network.attach(Endpoint(**options), made)
        return made


@pytest.fixture
def fabric(host: Namespace, new: Callable[[], Namespace]) -> Fabric:
    return Fabric(host, new)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Server:
    """Answers each client with the address that it sees."""

    socket: socket.socket

    def answer(self) -> str:
        if self.socket.type == socket.SOCK_DGRAM:
            _, client = self.socket.recvfrom(100)
            self.socket.sendto(client[0].encode(), client)
            return str(client[0])
        connection, client = self.socket.accept()
        with connection:
            connection.sendall(client[0].encode())
        return str(client[0])


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., Server]:
    """Listen in a namespace: ``serve(namespace, address, port, protocol)``."""

    def listen(where: Namespace, address: str, port: int, protocol: str = "tcp") -> Server:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with where.entered():
            made = stack.enter_context(socket.socket(family_of(address), kind))
        made.settimeout(TIMEOUT_S)
        made.bind((address, port))
        if protocol == "tcp":
            made.listen()
        return Server(made)

    return listen


def call(
    where: Namespace,
    server: Server,
    address: str,
    port: int,
    protocol: str = "tcp",
    *,
    source: str = "",
) -> str:
    """Call an address from a namespace; the answer is whom the server takes the client for."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with where.entered():
        client = socket.socket(family_of(address), kind)
    with client:
        client.settimeout(TIMEOUT_S)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
        if protocol == "udp":
            client.send(b"?")
        server.answer()
        return client.recv(100).decode()


def is_silent(where: Namespace, address: str, port: int, *, wait_s: float = 0.4) -> bool:
    """Whether nothing comes back at all: what a dropped packet looks like."""
    with where.entered():
        client = socket.socket(family_of(address), socket.SOCK_STREAM)
    with client:
        client.settimeout(wait_s)
        try:
            client.connect((address, port))
        except TimeoutError:
            return True
        except OSError as error:
            return error.errno in {101, 113}  # no route
    return False
