"""The promises of the store with numbers: flipped bytes, cut layers, deaths, bounded memory.

Seeds are fixed.  The suite takes a sample; SANDBOX_PROOF_ROUNDS=1000 the whole.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import archives, faults, registries
from kit import tarbytes as tar

from sandbox.errors import SandboxError
from sandbox.image.archive import load
from sandbox.image.credentials import Keyring, Realms
from sandbox.image.store import ImageStore
from sandbox.image.transfer import Remote, pull
from sandbox.image.web import Settings
from sandbox.oci.reference import parse

pytestmark = [requires.root, pytest.mark.slow]

ROUNDS = int(os.environ.get("SANDBOX_PROOF_ROUNDS", "60"))
SEED = 4
Write = Callable[[bytes], str]


def assert_nothing_is_kept(store: ImageStore) -> None:
    assert store.images() == ()
    for folder in (f"{store.paths.blobs}/sha256", store.paths.layers, store.paths.staging):
        assert not os.path.exists(folder) or os.listdir(folder) == []


def flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(
        settings=Settings(certificates=(), timeout_s=20, attempts=2, backoff_s=0.001),
        keyring=Keyring(str(tmp_path / "config.json")),
        realms=Realms(str(tmp_path / "realms.json")),
    )


@pytest.mark.timeout(900)
def test_any_flipped_byte_on_the_wire_is_refused(
    image_store: ImageStore, remote: Remote, parts: archives.Parts
) -> None:
    chance = random.Random(SEED)
    fake = registries.Fake(parts)
    blobs = (parts.manifest, parts.config, *parts.layers)
    places = [f"/blobs/{registries.digest(blob)}" for blob in blobs[1:]]
    spoilt = registries.instead(lambda content: flip(content, chance))
    with registries.serving(fake) as server:
        # By its digest: what a tag means, nobody but the registry says.
        name = parse(f"{server.host}/image@{registries.digest(parts.manifest)}")
        for number in range(ROUNDS):
            fake.faults = {("/manifests/", *places)[number % (len(places) + 1)]: spoilt}
            with pytest.raises(SandboxError):
                pull(image_store, remote, name)
            assert_nothing_is_kept(image_store)
        fake.faults = {}
        assert pull(image_store, remote, name).image_id == parts.image_id


@pytest.mark.timeout(900)
@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_any_flipped_byte_of_a_blob_in_an_archive_is_refused(
    image_store: ImageStore, written: Write, parts: archives.Parts, compression: str
) -> None:
    chance = random.Random(SEED)
    parts.compression = compression
    files = parts.layout()
    blobs = sorted(name for name in files if name.startswith("blobs/"))
    for number in range(ROUNDS // 3 + 1):
        name = blobs[number % len(blobs)]
        path = written(archives.tar_of(files | {name: flip(files[name], chance)}))
        with pytest.raises(SandboxError):
            load(image_store, path)
        assert_nothing_is_kept(image_store)
        os.unlink(path)


def hundred_entries() -> bytes:
    entries = [tar.directory(b"d%d/" % n) + tar.file(b"d%d/f" % n, b"x" * n) for n in range(50)]
    return tar.archive(*entries)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_a_layer_cut_at_any_block_is_refused(
    image_store: ImageStore,
    written: Write,
    monkeypatch: pytest.MonkeyPatch,
    compression: str,
) -> None:
    parts = archives.Parts([hundred_entries()], compression)
    (layer,) = parts.layers
    for size in range(0, len(layer), 512):
        # Every digest but the DiffID is of what is left of it.
        monkeypatch.setitem(archives.PACK, compression, lambda _, size=size: layer[:size])
        path = written(parts.oci_archive())
        with pytest.raises(SandboxError):
            load(image_store, path)
        assert_nothing_is_kept(image_store)
        os.unlink(path)


@pytest.fixture
def small(store: Store, tmp_path: Path) -> tuple[Store, Path]:
    path = tmp_path / "small.tar"
    path.write_bytes(archives.small().oci_archive())
    return store, path


VERBS = {
    "load": ("load", "-i", "{archive}"),
    "tag": ("tag", "small", "other:1"),
    "rmi": ("rmi", "-f", "small"),
}


@pytest.mark.timeout(900)
@requires.program("strace")
@pytest.mark.parametrize("verb", VERBS)
def test_who_dies_at_any_rename_leaves_a_store_that_opens(
    small: tuple[Store, Path], tmp_path: Path, verb: str
) -> None:
    store, archive = small
    load_it = ("load", "-i", str(archive))
    command = [word.format(archive=archive) for word in VERBS[verb]]

    def begin() -> None:
        store.program("rmi", "-f", "small", "other:1")
        if verb != "load":
            assert store.program(*load_it).returncode == 0

    calls = ("rename", "renameat", "renameat2", "unlink", "fsync")
    begin()
    points = faults.points(store, tmp_path, command, calls, most=8)
    assert points
    for call, number in points:
        begin()
        faults.broken(store, tmp_path, command, call, f"signal=KILL:when={number}")

        # Whole or not there, and the next command finds its way.
        for image in store.program("images", "-q", "--no-trunc").stdout.split():
            done = store.program("image", "inspect", image.decode())
            assert done.returncode == 0, (call, number, done.stderr)
        assert store.program("image", "fsck").returncode == 0, (call, number)
        done = store.program(*load_it)
        assert done.returncode == 0, (call, number, done.stderr)
        assert json.loads(store.program("image", "inspect", "small").stdout)
        assert store.program("rmi", "-f", "small", "other:1")
        assert list((store.root / "layers").iterdir()) == [], (call, number)
        assert list((store.root / "blobs" / "sha256").iterdir()) == [], (call, number)


SIZE = int(os.environ.get("SANDBOX_PROOF_LAYER_MIB", "256")) << 20
PEAK_KIB = 150 << 10
LOADED = """
import re, sys
from sandbox.image.archive import load
from sandbox.image.store import ImageStore
from sandbox.paths import Paths
load(ImageStore(Paths(root=sys.argv[1], run=sys.argv[1])), sys.argv[2])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def big_layer() -> Iterator[bytes]:
    """One file that compresses to a hundredth and is no hole."""
    yield tar.file(b"big", b"", size=SIZE)
    chance = random.Random(SEED)
    for _ in range(SIZE >> 20):
        yield chance.randbytes(8192) + bytes((1 << 20) - 8192)
    yield tar.END


