"""Removals beside runs and loads, and the containers that are in their way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import archives

import sandbox

pytestmark = [requires.root]

ROUNDS = int(os.environ.get("SANDBOX_REMOVAL_ROUNDS", "12"))

LOADER = """
import sys, sandbox
engine = sandbox.Engine()
for _ in range(int(sys.argv[2])):
    (loaded,) = engine.load(sys.argv[1])
    try:
        engine.tag(loaded.image_id, "another:1")
    except sandbox.ImageNotFound:
        pass
"""
REMOVER = """
import sandbox
engine = sandbox.Engine()
print(flush=True)
while True:
    engine.prune_images(unused=True)
    try:
        engine.remove_image("another:1")
    except (sandbox.ImageNotFound, sandbox.ObjectInUse):
        pass
"""
RUNNER = """
import sandbox
engine = sandbox.Engine()
print(flush=True)
ran = missed = 0
while True:
    try:
        container = engine.create("busybox", ["cat", "/etc/passwd"])
    except sandbox.ImageNotFound:
        missed += 1
        continue
    container.start()
    ended = container.wait()
    assert ended.exit_code == 0, ended
    container.remove(force=True)
    ran += 1
    print(ran, missed, flush=True)
"""


def ran(store: Store, *arguments: str, code: int = 0) -> tuple[str, str]:
    done = store.program(*arguments)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def test_what_is_in_use_is_never_removed_beside_loads_and_runs(
    store: Store, busybox_archive: Path
) -> None:
    def started(program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=store.environ,
        )

    others = [started(REMOVER), started(RUNNER)]
    try:
        for each in others:
            assert each.stdout is not None
            each.stdout.readline()
        loader = started(LOADER, str(busybox_archive), str(ROUNDS))
        _out, err = loader.communicate(timeout=300)
        failed = [each.poll() for each in others]
    finally:
        for each in others:
            each.terminate()
        said = [each.communicate() for each in others]

    assert loader.returncode == 0, err.decode()
    assert failed == [None, None], b"".join(err for _out, err in said).decode()
    engine = sandbox.Engine()
    engine.sweep()
    for container in engine.containers(all=True):
        container.remove(force=True)
    engine.prune_images(unused=True)
    for folder in ("blobs/sha256", "layers", "images/ids", "staging"):
        assert os.listdir(store.root / folder) == [], folder


def test_a_refusal_names_all_containers_and_the_command_that_helps(busybox: Store) -> None:
    for name in ("one", "two"):
        ran(busybox, "create", "--name", name, "busybox", "true")
    ids = [each.id for each in sandbox.Engine().containers(all=True)]

    _out, err = ran(busybox, "rmi", "busybox", code=1)

    message, hint = err.splitlines()
    assert message.startswith('conflict: unable to remove repository reference "busybox" (must fo')
    assert all(each[:12] in message for each in ids)
    assert sorted(hint.split("`")[1].split()) == ["one", "rm", "sandbox", "two"]
    busybox.program(*hint.split("`")[1].split()[1:])
    assert "Deleted: sha256:" in ran(busybox, "rmi", "busybox")[0]


def test_force_takes_the_names_and_leaves_what_a_container_needs(busybox: Store) -> None:
    ran(busybox, "create", "--name", "one", "busybox", "echo", "still here")
    image = sandbox.Engine().image("busybox").id

    out, _err = ran(busybox, "rmi", "-f", image)

    assert out == "Untagged: busybox:latest\n"
    assert ran(busybox, "start", "-a", "one")[0] == "still here\n"
    assert "(cannot be forced)" in ran(busybox, "rmi", "-f", image, code=1)[1]
    ran(busybox, "image", "prune", "-f")
    assert ran(busybox, "start", "-a", "one")[0] == "still here\n"
    ran(busybox, "rm", "one")
    assert image in ran(busybox, "image", "prune", "-f")[0]


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_the_image_of_a_container_with_a_damaged_document_stays(
    busybox: Store, tmp_path: Path, damage: str
) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(busybox, "load", "-i", str(tmp_path / "small.tar"))
    ran(busybox, "create", "--name", "one", "busybox", "true")
    engine = sandbox.Engine()
    (container,) = engine.containers(all=True)
    document = Path(container.folder) / "container.json"
    whole = document.read_bytes()
    document.write_bytes(whole[:-20] if damage == "cut" else b"")

    out, _err = ran(busybox, "image", "prune", "-a", "-f")

    # What an empty document needed cannot be known: then everything stays.
    left = {name for image in engine.images() for name in image.names}
    assert left == {"busybox:latest"} | ({"small:latest"} if damage == "empty" else set())
    assert ("untagged: small:latest" in out) == (damage == "cut")
    _out, err = ran(busybox, "rmi", "busybox", code=1)
    assert f"`sandbox rm -f {container.id[:12]}`" in err
    assert "is damaged" in err
    document.write_bytes(whole)
    ran(busybox, "rm", "one")


def test_dangling_images_go_through_a_pipe(store: Store, tmp_path: Path) -> None:
    for number, parts in enumerate((archives.small(), archives.many_layers(2))):
        (tmp_path / f"{number}.tar").write_bytes(parts.oci_archive())
        ran(store, "load", "-i", str(tmp_path / f"{number}.tar"))
    assert len(sandbox.Engine().images()) == 2

    dangling, _err = ran(store, "images", "-q", "--filter", "dangling=true")
    assert len(dangling.split()) == 1
    assert ran(store, "rmi", *dangling.split())[0].startswith("Deleted: sha256:")

    assert [image.names for image in sandbox.Engine().images()] == [("small:latest",)]
