"""A bound for what images take of the disk: who goes, and who never does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import archives

import sandbox

pytestmark = [requires.root]

KIB = 1 << 10


def archive(folder: Path, number: int) -> str:
    """An image of some 600 KiB that shares nothing with another."""
    parts = archives.Parts(
        [archives.layer_tar([archives.file("f", os.urandom(300 * KIB))])],
        name=f"docker.io/library/image:{number}",
    )
    path = folder / f"{number}.tar"
    path.write_bytes(parts.oci_archive())
    return str(path)


def names(engine: sandbox.Engine) -> set[str]:
    return {name.partition(":")[2] for image in engine.images() for name in image.names}


def age(engine: sandbox.Engine, number: int, hours: float) -> None:
    moment = time.time() - 3600 * hours
    os.utime(engine.store.id_path(engine.image(f"image:{number}").id), (moment, moment))


@pytest.fixture
def three(store: Store, tmp_path: Path) -> sandbox.Engine:
    engine = sandbox.Engine(image_budget=f"{3 * 700}k")
    for number in (1, 2, 3):
        engine.load(archive(tmp_path, number))
        age(engine, number, 10 - number)
    assert names(engine) == {"1", "2", "3"}
    return engine


def test_what_was_not_used_for_longest_goes_when_another_comes(
    three: sandbox.Engine, tmp_path: Path
) -> None:
    three.load(archive(tmp_path, 4))

    assert names(three) == {"2", "3", "4"}
    three.create("image:2", ["x"]).remove()  # a use
    three.load(archive(tmp_path, 5))
    assert names(three) == {"2", "4", "5"}
    usage = three.usage()
    assert usage.image_bytes <= 3 * 700 * KIB
    removed = [event.action for event in three.events(since_ns=0, filters={"type": ["image"]})]
    assert removed.count("delete") == 2


def test_the_image_of_a_container_never_goes(three: sandbox.Engine, tmp_path: Path) -> None:
    container = three.create("image:1", ["x"])
    age(three, 1, 20)

    three.load(archive(tmp_path, 4))
    assert names(three) == {"1", "3", "4"}
    other = sandbox.Engine(image_budget=1)
    (last,) = other.load(archive(tmp_path, 5))

    # Over the budget, and yet it has come.
    assert names(three) == {"1", "5"}
    assert other.image("image:5").id == last.image_id
    container.remove()


def test_a_budget_comes_from_the_environment_and_is_a_size(
    three: sandbox.Engine, store: Store, tmp_path: Path
) -> None:
    done = store.program("load", "-i", archive(tmp_path, 4), SANDBOX_IMAGE_BUDGET="1400k")
    assert done.returncode == 0, done.stderr.decode()
    assert names(three) == {"3", "4"}

    done = store.program("load", "-i", archive(tmp_path, 5), SANDBOX_IMAGE_BUDGET="much")

    assert done.returncode == 1
    assert done.stderr.decode() == "SANDBOX_IMAGE_BUDGET: invalid size: 'much'\n"
    assert names(three) == {"3", "4"}


def test_shared_layers_go_with_the_last_of_their_images(store: Store, tmp_path: Path) -> None:
    engine = sandbox.Engine()
    base = archives.layer_tar([archives.file("f", os.urandom(300 * KIB))])
    for number in (1, 2):
        own = archives.layer_tar([archives.file(f"own{number}", bytes([number]))])
        parts = archives.Parts([base, own], name=f"docker.io/library/image:{number}")
        (tmp_path / "x.tar").write_bytes(parts.oci_archive())
        engine.load(str(tmp_path / "x.tar"))
        age(engine, number, 10 - number)

    assert engine.keep_to_budget() == ()
    assert len(sandbox.Engine(image_budget="100k").keep_to_budget()) == 2
    for folder in ("blobs/sha256", "layers", "images/ids", "images/names"):
        assert os.listdir(store.root / folder) == []
