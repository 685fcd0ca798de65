"""``ps`` from what is kept of containers: never another answer than the documents give."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox
from sandbox.cli import containerrows, containerview
from sandbox.engine import summary
from sandbox.state import containers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def listed(store: Store) -> dict[str, str]:
    """Name and state of all, which are what they are without the cache."""
    rows = sandbox.Engine().summaries(all=True)
    said = store.program("ps", "-a", "--format", "{{.ID}} {{.Names}} {{.State}}").stdout
    assert said.decode().splitlines() == [f"{row.id[:12]} {row.name} {row.word}" for row in rows]
    return {row.name: row.word for row in rows}


def settle(store: Store) -> Path:
    """What has changed a moment ago is not kept; afterwards it is."""
    time.sleep(0.3)
    sandbox.Engine().summaries(all=True)
    return store.root / "cache" / "containers"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the containers whose documents were parsed."""
    found: list[str] = []
    real = containers.read

    def noted(paths: sandbox.engine.engine.Paths, container_id: str) -> containers.ContainerRecord:
        found.append(container_id)
        return real(paths, container_id)

    monkeypatch.setattr(containers, "read", noted)
    return found


def test_a_document_that_did_not_change_is_not_parsed_again(
    busybox: Store, read: list[str]
) -> None:
    engine = sandbox.Engine()
    engine.create("busybox", ["true"], name="one")
    two = engine.create("busybox", ["true"], name="two")
    settle(busybox)
    del read[:]

    before = engine.summaries(all=True)
    seen = list(read)
    two.rename("three")
    del read[:]
    after = engine.summaries(all=True)

    assert [row.name for row in before] == ["two", "one"]
    assert [row.name for row in after] == ["three", "one"]
    assert seen == []
    assert read == [two.id]


def test_the_table_is_the_one_that_the_documents_give(
    busybox: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = busybox.program
    run("create", "--name", "made", "busybox", "sh", "-c", 'echo "two  words"')
    run("run", "--name", "failed", "busybox", "sh", "-c", "exit 3")
    run("run", "--name", "killed", "busybox", "sh", "-c", "kill -9 1; kill -9 $$")
    run("run", "--name", "missing", "busybox", "/no/such/program")
    run("run", "-d", "--name", "up", "busybox", "sleep", "1000")
    health = ("--health-cmd", "true", "--health-interval", "1h")
    run("run", "-d", "--name", "checked", *health, "busybox", "sleep", "1000")
    settle(busybox)
    now_ns = time.time_ns() + 10**11
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    engine = sandbox.Engine()

    def health_of(container_id: str) -> str:
        checked = engine.container(container_id).health()
        return "" if checked is None else checked.status

    for truncated in (True, False):
        rows = containerrows.default_rows(
            engine.summaries(all=True), health_of, engine.ports_of, truncated=truncated
        )

        views = [
            containerview.ContainerView(each, truncated=truncated, with_size=False)
            for each in engine.containers(all=True)
        ]
        cells = [[str(view.field(name)) for name in containerrows.COLUMNS] for view in views]
        assert [list(row) for row in rows[1:]] == cells
        assert len(cells) == 6


def test_every_change_is_seen_at_once(busybox: Store) -> None:
    run = busybox.program
    run("create", "--name", "one", "busybox", "sleep", "1000")
    run("create", "--name", "two", "busybox", "true")
    steps: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("start", "one"), {"one": "running", "two": "created"}),
        (("rename", "one", "first"), {"first": "running", "two": "created"}),
        (("pause", "first"), {"first": "paused", "two": "created"}),
        (("unpause", "first"), {"first": "running", "two": "created"}),
        (("stop", "-t", "0", "first"), {"first": "exited", "two": "created"}),
        (("start", "first"), {"first": "running", "two": "created"}),
        (("rm", "two"), {"first": "running"}),
        (("kill", "first"), {"first": "exited"}),
        (("rm", "-f", "first"), {}),
    ]
    for pause in (False, True):
        if pause:
            run("create", "--name", "one", "busybox", "sleep", "1000")
            run("create", "--name", "two", "busybox", "true")
        for arguments, state in steps:
            if pause:
                settle(busybox)
            assert run(*arguments).returncode == 0
            if arguments[0] == "kill":
                run("wait", "first")
            assert listed(busybox) == state


def test_a_killed_monitor_is_not_shown_as_it_was(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["sleep", "1000"], name="victim")
    with container.start() as attachment:
        settle(busybox)
        os.kill(attachment.monitor_pid, signal.SIGKILL)
        os.waitpid(attachment.monitor_pid, 0)

    assert listed(busybox) == {"victim": "exited"}


def test_a_document_that_is_changed_in_place_is_read_again(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["true"], name="one")
    settle(busybox)

    with open(f"{container.folder}/container.json", "r+") as file:
        file.write("no document")

    assert listed(busybox) == {}
    assert busybox.program("rm", "-f", container.id).returncode == 0


def cut(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-9])


def garbage(cache: Path) -> None:
    cache.write_bytes(b"\xe3" * 1000)


def others(cache: Path) -> None:
    os.chown(cache, 65534, 65534)


def writable(cache: Path) -> None:
    cache.chmod(0o666)


def link(cache: Path) -> None:
    cache.rename(cache.with_suffix(".real"))
    cache.symlink_to(cache.with_suffix(".real"))


@pytest.mark.parametrize(
    "spoil", [os.unlink, cut, garbage, others, writable, link], ids=lambda spoil: spoil.__name__
)
def test_a_cache_that_is_not_ours_and_whole_is_as_if_it_were_not_there(
    busybox: Store, read: list[str], spoil: Callable[[Path], None]
) -> None:
    container = sandbox.Engine().create("busybox", ["true"], name="one")
    cache = settle(busybox)
    spoil(cache)
    del read[:]

    rows = sandbox.Engine().summaries(all=True)

    assert [row.name for row in rows] == ["one"]
    assert read == [container.id]
    assert listed(busybox) == {"one": "created"}


def test_a_cache_of_other_code_is_not_used(
    busybox: Store, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container = sandbox.Engine().create("busybox", ["true"], name="one")
    settle(busybox)
    del read[:]
    monkeypatch.setattr(summary, "_FORMAT", 0)

    sandbox.Engine().summaries(all=True)

    assert read == [container.id]


def test_an_old_cache_tells_nothing_of_a_new_container(busybox: Store) -> None:
    engine = sandbox.Engine()
    engine.create("busybox", ["true"], name="one")
    cache = settle(busybox)
    old = cache.read_bytes()
    engine.container("one").rename("two")
    engine.create("busybox", ["true"], name="one")
    settle(busybox)
    cache.write_bytes(old)

    assert listed(busybox) == {"one": "created", "two": "created"}


def test_one_broken_off_while_being_made_is_taken_back(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["true"], name="one")
    settle(busybox)
    os.unlink(busybox.root / "names" / "one")

    assert listed(busybox) == {}
    assert not os.path.exists(container.folder)


def test_nothing_is_written_when_nothing_changed(busybox: Store) -> None:
    sandbox.Engine().create("busybox", ["true"], name="one")
    cache = settle(busybox)
    before = cache.stat()

    listed(busybox)

    assert cache.stat().st_ino == before.st_ino
