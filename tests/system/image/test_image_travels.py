"""Images on their way: between stores, registries and archives, here and in another client."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import archives, registries

import sandbox

pytestmark = [requires.root, requires.program("docker-registry")]


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def ran(store: Store, *arguments: str) -> str:
    done = store.program(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def skopeo(*arguments: str) -> None:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", *arguments],
        capture_output=True,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def remove_everything(store: Store) -> None:
    ran(store, "system", "prune", "-a", "-f")
    for folder in ("blobs/sha256", "layers", "images/ids", "images/names", "staging"):
        assert os.listdir(store.root / folder) == [], folder


def test_only_the_new_layer_travels_to_a_second_repository_and_back(
    own_configuration: None, busybox: Store, registry: str
) -> None:
    with registries.serving(registries.Forward(registry)) as front:
        base, made = f"{front.host}/base:1", f"{front.host}/second:1"
        ran(busybox, "tag", "busybox", base)
        ran(busybox, "push", "-q", base)
        ran(busybox, "rmi", "busybox", base)
        ran(busybox, "pull", "-q", base)
        ran(busybox, "run", "--name", "one", base, "sh", "-c", "echo new > /made")
        ran(busybox, "commit", "one", "committed")
        ran(busybox, "tag", "committed", made)
        image = sandbox.Engine().image(made)
        new = image.layer_records[-1]
        travels = new.size + image.config_size + image.manifest_size
        front.forget()

        ran(busybox, "push", "-q", made)

        assert front.received_bytes == travels
        assert len(front.asked("mount=")) == len(image.layers) - 1
        ran(busybox, "rm", "one")
        remove_everything(busybox)
        assert ran(busybox, "run", "--rm", made, "cat", "/made") == "new\n"
        assert sandbox.Engine().image(made).manifest_digest == image.manifest_digest
        remove_everything(busybox)
        ran(busybox, "pull", "-q", base)
        front.forget()

        ran(busybox, "pull", "-q", made)

        asked = {each.path.rpartition("/")[2] for each in front.asked("/blobs/")}
        assert asked == {new.digest, image.id}
        assert 0 <= front.sent_bytes - travels <= 4  # what /v2/ says
        assert ran(busybox, "run", "--rm", made, "cat", "/made") == "new\n"


def test_every_way_keeps_every_digest(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small("zstd").oci_archive())
    name, engine = f"{registry}/ways:1", sandbox.Engine()
    engine.load(str(tmp_path / "small.tar"))
    engine.tag("small", name)
    ran(store, "rmi", "small")
    before = engine.image(name)

    ran(store, "save", "-o", str(tmp_path / "saved.tar"), name)
    remove_everything(store)
    ran(store, "load", "-i", str(tmp_path / "saved.tar"))
    assert engine.image(name) == before
    ran(store, "push", name)
    remove_everything(store)
    ran(store, "pull", name)

    after = engine.image(name)
    assert after.layer_records == before.layer_records
    assert (after.id, after.manifest_digest) == (before.id, before.manifest_digest)
    assert engine.check_images().problems == ()


@requires.program("skopeo")
def test_another_client_copies_what_we_push_and_we_pull_what_it_pushes(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    parts = archives.small()
    (tmp_path / "small.tar").write_bytes(parts.oci_archive())
    engine = sandbox.Engine()
    engine.load(str(tmp_path / "small.tar"))
    engine.tag("small", f"{registry}/ours:1")
    ours = engine.image("small")
    trees = [archives.tree(layer) for layer in ours.layers]
    engine.push(f"{registry}/ours:1")

    skopeo("--src-tls-verify=false", f"docker://{registry}/ours:1", f"oci:{tmp_path}/layout:1")
    skopeo(
        "--dest-tls-verify=false",
        "--format=v2s2",
        f"oci:{tmp_path}/layout:1",
        f"docker://{registry}/theirs:1",
    )
    skopeo(
        f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/docker.tar:example.org/archive:1"
    )
    shutil.copytree(tmp_path / "layout", tmp_path / "copied")
    remove_everything(store)

    engine.pull(f"{registry}/theirs:1")
    theirs = engine.image(f"{registry}/theirs:1")
    assert theirs.manifest_media_type.endswith("docker.distribution.manifest.v2+json")
    assert [x.diff_id for x in theirs.layer_records] == [x.diff_id for x in ours.layer_records]
    assert [archives.tree(layer) for layer in theirs.layers] == trees
    for source, named in (("docker.tar", "example.org/archive:1"), ("copied", "")):
        remove_everything(store)
        (loaded,) = engine.load(str(tmp_path / source))
        assert loaded.names == ((named,) if named else loaded.names)
        assert [archives.tree(x) for x in engine.image(loaded.image_id).layers] == trees
    assert engine.image(loaded.image_id).manifest_digest == registries.digest(parts.manifest)
