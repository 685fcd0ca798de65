"""Namespaces against the real kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import requires

import netns
from netns import Namespace

pytestmark = requires.root


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_a_new_namespace_is_not_the_callers() -> None:
    with Namespace.create() as made, Namespace.current() as own:
        assert not made.is_same(own)


def test_entered_moves_the_thread_and_brings_it_back() -> None:
    before = here()

    with Namespace.create() as made, made.entered():
        inside = here()
        started = subprocess.check_output(["readlink", "/proc/self/ns/net"], text=True).strip()

    assert inside == started != before
    assert here() == before


def test_entered_comes_back_after_an_error() -> None:
    before = here()

    with Namespace.create() as made, pytest.raises(RuntimeError), made.entered():
        raise RuntimeError

    assert here() == before


def test_a_pinned_namespace_is_found_again_and_deleted(tmp_path: Path) -> None:
    pin = str(tmp_path / "pin")

    with Namespace.create(pin) as made, Namespace.open(pin) as found:
        assert found.is_same(made)
    netns.delete(pin)

    assert not os.path.exists(pin)
    netns.delete(pin)


def test_a_pin_is_not_taken_twice(tmp_path: Path) -> None:
    pin = str(tmp_path / "pin")
    Namespace.create(pin).close()

    with pytest.raises(netns.NamespaceExists, match="pinned already"):
        Namespace.create(pin)

    netns.delete(pin)


def test_a_path_without_a_namespace_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    with pytest.raises(netns.NamespaceNotFound, match="not a network namespace"):
        Namespace.open(str(file))
    with pytest.raises(netns.NamespaceNotFound, match="no network namespace"):
        Namespace.open(str(tmp_path / "nothing"))
    with pytest.raises(netns.NamespaceNotFound):
        netns.delete(str(file))
    assert file.read_text() == "mine"


def test_the_file_of_a_pin_that_was_never_bound_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.touch()

    netns.delete(str(file))

    assert not file.exists()


def test_the_namespace_of_a_process_is_found() -> None:
    with Namespace.of_process(os.getpid()) as found, Namespace.current() as own:
        assert found.is_same(own)


def test_a_closed_namespace_is_an_error() -> None:
    made = Namespace.create()
    made.close()
    made.close()

    with pytest.raises(netns.NamespaceNotFound, match="was closed"):
        made.fileno()
