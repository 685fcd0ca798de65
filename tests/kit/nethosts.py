"""Networks of namespaces: what tests of ``netns`` have on their hosts.

``conftest`` beside those tests makes the hosts; here are networks and containers on them, a server
that says whom it sees, and clients.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from netns import Endpoint, Namespace, Network, NetworkConfig, Subnet

TABLE = "nettest"
TIMEOUT_S = 10.0
HOST4, OUTSIDE4 = "192.0.2.1", "192.0.2.2"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"


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
