"""Published ports, from everywhere that a client may be."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import requires
from kit.nethosts import (
    HOST4,
    HOST6,
    OUTSIDE4,
    OUTSIDE6,
    TABLE,
    TIMEOUT_S,
    Fabric,
    Server,
    call,
    family_of,
    is_silent,
)

import netns
from netns import Namespace, PortMapping, ports, settings

pytestmark = [requires.root, requires.program("nft")]

Serve = Callable[..., Server]


def mapping(**fields: object) -> PortMapping:
    """Port 8080 of the host to port 80 of the first container."""
    return PortMapping(**({"host_port": 8080, "address": "10.9.1.2", "port": 80} | fields))


@pytest.fixture
def publish(fabric: Fabric) -> Callable[..., None]:
    def publish(*mappings: PortMapping) -> None:
        ports.publish(TABLE, mappings, namespace=fabric.host)

    return publish


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_client_outside_is_served_and_its_address_seen(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    publish: Callable[..., None],
    protocol: str,
) -> None:
    inside = fabric.container(fabric.network(ipv6=True))
    publish(
        mapping(protocol=protocol),
        mapping(protocol=protocol, address="fd00:1::2"),
    )
    server4 = serve(inside, "10.9.1.2", 80, protocol)
    server6 = serve(inside, "fd00:1::2", 80, protocol)

    assert call(outside, server4, HOST4, 8080, protocol) == OUTSIDE4
    assert call(outside, server6, HOST6, 8080, protocol) == OUTSIDE6


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["127.0.0.1", HOST4, "10.9.1.1"])
def test_the_host_is_served_by_loopback_and_by_its_addresses(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    publish: Callable[..., None],
    protocol: str,
    address: str,
) -> None:
    inside = fabric.container(fabric.network())
    publish(mapping(protocol=protocol))
    server = serve(inside, "10.9.1.2", 80, protocol)

    call(fabric.host, server, address, 8080, protocol)


def test_the_host_is_served_by_ipv6_and_refused_by_its_loopback(
    fabric: Fabric, outside: Namespace, serve: Serve, publish: Callable[..., None]
) -> None:
    inside = fabric.container(fabric.network(ipv6=True))
    server = serve(inside, "fd00:1::2", 80)

    with ports.reserve((mapping(address="fd00:1::2"),), namespace=fabric.host) as reserved:
        publish(*reserved.mappings)

        call(fabric.host, server, HOST6, 8080)
        with pytest.raises(ConnectionRefusedError):
            call(fabric.host, server, "::1", 8080)


@pytest.mark.parametrize("filtered", ["0", "1"], ids=["plain", "br_netfilter"])
def test_containers_are_served_whatever_their_network(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    publish: Callable[..., None],
    filtered: str,
) -> None:
    with fabric.host.entered():
        settings.write("bridge/bridge-nf-call-iptables", filtered, optional=True)
    network = fabric.network()
    inside = fabric.container(network, hairpin=True)
    neighbour = fabric.container(network)
    stranger = fabric.container(fabric.network())
    publish(mapping())
    server = serve(inside, "10.9.1.2", 80)

    assert call(stranger, server, HOST4, 8080) == "10.9.2.4"
    call(neighbour, server, HOST4, 8080)
    call(inside, server, HOST4, 8080)
    call(neighbour, server, "10.9.1.1", 8080)


def test_an_internal_network_is_not_served(
    fabric: Fabric, outside: Namespace, serve: Serve, publish: Callable[..., None]
) -> None:
    inside = fabric.container(fabric.network())
    shut = fabric.container(fabric.network(internal=True))
    with netns.Netlink.open(shut) as netlink:
        route = netns.Route(destination="default", gateway="10.9.2.1", link="eth0")
        netlink.add_route(route)
    publish(mapping())
    serve(inside, "10.9.1.2", 80)

    assert is_silent(shut, HOST4, 8080)


def test_a_port_of_one_address_is_published_there_alone(
    fabric: Fabric, outside: Namespace, serve: Serve, publish: Callable[..., None]
) -> None:
    inside = fabric.container(fabric.network())
    publish(mapping(host_address="127.0.0.1"))
    server = serve(inside, "10.9.1.2", 80)

    call(fabric.host, server, "127.0.0.1", 8080)
    with pytest.raises(ConnectionRefusedError):
        call(outside, server, HOST4, 8080)


@pytest.mark.parametrize(
    ("subnet", "address"), [("10.9.1", HOST4), ("fd00:1:", HOST6)], ids=["ipv4", "ipv6"]
)
def test_a_client_that_sends_on_and_on_is_served_by_who_is_there(
    fabric: Fabric,
    outside: Namespace,
    serve: Serve,
    publish: Callable[..., None],
    subnet: str,
    address: str,
) -> None:
    """A tracked UDP flow went on to where the port led before."""
    network = fabric.network(ipv6=True)
    dot = ":" if ":" in subnet else "."
    first, second = f"{subnet}{dot}2", f"{subnet}{dot}3"
    servers = [serve(fabric.container(network), ip, 80, "udp") for ip in (first, second)]
    with outside.entered():
        client = socket.socket(family_of(address), socket.SOCK_DGRAM)
    with client:
        client.settimeout(TIMEOUT_S)
        client.connect((address, 8080))

        client.send(b"to nobody")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        for server, container in zip(servers, (first, second), strict=True):
            asked = mapping(protocol="udp", address=container)
            publish(asked)
            client.send(b"to a container")
            server.answer()
            assert client.recv(100)
            ports.withdraw(TABLE, (asked,), namespace=fabric.host)


def test_a_port_that_is_published_names_its_owner(
    fabric: Fabric, publish: Callable[..., None]
) -> None:
    fabric.network()
    publish(mapping(owner="web"), mapping(host_port=8081, owner="web"))

    with pytest.raises(netns.PortTaken, match=r"port 0\.0\.0\.0:8081/tcp is in use by web"):
        publish(mapping(host_port=9000), mapping(host_port=8081, address="10.9.1.3"))
    # All or none.
    assert {m.host_port for m in ports.published(TABLE, namespace=fabric.host)} == {8080, 8081}


def test_published_ports_are_read_back(fabric: Fabric, publish: Callable[..., None]) -> None:
    fabric.network()
    asked = {
        mapping(owner="a"),
        mapping(host_address=HOST4, protocol="udp"),
        mapping(host_address=HOST6, address="fd00::2"),
        mapping(protocol="sctp", address="fd00::2", owner="b"),
    }
    publish(*asked)

    assert set(ports.published(TABLE, namespace=fabric.host)) == asked


def test_withdrawn_ports_are_gone_and_others_stay(
    fabric: Fabric, publish: Callable[..., None]
) -> None:
    fabric.network()
    publish(mapping(), mapping(host_port=8081))
    others = mapping(host_port=8081, address="10.9.1.9")

    for _ in range(2):
        ports.withdraw(TABLE, (mapping(), others, mapping(host_port=1)), namespace=fabric.host)

    left = ports.published(TABLE, namespace=fabric.host)
    assert left == (mapping(host_port=8081),)


def test_ports_of_a_table_that_is_gone_are_none(host: Namespace) -> None:
    assert ports.published(TABLE, namespace=host) == ()
    ports.withdraw(TABLE, (mapping(),), namespace=host)


def test_a_reserved_port_is_kept_from_others_and_still_leads_on(
    fabric: Fabric, outside: Namespace, serve: Serve, publish: Callable[..., None]
) -> None:
    inside = fabric.container(fabric.network())
    server = serve(inside, "10.9.1.2", 80)
    with ports.reserve((mapping(),), namespace=fabric.host) as reserved:
        publish(*reserved.mappings)

        with fabric.host.entered(), socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("0.0.0.0", 8080))
        assert call(outside, server, HOST4, 8080) == OUTSIDE4
        call(fabric.host, server, "127.0.0.1", 8080)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_a_program_of_the_host_is_taken(
    host: Namespace, serve: Serve, protocol: str
) -> None:
    serve(host, "0.0.0.0", 8080, protocol)

    with pytest.raises(netns.PortTaken, match="a process of this host"):
        ports.reserve((mapping(protocol=protocol),), namespace=host)


@pytest.mark.parametrize("first", ["", "127.0.0.1"])
@pytest.mark.parametrize("second", ["", "127.0.0.1"])
def test_a_port_that_somebody_published_is_his(
    fabric: Fabric, publish: Callable[..., None], first: str, second: str
) -> None:
    fabric.network()
    asked = (mapping(host_address=first, owner="web"),)
    with ports.reserve(asked, namespace=fabric.host):
        publish(*asked)

        late = (mapping(host_address=second, owner="late"),)
        with pytest.raises(netns.PortTaken, match="8080/tcp is in use by web"):
            ports.reserve(late, table=TABLE, namespace=fabric.host)


def test_reserving_twice_is_refused_and_leaves_nothing_taken(host: Namespace) -> None:
    first = ports.reserve((mapping(),), namespace=host)

    with pytest.raises(netns.PortTaken):
        ports.reserve((mapping(host_port=8081), mapping()), namespace=host)
    first.close()
    ports.reserve((mapping(host_port=8081), mapping()), namespace=host).close()


def test_a_free_port_is_picked(host: Namespace) -> None:
    asked = (mapping(host_port=0), mapping(host_port=0, protocol="udp"))

    with ports.reserve(asked, namespace=host) as reserved:
        assert all(m.host_port for m in reserved.mappings)
        assert reserved.mappings[1].protocol == "udp"


def test_an_address_of_no_link_is_an_error(host: Namespace) -> None:
    with pytest.raises(netns.AddressNotHere, match=r"198\.51\.100\.1"):
        ports.reserve((mapping(host_address="198.51.100.1"),), namespace=host)
