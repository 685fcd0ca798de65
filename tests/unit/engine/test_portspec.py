"""Ports to publish and to expose, in docker's grammar and its words for what is none of it."""

from __future__ import annotations

import pytest

from sandbox.engine.options import (
    PortSpec,
    RunOptions,
    options_document,
    options_from_document,
    parse_options,
)
from sandbox.errors import UsageError


def options(**keywords: object) -> RunOptions:
    return parse_options("busybox", ["true"], keywords)


def spec(port: int, host_port: int = 0, **fields: object) -> PortSpec:
    return PortSpec(**({"port": port, "host_port": host_port} | fields))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [spec(80)]),
        (":80", [spec(80)]),
        ("8080:80", [spec(80, 8080)]),
        ("0:80", [spec(80)]),
        ("8080:80/udp", [spec(80, 8080, protocol="udp")]),
        ("8080:80/UDP", [spec(80, 8080, protocol="udp")]),
        ("8080:80/", [spec(80, 8080)]),
        ("127.0.0.1:8080:80", [spec(80, 8080, host_address="127.0.0.1")]),
        ("127.0.0.1::80", [spec(80, host_address="127.0.0.1")]),
        ("0.0.0.0:8080:80", [spec(80, 8080, host_address="0.0.0.0")]),
        ("[::1]:8080:80", [spec(80, 8080, host_address="::1")]),
        ("::1:8080:80", [spec(80, 8080, host_address="::1")]),
        ("[2001:DB8::0:1]:8080:80", [spec(80, 8080, host_address="2001:db8::1")]),
        ("8080-8081:80-81", [spec(80, 8080), spec(81, 8081)]),
        ("80-81", [spec(80), spec(81)]),
        ("8080-8089:80", [spec(80, 8080, host_end=8089)]),
        ("published=8080,target=80", [spec(80, 8080)]),
        ("published=8080,target=80,protocol=udp,mode=host", [spec(80, 8080, protocol="udp")]),
        ("target=80", [spec(80)]),
    ],
)
def test_a_port_to_publish(text: str, expected: list[PortSpec]) -> None:
    assert list(options(publish=text).publish) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99999:80", "invalid hostPort: 99999"),
        ("a:80", "invalid hostPort: a"),
        ("90-80:80", "invalid hostPort: 90-80"),
        ("1.2.3.4:80", "invalid hostPort: 1.2.3.4"),
        ("80:99999", "invalid containerPort: 99999"),
        ("a:b", "invalid containerPort: b"),
        (
            "80-90:80-85",
            "invalid ranges specified for container and host Ports: 80-85 and 80-90",
        ),
        ("80:80-85", "invalid ranges specified for container and host Ports: 80-85 and 80"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("[::1:80:80", "invalid IP address [::1: address [::1:: missing ']' in address"),
        ("80/foo", "invalid proto: foo"),
        ("", "no port specified: <empty>"),
        (":", "no port specified: :<empty>"),
        ("80:", "no port specified: 80:<empty>"),
        ("published=1", "no port specified: 1:/tcp<empty>"),
        ("foo=1,x", "invalid publish opts format (should be name=value but got 'x')"),
        ("8\u0660:80", "invalid hostPort: 8\u0660"),
        ("+80", "invalid containerPort: +80"),
    ],
)
def test_no_port_to_publish(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(publish=[text])

    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ("80/tcp",)),
        ("80-82/udp", ("80/udp", "81/udp", "82/udp")),
        ("80/TCP", ("80/tcp",)),
    ],
)
def test_a_port_to_expose(text: str, expected: tuple[str, ...]) -> None:
    assert options(expose=[text]).expose == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80:90", "invalid port format for --expose: 80:90"),
        (
            "x",
            "invalid range format for --expose: x, "
            'error: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (
            "90-80",
            "invalid range format for --expose: 90-80, "
            "error: invalid range specified for port: 90-80",
        ),
        (
            "99999",
            "invalid range format for --expose: 99999, "
            'error: strconv.ParseUint: parsing "99999": value out of range',
        ),
        ("80/foo", "invalid proto: foo"),
    ],
)
def test_no_port_to_expose(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(expose=[text])

    assert caught.value.message == message


def test_ports_as_people_write_them_in_python() -> None:
    asked = {
        "80/tcp": 8080,
        "53/udp": ("127.0.0.1", 5353),
        81: None,
        "82": [8082, ("::1", 8083)],
    }

    assert options(ports=asked).publish == (
        spec(80, 8080),
        spec(53, 5353, protocol="udp", host_address="127.0.0.1"),
        spec(81),
        spec(82, 8082),
        spec(82, 8083, host_address="::1"),
    )


def test_a_port_that_is_given_twice_is_one() -> None:
    assert options(publish=["80:80", "80:80/tcp"]).publish == (spec(80, 80),)


def test_ports_are_kept_in_the_document() -> None:
    asked = options(publish=["127.0.0.1:8080-8090:80", "53/udp"], publish_all=True, expose="1")

    assert options_from_document(options_document(asked)) == asked
