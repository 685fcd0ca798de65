"""Verbs on a container beside running it: pause, rename, top, stats, update, prune."""

from __future__ import annotations

import os
import time
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
    handler = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"
    made = sandbox.Engine().create("busybox", ["sh", "-c", handler], name="aa", memory="64m")
    with made.start() as attachment:
        # Process 1 without its handler would not notice a signal.
        while not list(made.logs()):
            time.sleep(0.005)
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
    container.rest()
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


def test_a_new_name_is_kept_and_the_old_one_is_free(container: sandbox.Container) -> None:
    engine = sandbox.Engine()

    container.rename("bb")

    assert (container.name, engine.container("bb").id) == ("bb", container.id)
    with pytest.raises(sandbox.ContainerNotFound):
        engine.container("aa")
    other = engine.create("busybox", ["true"], name="aa")
    with pytest.raises(sandbox.NameInUse) as caught:
        container.rename("aa")
    assert caught.value.owner == other.id
    assert engine.container("bb").id == container.id


def test_a_rename_that_was_broken_off_is_finished_by_the_next(
    container: sandbox.Container,
) -> None:
    from sandbox.state import names

    paths = sandbox.Engine().paths
    names.take(paths, "bb", container.id)

    container.rename("bb")

    assert sandbox.Engine().container("bb").name == "bb"
    assert names.owner(paths, "aa") is None


@requires.program("ps")
def test_top_shows_the_processes_of_the_container_alone(container: sandbox.Container) -> None:
    found = container.top(["-eo", "pid,args"])
    pids = {int(row[0]) for row in found.processes}

    assert found.titles == ("PID", "COMMAND")
    assert container.status().pid in pids
    assert os.getpid() not in pids
    with pytest.raises(sandbox.UsageError, match="Couldn't find PID field in ps output"):
        container.top(["-eo", "comm"])


@requires.cgroup("memory", "pids")
def test_stats_are_those_of_the_container(container: sandbox.Container) -> None:
    before = container.stats()
    time.sleep(0.2)
    now = container.stats()
    used = now.cpu_percent(before)

    assert now.memory_limit_bytes == 64 << 20
    assert now.memory_bytes is not None
    assert 0 < now.memory_bytes < 64 << 20
    assert now.pids in (1, 2)  # the shell, and a sleep of its loop
    assert used is not None
    assert used > 0
    assert (now.received_bytes, now.sent_bytes) == (0, 0)
    assert before.cpu_percent(before) is None


@requires.cgroup("memory", "cpu", "pids")
def test_updated_limits_hold_at_once_and_at_the_next_start(container: sandbox.Container) -> None:
    container.update(memory="48m", cpus=0.5, pids=40)
    live = container.stats().memory_limit_bytes
    seen_by_others = sandbox.Engine().container("aa").options
    container.kill()
    container.wait()
    container.rest()
    with container.start() as attachment:
        later = container.stats().memory_limit_bytes
        attachment.signal("KILL")
        attachment.wait()

    assert (live, later) == (48 << 20, 48 << 20)
    assert (seen_by_others.memory, seen_by_others.memory_swap) == (48 << 20, 128 << 20)
    assert (seen_by_others.cpus, seen_by_others.pids_limit) == (0.5, 40)


def test_a_container_that_was_started_meanwhile_is_not_removed(
    container: sandbox.Container,
) -> None:
    with pytest.raises(sandbox.WrongStatus, match="You cannot remove a running container"):
        container.remove()

    assert container.status().word == "running"


def test_who_has_waited_for_a_container_can_remove_it_at_once(busybox: Store) -> None:
    engine = sandbox.Engine()

    for _ in range(40):
        container = engine.create("busybox", ["true"])
        container.start().close()
        container.wait()
        container.remove()

    assert engine.containers(all=True) == ()
