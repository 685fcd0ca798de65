"""save and history as programs: what is saved is loaded again, digest for digest."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import requires
from conftest import Store, program_path
from kit import archives

import sandbox


def ran(store: Store, *arguments: str, code: int = 0) -> tuple[str, str]:
    done = store.program(*arguments)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def small(store: Store, tmp_path: Path) -> Store:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    ran(store, "tag", "small", "small:2")
    return store


def test_what_was_saved_and_removed_is_the_same_after_a_load(small: Store, tmp_path: Path) -> None:
    before = sandbox.Engine().image("small")
    archive = str(tmp_path / "saved.tar")

    ran(small, "save", "-o", archive, "small")
    ran(small, "rmi", "-f", before.id)
    out, _err = ran(small, "load", "-i", archive)

    assert out.splitlines() == ["Loaded image: small:2", "Loaded image: small:latest"]
    after = sandbox.Engine().image("small")
    assert after == before


def test_a_tag_is_saved_alone_and_an_id_without_a_name(small: Store, tmp_path: Path) -> None:
    image = sandbox.Engine().image("small")
    by_tag, by_id = str(tmp_path / "tag.tar"), str(tmp_path / "id.tar")

    ran(small, "save", "-o", by_tag, "small:2")
    ran(small, "save", "-o", by_id, image.id[7:19])

    assert _docker(by_tag) == [["small:2"]]
    assert _docker(by_id) == [[]]


def test_the_same_images_give_the_same_archive(small: Store) -> None:
    first = small.program("save", "small")
    second = small.program("save", "small")

    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout


def test_a_save_of_something_unknown_writes_no_file(small: Store, tmp_path: Path) -> None:
    _out, err = ran(small, "save", "-o", str(tmp_path / "x.tar"), "small", "nosuch", code=1)

    assert err.splitlines()[0] == "No such image: nosuch"
    assert [path for path in os.listdir(tmp_path) if path.startswith("x.tar")] == []


def test_a_save_onto_a_full_disk_is_one_sentence(small: Store) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [program_path(), "save", "small"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=small.environ,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.startswith(b"no space left on device")


def test_history_shows_the_layers_of_steps_and_the_id_of_the_last(small: Store) -> None:
    image = sandbox.Engine().image("small")
    steps = sandbox.Engine().history("small")

    out, _err = ran(small, "history", "--no-trunc", "--format", "{{.ID}}|{{.Size}}", "small")

    lines = out.splitlines()
    assert lines[0].startswith(f"{image.id}|")
    assert all(line.startswith("<missing>|") for line in lines[1:])
    assert sum(step.size for step in steps) == image.size
    assert ran(small, "history", "small")[0].splitlines()[0].split() == (
        "IMAGE CREATED CREATED BY SIZE COMMENT".split()
    )


def test_history_of_something_unknown_is_dockers_error(store: Store) -> None:
    assert "No such image: nosuch:latest" in ran(store, "history", "nosuch", code=1)[1]


@requires.program("skopeo")
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_another_client_reads_it_either_way(small: Store, tmp_path: Path, kind: str) -> None:
    archive = str(tmp_path / "saved.tar")
    ran(small, "save", "-o", archive, "small:2")
    source = f"{kind}:{archive}:small:2" if kind == "docker-archive" else f"{kind}:{archive}"

    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", source, f"dir:{tmp_path}/copied"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    manifest = json.loads((tmp_path / "copied" / "manifest.json").read_text())
    assert len(manifest["layers"]) == len(sandbox.Engine().image("small").layers)


def _docker(path: str) -> list[list[str]]:
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        return [item["RepoTags"] for item in json.load(file)]
