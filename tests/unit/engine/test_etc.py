"""The texts of the files under /etc that a container is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.engine import etc
from sandbox.engine.etc import Place
from sandbox.engine.options import RunOptions

HOST = "nameserver 127.0.0.53\nnameserver 192.0.2.9\nsearch lan.example\noptions ndots:2 edns0\n"
DEFAULT = Place(addresses=("172.17.0.2",), gateway="172.17.0.1")
USERS = Place(addresses=("10.9.1.2",), gateway="10.9.1.1", resolver="10.9.1.1")


def resolv(
    tmp_path: Path, place: Place, host: str = HOST, **options: tuple[str, ...]
) -> tuple[list[str], bool]:
    (tmp_path / "resolv.conf").write_text(host)
    asked = RunOptions(image="x", **options)  # type: ignore[arg-type]
    text, needs = etc.resolv_text_at(asked, place, host_file=str(tmp_path / "resolv.conf"))
    return text.splitlines(), needs


def test_on_the_default_network_the_hosts_nameservers_are_asked_but_its_own(
    tmp_path: Path,
) -> None:
    assert resolv(tmp_path, DEFAULT) == (
        ["nameserver 192.0.2.9", "search lan.example", "options ndots:2 edns0"],
        False,
    )


@pytest.mark.parametrize("host", ["nameserver 127.0.0.53\n", "nameserver ::1\n", "", "# none\n"])
def test_a_host_that_only_asks_itself_is_asked_by_its_containers(tmp_path: Path, host: str) -> None:
    assert resolv(tmp_path, DEFAULT, host) == (["nameserver 172.17.0.1"], True)


def test_without_ipv6_nobody_is_asked_by_it(tmp_path: Path) -> None:
    host = "nameserver 2001:db8::9\nnameserver 192.0.2.9\n"
    both = Place(addresses=("172.17.0.2", "fd00::2"), gateway="172.17.0.1")

    assert resolv(tmp_path, DEFAULT, host)[0] == ["nameserver 192.0.2.9"]
    assert resolv(tmp_path, both, host)[0] == ["nameserver 2001:db8::9", "nameserver 192.0.2.9"]


def test_on_a_users_network_its_resolver_is_asked_and_short_names_first(tmp_path: Path) -> None:
    assert resolv(tmp_path, USERS) == (
        ["nameserver 10.9.1.1", "search lan.example", "options edns0 ndots:0"],
        False,
    )


def test_what_was_asked_for_comes_first(tmp_path: Path) -> None:
    lines, needs = resolv(
        tmp_path,
        USERS,
        dns=("192.0.2.53",),
        dns_search=("one.example", "two.example"),
        dns_option=("ndots:3",),
    )

    assert lines == ["nameserver 192.0.2.53", "search one.example two.example", "options ndots:3"]
    assert not needs


def test_a_dot_is_no_search_domain_at_all(tmp_path: Path) -> None:
    lines, _ = resolv(tmp_path, USERS, dns_search=(".",))

    assert lines == ["nameserver 10.9.1.1", "options edns0 ndots:0"]


def hosts(place: Place | None, **options: object) -> list[str]:
    asked = RunOptions(image="x", **options)  # type: ignore[arg-type]
    return etc.hosts_text(asked, "box", place).splitlines()


def test_a_container_finds_itself_by_its_address() -> None:
    assert hosts(DEFAULT)[-1] == "172.17.0.2\tbox"
    assert hosts(DEFAULT, domainname="example")[-1] == "172.17.0.2\tbox.example box"
    assert hosts(None)[-1] == "127.0.1.1\tbox"


def test_host_gateway_is_the_gateway_of_the_containers_network() -> None:
    asked = ("host.docker.internal:host-gateway", "db:192.0.2.7")

    assert hosts(USERS, add_host=asked)[6:8] == [
        "10.9.1.1\thost.docker.internal",
        "192.0.2.7\tdb",
    ]
    assert hosts(None, add_host=asked, network="host")[6] == "127.0.0.1\thost.docker.internal"
    assert hosts(None, add_host=asked)[6] == "192.0.2.7\tdb"
