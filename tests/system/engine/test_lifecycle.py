"""Verbs on a container beside running it: pause, rename, top, stats, update, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


@pytest.fixture
def container(busybox: Store) -> Iterator[sandbox.Container]:
    handler = "trap 'exit 7' TERM; while :; do sleep 0.02; done"
    made = sandbox.Engine().create("busybox", ["sh", "-c", handler], name="aa", memory="64m")
    with made.start() as attachment:
        yield made
        if made.status().is_live:
            made.kill()
        attachment.wait()
    for each in sandbox.Engine().containers(all=True):
        each.remove()


def used_ns(container: sandbox.Container) -> int:
    from sandbox.engine.verbs import group_of

    usage_ns = group_of(container).stats().cpu.usage_ns
    assert usage_ns is not None
    return usage_ns


def test_a_paused_container_stands_still_and_goes_on(container: sandbox.Container) -> None:
    container.pause()
    status = container.status().word
    before = used_ns(container)
    stood_still = all(used_ns(container) == before for _ in range(100))
    container.unpause()

    assert status == "paused"
    assert stood_still
    assert container.status().word == "running"
    assert container.exec_run(["true"]).ok


def test_pause_and_unpause_insist_on_the_status(container: sandbox.Container) -> None:
    with pytest.raises(sandbox.WrongStatus, match=f"{container.id} is not paused"):
        container.unpause()
    container.pause()
    with pytest.raises(sandbox.WrongStatus, match=f"{container.id} is already paused"):
        container.pause()
    with pytest.raises(sandbox.WrongStatus, match="is paused, unpause the container before exec"):
        container.exec_run(["true"])
    container.kill()
    container.wait()
    for verb in (container.pause, container.unpause):
        with pytest.raises(sandbox.WrongStatus, match=f"{container.id} is not running"):
            verb()


def test_kill_of_a_paused_container_ends_it(container: sandbox.Container) -> None:
    container.pause()

    container.kill()

    assert container.wait().signal == 9


def test_stop_of_a_paused_container_lets_it_end_by_itself(container: sandbox.Container) -> None:
    container.pause()

    container.stop()

    assert container.last_exit().exit_code == 7


def test_removal_by_force_of_a_paused_container(container: sandbox.Container) -> None:
    container.pause()

    container.remove(force=True)

    assert sandbox.Engine().containers(all=True) == ()
