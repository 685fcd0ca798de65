"""What docker prints for pause, rename, top, stats, update, port and prune."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path

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


def test_texts_of_rename(two: Store) -> None:
    failed = "Error: failed to rename container named"

    assert did(two, "rename", "nosuch", "x1") == (
        1, "", f"No such container: nosuch\n{failed} nosuch\n",
    )  # fmt: skip
    assert did(two, "rename", "a1", "a1") == (
        1, "", f"Renaming a container with the same name as its current name\n{failed} a1\n",
    )  # fmt: skip
    assert did(two, "rename", "a1", "a2") == (
        1,
        "",
        'Error when allocating new name: Conflict. The container name "/a2" is already in use by '
        f'container "{ID}". You have to remove (or rename) that container to be able to reuse that '
        f"name.\n{failed} a1\n",
    )
    assert did(two, "rename", "a1", "no/name")[2].startswith(
        "Error when allocating new name: Invalid container name (no/name), only "
    )
    assert did(two, "rename", "a1", "a9") == (0, "", "")
    assert did(two, "ps", "--format", "{{.Names}}")[1] == "a9\n"


@requires.program("ps")
def test_columns_of_top_are_dockers(two: Store) -> None:
    whole = did(two, "top", "a1")[1].splitlines()
    short = did(two, "top", "a1", "-o", "pid,comm")

    titles = "UID PID PPID C STIME TTY TIME CMD".split()
    assert whole[0] == "".join(title.ljust(20) for title in titles[:-1]) + "CMD"
    assert re.fullmatch(r"root +\d+ +\d+ +\d+ +\S+ +\? +00:00:00 +sleep 1000", whole[1])
    assert len(whole) == 2
    assert did(two, "top", "nosuch") == (1, "", "No such container: nosuch\n")
    assert did(two, "top", "a2") == (1, "", f"Container {ID} is not running\n")
    assert short[0] == 0
    assert re.fullmatch(r"PID                 COMMAND\n\d+ +sleep\n", short[1])


def test_texts_of_port(two: Store) -> None:
    assert did(two, "port", "nosuch") == (1, "", "No such container: nosuch\n")
    assert did(two, "port", "a1") == (0, "", "")
    assert did(two, "port", "a1", "9999") == (
        1, "", "Error: No public port '9999' published for a1\n",
    )  # fmt: skip


@requires.cgroup("memory", "pids")
def test_columns_of_stats_are_dockers(two: Store) -> None:
    table = did(two, "stats", "--no-stream")[1].splitlines()
    document = json.loads(did(two, "stats", "--no-stream", "--format", "json", "a1")[1])
    resting = did(two, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "a2")

    assert re.fullmatch(
        r"CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS", table[0]
    )
    assert re.fullmatch(
        r"[0-9a-f]{12}   a1        \d+\.\d\d% +[\d.]+[KM]iB / [\d.]+[GT]iB +\d+\.\d\d% +0B / 0B +"
        r"(\S+B|--) / (\S+B|--) +1",
        table[1],
    )
    assert len(table) == 2
    assert list(document) == "BlockIO CPUPerc Container ID MemPerc MemUsage Name NetIO PIDs".split()
    assert document["Container"] == "a1"
    assert resting == (0, "a2 0B / 0B\n", "")
    assert did(two, "stats", "--no-stream", "nosuch") == (1, "", "No such container: nosuch\n")


def test_stats_go_on_until_they_are_interrupted(two: Store) -> None:
    with subprocess.Popen(
        [program_path(), "stats", "--format", "{{.Name}}", "a1"],
        stdout=subprocess.PIPE,
        env=two.environ,
    ) as streaming:
        assert streaming.stdout is not None
        lines = [streaming.stdout.readline() for _ in range(2)]
        streaming.send_signal(signal.SIGINT)

    assert lines == [b"a1\n", b"a1\n"]
    assert streaming.returncode == 130


@requires.cgroup("memory", "cpu")
def test_texts_of_update(two: Store) -> None:
    two.program("run", "-d", "--name", "a3", "-m", "20m", "busybox", "sleep", "1000")

    assert did(two, "update", "-m", "1", "a1") == (1, "", "Minimum memory limit allowed is 6MB\n")
    assert did(two, "update", "-m", "50m", "a3") == (
        1,
        "",
        f"Cannot update container {ID}: Memory limit should be smaller than already set memoryswap "
        "limit, update the memoryswap at the same time\n",
    )
    assert did(two, "update", "-m", "50m", "--memory-swap", "60m", "a3") == (0, "a3\n", "")
    assert did(two, "update", "--cpus", "0.5", "a1", "a2") == (0, "a1\na2\n", "")
    assert did(two, "update", "--cpus", "0.5", "nosuch") == (1, "", "No such container: nosuch\n")
    assert did(two, "update", "a1") == (
        1, "", "You must provide one or more flags when using this command.\n",
    )  # fmt: skip
    assert did(two, "update", "-m", "abc", "a1")[::2] == (
        125,
        'invalid argument "abc" for "-m, --memory" flag: invalid size: \'abc\'\n\n'
        "Usage:  sandbox update [OPTIONS] CONTAINER [CONTAINER...]\n\n"
        "Run 'sandbox update --help' for more information\n",
    )
    shown = did(two, "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", "a3")
    assert shown[1] == f"{50 << 20} {60 << 20}\n"


def test_prune_removes_what_does_not_run(two: Store) -> None:
    two.program("create", "--name", "a3", "-l", "keep=no", "busybox", "true")

    refused = did(two, "container", "prune")
    labelled = did(two, "container", "prune", "-f", "--filter", "label=keep")
    rest = did(two, "container", "prune", "-f")
    nothing = did(two, "container", "prune", "-f")

    assert refused == (
        0,
        "WARNING! This will remove all stopped containers.\n"
        "Are you sure you want to continue? [y/N] ",
        "",
    )
    removed = f"Deleted Containers:\n{ID}\n\nTotal reclaimed space: 0B\n"
    assert labelled == rest == (0, removed, "")
    assert nothing == (0, "Total reclaimed space: 0B\n", "")
    assert did(two, "ps", "-a", "--format", "{{.Names}}")[1] == "a1\n"
