"""Loads at the same time, loads that die, loads without space."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from kit import archives
from kit.archives import Parts

from sandbox.errors import StoreFull
from sandbox.image.archive import load
from sandbox.image.pack import file, layer_tar
from sandbox.image.store import ImageStore
from sandbox.paths import Paths

pytestmark = requires.root
Write = Callable[[bytes], str]

LOADER = """
import sys
sys.path.insert(0, sys.argv[1])
from sandbox.image.archive import load
from sandbox.image.store import ImageStore
from sandbox.paths import Paths
store = ImageStore(Paths(root=sys.argv[2], run=sys.argv[2] + "/run"))
print("ready", flush=True)
sys.stdin.readline()
store.sweep_staging()
print(load(store, sys.argv[3])[0].image_id)
"""
CHECKOUT = str(Path(__file__).parents[3])


def loader(store: ImageStore, archive: str) -> subprocess.Popen[bytes]:
    """A process that is about to load, and waits for its cue."""
    made = subprocess.Popen(
        [sys.executable, "-I", "-c", LOADER, CHECKOUT, store.paths.root, archive],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert made.stdout is not None
    assert made.stdout.readline() == b"ready\n"
    return made


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def large(layers: int = 4, *, files: int = 300) -> Parts:
    return Parts(
        [
            layer_tar([file(f"d{layer}/f{n}", f"{layer} {n}".encode() * 200) for n in range(files)])
            for layer in range(layers)
        ]
    )


def assert_whole(store: ImageStore, parts: Parts) -> None:
    image = store.resolve("small")
    assert image.id == parts.image_id
    assert sum(len(os.listdir(f"{x}/d{n}")) for n, x in enumerate(image.layers)) == 300 * 4
    assert_nothing_extra(store, 4)


def assert_nothing_extra(store: ImageStore, layers: int) -> None:
    store.sweep_staging()
    assert os.listdir(store.paths.staging) == []
    assert len(os.listdir(store.paths.layers)) == layers
    assert len(os.listdir(f"{store.paths.blobs}/sha256")) == (layers + 2 if layers else 0)


def test_four_loads_of_one_archive_at_once_all_succeed(
    image_store: ImageStore, written: Write
) -> None:
    parts = large()
    archive = written(parts.oci_archive())
    loaders = [loader(image_store, archive) for _ in range(4)]

    for process in loaders:
        go(process)
    results = [process.communicate(timeout=60) for process in loaders]

    assert [out.decode().strip() for out, _ in results] == [parts.image_id] * 4, results
    assert_whole(image_store, parts)


def test_loads_of_images_that_share_layers_at_once_all_succeed(
    image_store: ImageStore, written: Write
) -> None:
    parts = large()
    others = [Parts(parts.tars[: n + 1], name=f"docker.io/library/o:{n}") for n in range(3)]
    loaders = [loader(image_store, written(x.oci_archive())) for x in (parts, *others)]

    for process in loaders:
        go(process)
    results = [process.communicate(timeout=60) for process in loaders]

    assert all(process.returncode == 0 for process in loaders), results
    assert image_store.resolve("o:2").layers == image_store.resolve("small").layers[:3]
    assert len(os.listdir(image_store.paths.layers)) == 4


def test_loads_and_removals_at_once_leave_a_whole_store(
    image_store: ImageStore, written: Write
) -> None:
    parts = large(2, files=50)
    archive = written(parts.oci_archive())
    for _ in range(5):
        loaders = [loader(image_store, archive) for _ in range(3)]
        for process in loaders:
            go(process)
        while any(process.poll() is None for process in loaders):
            if image_store.has(parts.image_id):
                image_store.delete(parts.image_id)
            time.sleep(0.001)
        for process in loaders:
            out, err = process.communicate()
            assert process.returncode == 0, err
            assert out.decode().strip() == parts.image_id
        found = image_store.images()
        assert_nothing_extra(image_store, 2 if found else 0)


def test_load_that_is_killed_anywhere_leaves_nothing(
    image_store: ImageStore, written: Write
) -> None:
    parts = large()
    archive = written(parts.oci_archive())
    started = time.monotonic()
    whole = loader(image_store, archive)
    go(whole)
    whole.communicate(timeout=60)
    length_s = time.monotonic() - started
    image_store.delete(parts.image_id)

    rounds = 20
    for number in range(rounds):
        process = loader(image_store, archive)
        go(process)
        time.sleep(length_s * number / rounds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        image_store.sweep_staging()
        if image_store.images():
            assert_whole(image_store, parts)
            image_store.delete(parts.image_id)
        assert_nothing_extra(image_store, 0)

    load(image_store, archive)
    assert_whole(image_store, parts)


def test_load_that_is_interrupted_leaves_nothing(image_store: ImageStore, written: Write) -> None:
    archive = written(large(8, files=2000).oci_archive())
    process = loader(image_store, archive)

    go(process)
    while not os.path.exists(image_store.paths.staging) or not os.listdir(
        image_store.paths.staging
    ):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)

    assert b"KeyboardInterrupt" in error
    assert os.listdir(image_store.paths.staging) == []
    assert os.listdir(image_store.paths.layers) == []


def test_sweep_leaves_the_living_and_others_alone(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    from sandbox.image.staging import Staging

    image_store.make_folders()
    os.mkdir(f"{image_store.paths.staging}/of-another-part")
    with Staging.create(image_store.paths.staging) as living:
        assert image_store.sweep_staging() == ()
        assert os.path.isdir(living.path)

    assert os.listdir(image_store.paths.staging) == ["of-another-part"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("kind", ["oci_archive", "docker_archive"])
@pytest.mark.parametrize("way", ["file", "gzip"])
def test_load_without_space_says_so_and_gives_it_back(
    kind: str, way: str, small_disk: Path, written: Write
) -> None:
    store = ImageStore(Paths(root=f"{small_disk}/root", run=f"{small_disk}/run"))
    load(store, written(archives.small().oci_archive()))
    before = shutil.disk_usage(small_disk).used
    content = getattr(archives.small(filler=6 << 20), kind)()
    if way == "gzip":
        content = archives.PACK["gzip"](content)

    with pytest.raises(StoreFull) as caught:
        load(store, written(content))

    assert str(caught.value) == f"no space left on device: {store.paths.root}"
    assert shutil.disk_usage(small_disk).used <= before + 65536
    assert store.resolve("small").id == archives.small().image_id


def test_load_at_any_size_of_disk_is_whole_or_nothing(small_disk: Path, written: Write) -> None:
    parts = archives.small(filler=200_000)
    archive = written(parts.oci_archive())
    for free in range(0, 700, 50):
        filler = small_disk / "filler"
        filler.write_bytes(bytes(max((4 << 20) - (free << 10) - 65536, 0)))
        store = ImageStore(Paths(root=f"{small_disk}/root", run=f"{small_disk}/run"))
        try:
            load(store, archive)
        except StoreFull:
            assert store.images() == ()
        filler.unlink()
        if store.images():
            assert store.resolve("small").id == parts.image_id
            store.delete(parts.image_id)
        if os.path.exists(store.paths.staging):
            assert_nothing_extra(store, 0)
            shutil.rmtree(store.paths.root)
