"""Subnets and leases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import netns
from netns import FileLeases, Lease, Subnet, ipam, model
from netns.ipam import Leases

SMALL = Subnet(cidr="10.0.0.0/29", gateway="10.0.0.1")  # .2 to .6


class Memory:
    """The other store: nothing but the protocol."""

    def __init__(self) -> None:
        self.leases = Leases()

    @contextmanager
    def edit(self) -> Iterator[Leases]:
        yield self.leases


@pytest.fixture
def store(tmp_path: Path) -> FileLeases:
    return FileLeases(str(tmp_path / "leases"))


def take(store: FileLeases | Memory, owner: str, subnet: Subnet = SMALL, wanted: str = "") -> str:
    return ipam.lease(store, subnet, owner, wanted=wanted).address


def test_addresses_are_given_one_after_the_other(store: FileLeases) -> None:
    assert [take(store, owner) for owner in "abc"] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_an_address_rests_before_it_is_given_again(store: FileLeases) -> None:
    take(store, "a")
    ipam.release(store, "a")

    assert [take(store, owner) for owner in "bcdef"] == [f"10.0.0.{n}" for n in (3, 4, 5, 6, 2)]


def test_a_full_range_says_so(store: FileLeases) -> None:
    for number in range(5):
        take(store, f"c{number}")

    with pytest.raises(netns.AddressesExhausted, match=r"10\.0\.0\.0/29: 5 are in use"):
        take(store, "late")


def test_a_wanted_address_that_is_taken_names_its_owner(store: FileLeases) -> None:
    take(store, "first", wanted="10.0.0.5")

    with pytest.raises(netns.AddressTaken, match=r"10\.0\.0\.5 is in use by first") as caught:
        take(store, "second", wanted="10.0.0.5")
    assert caught.value.owner == "first"


@pytest.mark.parametrize("wanted", ["10.0.0.0", "10.0.0.1", "10.0.0.7", "10.0.1.2", "fd00::2"])
def test_an_address_that_is_not_for_endpoints_is_refused(store: FileLeases, wanted: str) -> None:
    with pytest.raises(netns.InvalidValue, match="address"):
        take(store, "a", wanted=wanted)


def test_leases_come_from_the_range_and_not_from_what_is_reserved(store: FileLeases) -> None:
    subnet = Subnet(
        cidr="10.0.0.0/24",
        gateway="10.0.0.1",
        range="10.0.0.64/30",
        reserved=("10.0.0.65",),
    )

    assert [take(store, o, subnet) for o in "abc"] == [f"10.0.0.{n}" for n in (64, 66, 67)]
    assert take(store, "d", subnet, "10.0.0.200") == "10.0.0.200"
    with pytest.raises(netns.AddressesExhausted):
        take(store, "e", subnet)


def test_ipv6_has_no_broadcast_and_no_end(store: FileLeases) -> None:
    subnet = Subnet(cidr="fd00::/64", gateway="fd00::1")

    assert [take(store, owner, subnet) for owner in "ab"] == ["fd00::2", "fd00::3"]


def test_release_gives_back_all_of_an_owner_and_nothing_twice(store: FileLeases) -> None:
    take(store, "a")
    take(store, "b")
    take(store, "a")

    given_back = ipam.release(store, "a")

    assert [one.address for one in given_back] == ["10.0.0.2", "10.0.0.4"]
    assert ipam.release(store, "a") == ()
    assert ipam.leased(store) == (Lease(address="10.0.0.3", owner="b"),)


def test_a_block_that_fails_changes_nothing(store: FileLeases) -> None:
    take(store, "a")

    def clear_and_fail() -> None:
        with store.edit() as leases:
            leases.owners.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        clear_and_fail()

    assert len(ipam.leased(store)) == 1


def test_many_at_once_get_an_address_each(store: FileLeases) -> None:
    subnet = Subnet(cidr="10.0.0.0/24", gateway="10.0.0.1")
    with ThreadPoolExecutor(8) as pool:
        given_out = list(pool.map(lambda n: take(store, f"c{n}", subnet), range(64)))

    assert len(set(given_out)) == 64
    assert len(ipam.leased(store)) == 64


def test_another_store_will_do() -> None:
    store = Memory()

    assert take(store, "a") == "10.0.0.2"
    assert store.leases.owners == {"10.0.0.2": "a"}


def test_a_damaged_file_is_left_as_it_is(store: FileLeases) -> None:
    Path(store.path).write_text("lease 10.0.0.2\n")

    with pytest.raises(netns.LeasesDamaged, match=r"'lease 10\.0\.0\.2'"):
        take(store, "a")
    assert Path(store.path).read_text() == "lease 10.0.0.2\n"


@pytest.mark.parametrize("owner", ["", "a b", "a\nlease"])
def test_an_owner_is_one_word(store: FileLeases, owner: str) -> None:
    with pytest.raises(netns.InvalidValue, match="owner"):
        take(store, owner)


@pytest.mark.parametrize(
    ("subnet", "complaint"),
    [
        (Subnet(cidr="10.0.0.1/24", gateway="10.0.0.1"), "host bits"),
        (Subnet(cidr="10.0.0.0/24", gateway="10.0.1.1"), "not in"),
        (Subnet(cidr="10.0.0.0/24", gateway="fd00::1"), "not in"),
        (Subnet(cidr="10.0.0.0/24", gateway="10.0.0.1", range="10.0.1.0/28"), "range"),
        (Subnet(cidr="10.0.0.0/24", gateway="10.0.0.1", range="10.0.0.0/16"), "range"),
    ],
)
def test_a_subnet_that_cannot_be_meant_is_refused(subnet: Subnet, complaint: str) -> None:
    with pytest.raises(netns.InvalidValue, match=complaint):
        ipam.checked_subnet(subnet)


def test_a_free_subnet_overlaps_with_nothing() -> None:
    taken = ["default", "172.17.0.0/16", "172.18.4.0/24", "172.20.0.1/32", "fd00::/8"]

    assert ipam.free_subnet("172.16.0.0/12", 16, taken) == "172.16.0.0/16"
    assert ipam.free_subnet("172.17.0.0/16", 24, ["172.17.0.5/24"]) == "172.17.1.0/24"
    assert ipam.free_subnet("172.16.0.0/12", 16, [*taken, "172.16.9.9"]) == "172.19.0.0/16"
    with pytest.raises(netns.AddressesExhausted):
        ipam.free_subnet("172.17.0.0/16", 24, taken)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(4, 8)), max_size=40))
def test_a_free_subnet_is_free_or_there_is_none(blocks: list[tuple[int, int]]) -> None:
    taken = [f"10.0.0.{at & ~((1 << (8 - bits)) - 1)}/{24 + bits}" for at, bits in blocks]
    used = {int(a) for one in taken for a in model.network(one)}

    try:
        found = ipam.free_subnet("10.0.0.0/24", 29, taken)
    except netns.AddressesExhausted:
        found = ""

    every = [model.network(f"10.0.0.{at}/29") for at in range(0, 256, 8)]
    free = [str(one) for one in every if not used & {int(a) for a in one}]
    assert found == (free[0] if free else "")
