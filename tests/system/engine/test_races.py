"""Two who want one container to be something else: one wins, and the other hears of it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Store

pytestmark = [requires.root, requires.overlay]

ROUNDS = 6


def together(*acts: Callable[[], object]) -> list[object]:
    """What each gave, or the error that it raised; anything but ours fails the test."""

    def told(act: Callable[[], object]) -> object:
        try:
            return act()
        except sandbox.SandboxError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(told, acts))


def nothing_is_left(store: Store) -> bool:
    sandbox.Engine().sweep()
    folders = (store.root / "containers", store.root / "names", store.run / "containers")
    return not any(os.listdir(folder) for folder in folders)


def start(name: str) -> Callable[[], object]:
    return lambda: sandbox.Engine().container(name).start().close()


def test_of_two_starts_one_wins(busybox: Store) -> None:
    for _ in range(ROUNDS):
        container = sandbox.Engine().create("busybox", ["sleep", "1000"], name="aa")

        answers = together(start("aa"), start("aa"))

        assert answers.count(None) == 1
        (lost,) = (answer for answer in answers if answer is not None)
        assert isinstance(lost, sandbox.WrongStatus)
        assert container.status().word == "running"
        container.remove(force=True)
    assert nothing_is_left(busybox)


def test_a_start_against_a_forced_removal_leaves_nothing(busybox: Store) -> None:
    for _ in range(ROUNDS):
        container = sandbox.Engine().create("busybox", ["sleep", "1000"], name="aa")

        started, removed = together(start("aa"), partial(container.remove, force=True))

        assert removed is None
        assert started is None or isinstance(
            started, (sandbox.ContainerNotFound, sandbox.WrongStatus)
        )
        assert nothing_is_left(busybox)


def test_a_stop_against_a_forced_removal_leaves_nothing(busybox: Store) -> None:
    for _ in range(ROUNDS):
        container = sandbox.Engine().create("busybox", ["sleep", "1000"], name="aa")
        container.start().close()

        stopped, removed = together(
            lambda: sandbox.Engine().container("aa").stop(0), partial(container.remove, force=True)
        )

        assert removed is None
        assert stopped is None or isinstance(stopped, sandbox.ContainerNotFound)
        assert nothing_is_left(busybox)


def test_a_pause_against_a_stop_ends_stopped(busybox: Store) -> None:
    for _ in range(ROUNDS):
        container = sandbox.Engine().create("busybox", ["sleep", "1000"], name="aa")
        container.start().close()

        paused, stopped = together(
            lambda: sandbox.Engine().container("aa").pause(), partial(container.stop, 0)
        )

        assert stopped is None
        assert paused is None or isinstance(paused, sandbox.WrongStatus)
        assert container.status().word == "exited"
        container.remove()
    assert nothing_is_left(busybox)
