"""Ports as docker's columns show them."""

from __future__ import annotations

import pytest

from sandbox.cli import portview
from sandbox.engine.publishing import Port


def port(number: int, host: str = "", protocol: str = "tcp") -> Port:
    """``host`` as it is shown: 0.0.0.0:8080."""
    address, _, published = host.rpartition(":")
    return Port(
        port=number,
        protocol=protocol,
        host_address=address.strip("[]"),
        host_port=int(published or 0),
        address="10.0.0.2" if host else "",
    )


@pytest.mark.parametrize(
    ("ports", "shown"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(80), port(81), port(82), port(90)], "80-82/tcp, 90/tcp"),
        ([port(80, "0.0.0.0:8080"), port(80, "[::]:8080")],
         "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(80, "0.0.0.0:80"), port(80, "[::]:80"), port(81, "0.0.0.0:81"),
          port(81, "[::]:81")],
         "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"),
        ([port(53, "0.0.0.0:53", "tcp"), port(53, "0.0.0.0:53", "udp")],
         "0.0.0.0:53->53/tcp, 0.0.0.0:53->53/udp"),
        ([port(80, "127.0.0.1:8080"), port(443)], "443/tcp, 127.0.0.1:8080->80/tcp"),
    ],
)  # fmt: skip
def test_the_column_of_ps(ports: list[Port], shown: str) -> None:
    assert portview.column(ports) == shown


def test_the_lines_of_port() -> None:
    ports = [
        port(80, "0.0.0.0:8081"),
        port(80, "[::]:8081"),
        port(81),
        port(443, "127.0.0.1:8443", "udp"),
    ]

    assert portview.lines(ports) == [
        "80/tcp -> 0.0.0.0:8081",
        "80/tcp -> [::]:8081",
        "443/udp -> 127.0.0.1:8443",
    ]
    assert portview.lines(ports, "80") == ["0.0.0.0:8081", "[::]:8081"]
    assert portview.lines(ports, "443/udp") == ["127.0.0.1:8443"]
    assert portview.lines(ports, "443") == portview.lines(ports, "81") == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("80", {(80, "tcp")}),
        ("80/udp", {(80, "udp")}),
        ("80-82/tcp", {(80, "tcp"), (81, "tcp"), (82, "tcp")}),
    ],
)
def test_a_filter(text: str, meant: set[tuple[int, str]]) -> None:
    assert portview.parse_filter(text) == meant


@pytest.mark.parametrize("text", ["", "x", "82-80", "80/foo", "0", "65536"])
def test_no_filter(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|^"):
        portview.parse_filter(text)
