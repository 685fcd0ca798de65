"""What publishing a port costs: what it loads, and what it says to the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requires
from kit.nethosts import TABLE, Fabric

import netns
from netns import Namespace, PortMapping, nfnetlink, nftables, ports

ROOT = Path(__file__).parents[3]

pytestmark = [requires.root, requires.program("nft")]


def listed(host: Namespace, name: str) -> list[object]:
    with host.entered():
        done = subprocess.run(
            ["nft", "-j", "list", "map", "inet", TABLE, name], stdout=subprocess.PIPE, check=True
        )
    (found,) = [one["map"] for one in json.loads(done.stdout)["nftables"] if "map" in one]
    return list(found.get("elem", ()))


def test_nft_reads_what_is_published(fabric: Fabric) -> None:
    fabric.network(ipv6=True)
    asked = (
        PortMapping(
            host_address="127.0.0.1", host_port=8080, address="10.9.1.2", port=80, owner="web"
        ),
        PortMapping(host_port=53, protocol="udp", address="fd00:1::2", port=5353),
    )

    ports.publish(TABLE, asked, namespace=fabric.host)

    key = {"concat": ["127.0.0.1", "tcp", 8080]}
    value = {"concat": ["10.9.1.2", 80]}
    assert listed(fabric.host, "named4") == [
        [{"elem": {"val": key, "comment": "web"}}, value],
    ]
    assert listed(fabric.host, "any6") == [
        [{"concat": ["udp", 53]}, {"concat": ["fd00:1::2", 5353]}],
    ]
    ports.withdraw(TABLE, asked, namespace=fabric.host)
    assert listed(fabric.host, "named4") == listed(fabric.host, "any6") == []


def test_what_nft_published_is_read_and_withdrawn(fabric: Fabric) -> None:
    fabric.network()
    element = '{ tcp . 8080 comment "web" : 10.9.1.2 . 80 }'
    nftables.run_text(f"add element inet {TABLE} any4 {element}\n", namespace=fabric.host)
    there = PortMapping(host_port=8080, address="10.9.1.2", port=80, owner="web")

    assert ports.published(TABLE, namespace=fabric.host) == (there,)
    ports.withdraw(TABLE, (there,), namespace=fabric.host)

    assert listed(fabric.host, "any4") == []


def test_thousands_of_ports_are_one_transaction(fabric: Fabric) -> None:
    fabric.network()
    many = tuple(
        PortMapping(host_port=10000 + number, address="10.9.1.2", port=10000 + number, owner="many")
        for number in range(3000)
    )

    ports.publish(TABLE, many, namespace=fabric.host)

    assert len(ports.published(TABLE, namespace=fabric.host)) == len(many)
    with pytest.raises(netns.PortTaken, match="10007/tcp is in use by many"):
        ports.publish(TABLE, many[7:20], namespace=fabric.host)
    ports.withdraw(TABLE, many, namespace=fabric.host)
    assert ports.published(TABLE, namespace=fabric.host) == ()


def test_publishing_without_a_table_says_so(host: Namespace) -> None:
    asked = (PortMapping(host_port=8080, address="10.9.1.2", port=80),)

    with pytest.raises(netns.RulesRefused, match=f"publish port 8080 in table {TABLE}"):
        ports.publish(TABLE, asked, namespace=host)


def test_a_transaction_that_the_kernel_does_not_know_is_refused(host: Namespace) -> None:
    with host.entered(), nfnetlink.Wire() as wire:
        refused = wire.apply([nfnetlink.message(10 << 8 | 99, 0, 1, b"")])

    assert len(refused) == 1


def test_publishing_loads_nothing_but_builtin_modules(fabric: Fabric) -> None:
    fabric.network()
    program = f"""
import sys
sys.path.append({str(ROOT)!r})
from netns import PortMapping, ports
asked = tuple(
    PortMapping(host_port=0, protocol=protocol, address="10.9.1.2", port=80, owner="web")
    for protocol in ("tcp", "udp")
)
with ports.reserve(asked, table={TABLE!r}) as reserved:
    ports.publish({TABLE!r}, reserved.mappings)
    assert set(ports.published({TABLE!r})) == set(reserved.mappings)
    ports.withdraw({TABLE!r}, reserved.mappings)
    assert not ports.published({TABLE!r})
print(*sys.modules)
"""
    with fabric.host.entered():
        done = subprocess.run(
            [sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE, text=True, check=True
        )

    loaded = {name for name in done.stdout.split() if not name.startswith("netns")}
    dear = {"ctypes", "contextlib", "ipaddress", "json", "pyroute2", "re", "socket", "struct"}
    assert not loaded & (dear | {"subprocess", "threading", "typing", "enum"})
