"""A container's links, by the launch core alone: faults at each step, and what they leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.launch import Box, step

from netns import Endpoint, Namespace, Netlink, packed
from sandbox.native import plan
from sandbox.native.plan import Op, op


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace.create() as made:
        with Netlink.open(made) as netlink:
            netlink.add_bridge("br0")
            netlink.add_address("br0", "10.9.0.1/24")
            netlink.change("br0", up=True)
        yield made


def endpoint(host: Namespace, link: str) -> Op:
    with Netlink.open(host) as netlink:
        bridge = netlink.link("br0").index
    wanted = Endpoint(link=link, addresses=("10.9.0.2/24",))
    return op("endpoint", link, "eth0", "br0", 0, *packed.plumbing(wanted, "br0", bridge))


def links(host: Namespace) -> set[str]:
    with Netlink.open(host) as netlink:
        return {each.name for each in netlink.links()}


def is_soon(host: Namespace, wanted: set[str]) -> bool:
    """The kernel drops a namespace, and the links in it, when it comes to it."""
    deadline = time.monotonic() + 60
    while links(host) != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_failure_at_each_operation_around_the_links_leaves_none(
    drivers: object, tmp_path: Path, host: Namespace
) -> None:
    assert callable(drivers)
    box = Box(driver=drivers("faults"), folder=tmp_path / "box").make()
    made = box.plan("true", settings=(endpoint(host, "ve0"),), before=(op("network"),))
    before = links(host)
    at = next(i for i, each in enumerate(made) if each.name == "network")
    first = next(i for i, each in enumerate(made) if plan.OPS[each.name][0] >= 100)

    with host.entered():
        for number in (1, at - first, at - first + 1, at - first + 2):
            for fault in (number, -number):
                box.environ["SANDBOX_FAIL_AT"] = str(fault)
                outcome = box.launch(made)
                assert (outcome.failure is not None) == (fault > 0), outcome
                assert outcome.descriptors[0] == outcome.descriptors[1]
        # The link of an earlier run may still be there, and is replaced.
        box.environ["SANDBOX_FAIL_AT"] = "0"
        assert box.launch(made).status == 0
    assert is_soon(host, before)


def test_failures_name_the_link_and_the_message(box: Box, host: Namespace) -> None:
    good = endpoint(host, "ve0")
    to = packed.default_route("10.1.1.1")
    cases = (
        (2, "nobody", "endpoint", "ioctl", "nobody"),
        (2, "lo", "endpoint", "RTM_NEWLINK", "ve0"),
        (5, packed.address(0, "10.9.0.2/24") + to, "network", "RTM_NEWROUTE", "eth0"),
        (6, packed.look_up("nobody"), "network", "RTM_GETLINK", "ve0"),
    )

    with host.entered():
        for place, row, name, message, about in cases:
            values = list(good.values)
            values[place] = row
            outcome = box.shell(
                "true", settings=(op("endpoint", *values),), before=(op("network"),)
            )
            failure = outcome.failure
            assert failure is not None, row
            assert (failure.step, failure.syscall, failure.path) == (step(name), message, about)
            assert outcome.descriptors[0] == outcome.descriptors[1]


def test_more_links_than_there_are_places_for_are_refused(box: Box, host: Namespace) -> None:
    many = tuple(endpoint(host, f"ve{i}") for i in range(17))

    with host.entered():
        outcome = box.shell("true", settings=many, before=(op("network"),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("endpoint")
