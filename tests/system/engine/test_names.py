"""Containers find each other by name, and the world by the host's nameservers."""

from __future__ import annotations

import os

import requires
from kit.dnshosts import answering, upstream
from kit.enginehosts import Wired, becomes

from netns import Netlink, resolvconf

pytestmark = [requires.root, requires.overlay, requires.program("nft")]

SERVE = "mkdir /www; echo i am $0 >/www/index.html; exec httpd -f -c /dev/null -p 80 -h /www"


def serving(wired: Wired, network: str, name: str, *options: str) -> str:
    wired.said(
        *("run", "-d", "--name", name, "--network", network, *options),
        *("busybox", "sh", "-c", SERVE, name),
    )
    listens = ["exec", name, "wget", "-q", "-O", "-", "http://127.0.0.1/"]
    assert becomes(lambda: wired.run(*listens).returncode == 0)
    return wired.address(name, network)


def fetched(wired: Wired, network: str, host: str, *options: str) -> str:
    done = wired.run(
        *("run", "--rm", "--network", network, *options, "busybox"),
        *("wget", "-q", "-O", "-", f"http://{host}/"),
    )
    return done.stdout.decode().strip() or done.stderr.decode().strip()


def file_of(wired: Wired, name: str, path: str) -> list[str]:
    return wired.said("exec", name, "cat", path).splitlines()


