"""What docker prints for pause, rename, top, stats, update, port and prune."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import requires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay]

ID = "<id>"


def did(store: Store, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with ids and hints taken out."""
    done = store.program(*arguments)
    lines = [
        line for line in done.stderr.decode().splitlines(True) if not line.startswith("hint: ")
    ]
    out, error = (
        re.sub(r"\b[0-9a-f]{64}\b", ID, text) for text in (done.stdout.decode(), "".join(lines))
    )
    return done.returncode, out, error


@pytest.fixture
def two(busybox: Store) -> Iterator[Store]:
    """``a1`` runs, ``a2`` has exited."""
    assert busybox.program("run", "--name", "a2", "busybox", "true").returncode == 0
    started = busybox.program("run", "-d", "--name", "a1", "busybox", "sleep", "1000")
    assert started.returncode == 0, started.stderr
    yield busybox
    busybox.program("rm", "-f", *busybox.program("ps", "-aq").stdout.decode().split())


def test_texts_of_pause(two: Store) -> None:
    assert did(two, "pause", "nosuch") == (1, "", "No such container: nosuch\n")
    assert did(two, "pause", "a2") == (1, "", f"Container {ID} is not running\n")
    assert did(two, "unpause", "a1") == (1, "", f"Container {ID} is not paused\n")
    assert did(two, "pause", "a1") == (0, "a1\n", "")
    assert did(two, "pause", "a1") == (1, "", f"Container {ID} is already paused\n")
    assert re.search(r" Up .+ \(Paused\) ", did(two, "ps")[1])
    assert did(two, "container", "unpause", "a1") == (0, "a1\n", "")
    assert "(Paused)" not in did(two, "ps")[1]