def test_memory_is_bounded_whatever_the_size_of_a_layer(tmp_path: Path) -> None:
    import hashlib

    plain, packed, size = hashlib.sha256(), zlib.compressobj(1, wbits=31), 0
    layer = tmp_path / "layer"
    with layer.open("wb") as file:
        for part in big_layer():
            plain.update(part)
            size += file.write(packed.compress(part))
        size += file.write(packed.flush())
    folder = tmp_path / "layout"
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with layer.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    layer.rename(blobs / name)
    parts = archives.Parts([], changes={"rootfs": {"diff_ids": [f"sha256:{plain.hexdigest()}"]}})
    config = parts.config
    item = {"mediaType": f"{archives.OCI}.layer.v1.tar+gzip", "digest": f"sha256:{name}"}
    manifest = json.loads(parts.manifest) | {"layers": [item | {"size": size}]}
    files = parts.layout()
    text = json.dumps(manifest).encode()
    index = json.loads(files["index.json"])
    index["manifests"][0] |= {"digest": archives.digest(text), "size": len(text)}
    archives.write_folder(
        {
            "oci-layout": files["oci-layout"],
            "index.json": json.dumps(index).encode(),
            f"blobs/sha256/{archives.digest(config)[7:]}": config,
            f"blobs/sha256/{archives.digest(text)[7:]}": text,
        },
        folder,
    )

    done = subprocess.run(
        [sys.executable, "-c", LOADED, tmp_path / "root", folder],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < PEAK_KIB