def test_containers_of_a_network_find_each_other_by_name_and_alias(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    serving(wired, "mynet", "web", "--network-alias", "shop")

    for name in ("web", "shop", "WEB", "web.mynet"):
        assert fetched(wired, "mynet", name) == "i am web", name
    wired.said("network", "create", "other")
    assert "bad address" in fetched(wired, "other", "web")


def test_a_name_goes_when_its_container_stops_and_comes_back_with_it(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    serving(wired, "mynet", "web")
    client = wired.said("run", "-d", "--network", "mynet", "busybox", "sleep", "1000")
    asking = ("exec", client, "wget", "-q", "-O", "-", "http://web/")

    assert wired.said(*asking) == "i am web"
    wired.said("stop", "-t", "0", "web")
    assert "bad address" in wired.refused(*asking)
    wired.said("start", "web")
    assert becomes(lambda: wired.run(*asking).stdout == b"i am web\n")
    wired.said("rm", "-f", "web")
    assert "bad address" in wired.refused(*asking)


def test_containers_with_one_alias_share_it(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    for number in range(2):
        serving(wired, "mynet", f"web{number}", "--network-alias", "web")
    client = wired.said("run", "-d", "--network", "mynet", "busybox", "sleep", "1000")

    command = "for n in $(seq 20); do wget -q -O - http://web/; done"
    found = set(wired.said("exec", client, "sh", "-c", command).splitlines())

    assert found == {"i am web0", "i am web1"}


def test_the_files_of_a_container_on_a_users_network(wired: Wired) -> None:
    wired.said("network", "create", "--subnet", "10.77.0.0/24", "mynet")
    wired.said(
        *("run", "-d", "--name", "box", "--network", "mynet", "--hostname", "one"),
        *("--add-host", "host.docker.internal:host-gateway", "busybox", "sleep", "1000"),
    )

    hosts = file_of(wired, "box", "/etc/hosts")
    resolv = file_of(wired, "box", "/etc/resolv.conf")

    assert hosts[-2:] == ["10.77.0.1\thost.docker.internal", "10.77.0.2\tone"]
    assert resolv[0] == "nameserver 10.77.0.1"
    assert "ndots:0" in resolv[-1]
    assert wired.said("exec", "box", "hostname", "-i") == "10.77.0.2"


def test_what_is_asked_for_by_dns_options_is_what_a_container_has(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    for network in ("mynet", "bridge"):
        found = wired.said(
            *("run", "--rm", "--network", network, "--dns", "192.0.2.53"),
            *("--dns-search", "lan.example", "--dns-option", "ndots:3"),
            *("busybox", "cat", "/etc/resolv.conf"),
        )
        assert found.splitlines() == [
            "nameserver 192.0.2.53",
            "search lan.example",
            "options ndots:3",
        ]


def test_named_containers_of_the_default_network_find_each_other_by_hosts(wired: Wired) -> None:
    serving(wired, "bridge", "web")
    without = wired.said("run", "-d", "--network", "bridge", "busybox", "sleep", "1000")
    serving(wired, "bridge", "db")

    assert wired.said("exec", without, "wget", "-q", "-O", "-", "http://web/") == "i am web"
    assert wired.said("exec", without, "wget", "-q", "-O", "-", "http://db/") == "i am db"
    assert wired.said("exec", "web", "wget", "-q", "-O", "-", "http://db/") == "i am db"
    wired.said("rm", "-f", "db")
    assert not any("\tdb" in line for line in file_of(wired, without, "/etc/hosts"))
    assert not any("\tdb" in line for line in file_of(wired, "web", "/etc/hosts"))
    wired.said("restart", "-t", "0", "web")
    lines = [line for line in file_of(wired, without, "/etc/hosts") if line.endswith("\tweb")]
    assert len(lines) == 1


def test_names_of_the_world_are_asked_of_the_hosts_nameservers(wired: Wired) -> None:
    servers = resolvconf.of_host().nameservers
    if not servers:
        requires.another_host("it has no nameserver")
    server = servers[0]
    if not resolvconf.is_loopback(server):
        with Netlink.open(wired.host) as netlink:
            netlink.add_address("lo", f"{server}/{128 if ':' in server else 32}")
    wired.said("network", "create", "mynet")
    with upstream(wired.host, server, answering("198.51.100.1")) as above:
        for network in ("mynet", "bridge"):
            done = wired.run(
                *("run", "--rm", "--network", network, "busybox", "nslookup", "www.example")
            )
            assert b"198.51.100.1" in done.stdout, network
    assert set(above.asked) == {"www.example."}


def test_an_internal_network_asks_nobody_outside(wired: Wired) -> None:
    wired.said("network", "create", "--internal", "inside")
    serving(wired, "inside", "web")
    with upstream(wired.host, "127.0.0.1", answering("198.51.100.1")) as above:
        assert fetched(wired, "inside", "web") == "i am web"
        assert "bad address" in fetched(wired, "inside", "www.example")
    assert above.asked == []


def test_a_container_on_two_networks_knows_the_names_of_both(wired: Wired) -> None:
    for name in ("one", "two"):
        wired.said("network", "create", name)
        serving(wired, name, f"web-{name}")
    wired.said("create", "--name", "box", "--network", "one", "busybox", "sleep", "1000")
    wired.said("network", "connect", "two", "box")
    wired.said("start", "box")

    for name in ("one", "two"):
        asked = wired.said("exec", "box", "wget", "-q", "-O", "-", f"http://web-{name}/")
        assert asked == f"i am web-{name}"


def test_a_running_container_that_is_connected_is_found_and_finds(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    serving(wired, "mynet", "web")
    serving(wired, "bridge", "box")
    asking = ("exec", "box", "wget", "-q", "-O", "-", "http://web/")
    assert "bad address" in wired.refused(*asking)

    wired.said("network", "connect", "--alias", "other", "mynet", "box")

    assert wired.said(*asking) == "i am web"
    assert wired.said("exec", "web", "wget", "-q", "-O", "-", "http://other/") == "i am box"
    wired.said("network", "disconnect", "mynet", "box")
    assert "bad address" in wired.refused(*asking)
    assert "bad address" in wired.refused("exec", "web", "wget", "-q", "-O", "-", "http://other/")


def test_who_shares_a_containers_network_shares_its_names(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    serving(wired, "mynet", "web")
    serving(wired, "mynet", "box", "--add-host", "db:192.0.2.7")

    beside = ("run", "--rm", "--network", "container:box", "busybox")

    assert wired.said(*beside, "wget", "-q", "-O", "-", "http://web/") == "i am web"
    assert wired.said(*beside, "wget", "-q", "-O", "-", "http://box/") == "i am box"
    assert "192.0.2.7\tdb" in wired.said(*beside, "cat", "/etc/hosts")


def test_a_network_that_is_removed_takes_its_resolver_along(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    wired.said("run", "--rm", "--network", "mynet", "busybox", "true")
    network_id = wired.inspected("network", "inspect", "mynet")["Id"]
    lock = wired.store.run / "networks" / network_id / "resolver"
    pid = int(lock.read_text())
    assert os.path.exists(f"/proc/{pid}")

    wired.said("network", "rm", "mynet")

    assert becomes(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not lock.parent.exists()


def test_the_port_of_the_resolver_taken_by_another_is_said(wired: Wired) -> None:
    wired.said("network", "create", "mynet")
    with upstream(wired.host, "0.0.0.0", answering("198.51.100.1")):
        said = wired.refused("run", "--rm", "--network", "mynet", "busybox", "true")

    assert ":53/udp is in use" in said
    assert wired.leases() == []
    wired.said("run", "--rm", "--network", "mynet", "busybox", "true")
