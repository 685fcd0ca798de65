"""Hosts of the test's own, for engines that make networks: see ``tests/kit/enginehosts``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from kit.enginehosts import Wired
from kit.nethosts import HOST4, HOST6, OUTSIDE4, OUTSIDE6

from netns import Namespace, Netlink, settings
from sandbox.engine import resolving

if TYPE_CHECKING:
    from conftest import Store


@pytest.fixture
def new_host(nothing_left_behind: None) -> Iterator[Callable[[], Namespace]]:
    """Make a namespace that is gone after the test; loopback is up, reverse paths are strict."""
    with ExitStack() as stack:

        def make() -> Namespace:
            made = stack.enter_context(Namespace.create())
            with made.entered():
                settings.write("ipv6/conf/default/accept_dad", "0")
                for name in ("all", "default"):
                    settings.write(f"ipv4/conf/{name}/rp_filter", "1")
            with Netlink.open(made) as netlink:
                netlink.change("lo", up=True)
            return made

        yield make


@pytest.fixture
def wired(busybox: Store, new_host: Callable[[], Namespace]) -> Iterator[Wired]:
    """A store with the image ``busybox``, on a host of its own."""
    made = Wired(busybox, new_host())
    yield made
    ids = made.said("ps", "-aq").split()
    if ids:
        made.said("rm", "-f", *ids)
    for folder in busybox.run.glob("networks/*"):
        resolving.stop(str(folder))


@pytest.fixture
def outside(wired: Wired, new_host: Callable[[], Namespace]) -> Namespace:
    """A second host on the same wire, which knows no way to the containers."""
    made = new_host()
    with Netlink.open(wired.host) as one, Netlink.open(made) as two:
        one.add_veth("wire", peer="wire", peer_namespace=made)
        for end, addresses in ((one, (HOST4, HOST6)), (two, (OUTSIDE4, OUTSIDE6))):
            end.add_address("wire", f"{addresses[0]}/24")
            end.add_address("wire", f"{addresses[1]}/64")
            end.change("wire", up=True)
        one.link("wire")
    return made
