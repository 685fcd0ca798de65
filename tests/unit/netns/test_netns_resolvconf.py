"""Texts of resolv.conf and hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns import InvalidValue, resolvconf
from netns.resolvconf import ResolvConf


def test_a_file_is_read_as_c_libraries_do() -> None:
    text = (
        "# by hand\n; old\nnameserver 192.0.2.1 # the first\nnameserver\t2001:db8::1\n"
        "domain one.example\nsearch two.example three.example\noptions ndots:2\n"
        "options rotate\nsortlist 10.0.0.0\n\n"
    )

    found = resolvconf.parse(text)

    assert found == ResolvConf(
        nameservers=("192.0.2.1", "2001:db8::1"),
        search=("two.example", "three.example"),
        options=("ndots:2", "rotate"),
    )


def test_of_search_and_domain_the_last_one_counts() -> None:
    assert resolvconf.parse("search a b\ndomain c d\n").search == ("c",)


def test_what_is_written_is_read_the_same() -> None:
    one = ResolvConf(nameservers=("10.9.1.1",), search=("example",), options=("ndots:0",))

    assert resolvconf.parse(one.text()) == one
    assert one.text() == "nameserver 10.9.1.1\nsearch example\noptions ndots:0\n"


def test_a_host_without_the_file_has_nothing(tmp_path: Path) -> None:
    assert resolvconf.of_host(str(tmp_path / "none")) == ResolvConf()


def test_what_only_the_host_can_ask_is_left_out() -> None:
    servers = ("127.0.0.53", "::1", "192.0.2.1", "fe80::1%eth0", "0.0.0.0", "2001:db8::1")

    assert resolvconf.reachable(servers) == ("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize("word", ["a b", "a\nb", "", "a#b", "a\tb"])
def test_a_name_cannot_bring_a_line_of_its_own_into_a_hosts_file(word: str) -> None:
    with pytest.raises(InvalidValue):
        resolvconf.hosts_line("10.9.1.2", word)


def test_a_line_of_a_hosts_file() -> None:
    assert resolvconf.hosts_line("10.9.1.2", "web", "shop") == "10.9.1.2\tweb shop\n"
