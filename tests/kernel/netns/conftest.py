"""Hosts of the test's own: network namespaces, and sockets in them.

``host`` is where bridges and rules are, ``outside`` a second host on a wire of its own, and a
container is a further namespace.  Nothing here touches the network of the machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from kit.nethosts import HOST4, HOST6, OUTSIDE4, OUTSIDE6, TIMEOUT_S, Fabric, Server, family_of

from netns import Namespace, Netlink, settings


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def new(stack: ExitStack) -> Callable[[], Namespace]:
    """Make a namespace that is gone after the test; loopback is up in it."""

    def make() -> Namespace:
        made = stack.enter_context(Namespace.create())
        with made.entered():
            settings.write("ipv6/conf/default/accept_dad", "0")
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
        one.link("wire")  # see netns.veth: the link watch
    return made


@pytest.fixture
def fabric(host: Namespace, new: Callable[[], Namespace]) -> Fabric:
    return Fabric(host, new)


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
