"""Documents, locks, names and container records."""

import os
from pathlib import Path

import pytest

from sandbox.errors import (
    ContainerNotFound,
    DamagedDocument,
    NameInUse,
    UsageError,
    VolumeNotFound,
)
from sandbox.paths import Paths
from sandbox.record import replace
from sandbox.state import containers, lock, names, tree, volumes
from sandbox.state.document import read_document, replace_document, set_aside


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    for folder in (made.containers, made.names, made.staging, made.volumes):
        os.makedirs(folder)
    return made


def record(paths: Paths, container_id: str, name: str) -> containers.ContainerRecord:
    os.mkdir(paths.container(container_id))
    made = containers.ContainerRecord(
        id=container_id,
        name=name,
        created_ns=1,
        image="busybox",
        image_id="",
        argv=("sh",),
        auto_remove=False,
        made_to_run=False,
        labels=(("a", "b"),),
        options={"memory": 5},
    )
    containers.write(paths, made, durable=False)
    names.take(paths, name, container_id)
    return made


def test_a_document_is_replaced_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "doc.json")
    replace_document(path, {"a": 1})
    replace_document(path, {"b": [1, "x"]}, durable=True)

    assert read_document(path) == {"b": [1, "x"]}
    assert os.listdir(tmp_path) == ["doc.json"]


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"nul", b'{"a": NaN}', b"\xff", b'{"a":1,"a":2}']
)
def test_a_damaged_document_is_named_and_set_aside(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "doc.json"
    path.write_bytes(text)

    with pytest.raises(DamagedDocument) as raised:
        read_document(str(path))
    assert raised.value.what == str(path)

    aside = set_aside(str(path))
    assert Path(aside).read_bytes() == text
    assert not path.exists()


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "doc.json"
    path.write_bytes(b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}")

    with pytest.raises(DamagedDocument, match="nested deeper"):
        read_document(str(path))


def test_a_lock_is_held_until_its_last_holder_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = lock.take(path)
    shared = os.dup(held.fd)

    held.close()
    assert lock.is_held(path)
    assert lock.try_take(path) is None

    os.close(shared)
    assert not lock.is_held(path)


def test_a_name_has_one_owner(paths: Paths) -> None:
    record(paths, "a" * 64, "web")

    with pytest.raises(NameInUse) as raised:
        names.take(paths, "web", "b" * 64)

    assert raised.value.owner == "a" * 64


def test_a_name_whose_container_is_gone_is_free(paths: Paths) -> None:
    names.take(paths, "web", "a" * 64)

    names.take(paths, "web", "b" * 64)

    assert names.owner(paths, "web") == "b" * 64


def test_a_name_is_released_by_its_owner_alone(paths: Paths) -> None:
    names.take(paths, "web", "a" * 64)

    names.release(paths, "web", "b" * 64)
    assert names.owner(paths, "web") == "a" * 64

    names.release(paths, "web", "a" * 64)
    assert names.owner(paths, "web") is None


def test_a_record_survives_its_document(paths: Paths) -> None:
    made = record(paths, "a" * 64, "web")

    assert containers.read(paths, "a" * 64) == made


@pytest.mark.parametrize("text", ["web", "/web", "a" * 64, "aaaa"])
def test_a_container_is_found_by_name_id_and_prefix(paths: Paths, text: str) -> None:
    record(paths, "a" * 64, "web")
    record(paths, "b" * 64, "db")

    assert containers.find(paths, text) == "a" * 64


@pytest.mark.parametrize("text", ["", "nosuch", "..", "a/b", "cc"])
def test_what_is_not_there_is_not_found(paths: Paths, text: str) -> None:
    record(paths, "a" * 64, "web")

    with pytest.raises(ContainerNotFound):
        containers.find(paths, text)


def test_an_ambiguous_prefix_is_refused(paths: Paths) -> None:
    record(paths, "ab" + "0" * 62, "one")
    record(paths, "ab" + "1" * 62, "two")

    with pytest.raises(UsageError, match="Multiple IDs found"):
        containers.find(paths, "ab")


def test_a_record_of_another_container_is_damaged(paths: Paths) -> None:
    record(paths, "a" * 64, "web")
    os.rename(paths.container("a" * 64), paths.container("c" * 64))

    with pytest.raises(DamagedDocument):
        containers.read(paths, "c" * 64)


def test_a_small_tree_is_removed_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("x")
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").write_text("x")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert tree.remove_small(fd, "tree")
        assert tree.remove_small(fd, "tree")
    finally:
        os.close(fd)

    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (tmp_path / "outside" / "kept").exists()


def test_a_large_tree_is_left_to_the_native_module(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / "tree" / str(number)).write_text("")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not tree.remove_small(fd, "tree", budget=10)
    finally:
        os.close(fd)


def test_a_volume_is_made_once_and_read_as_it_was_written(paths: Paths) -> None:
    wanted = volumes.VolumeRecord(
        name="data", created_ns=5, labels=(("a", "b"),), options=(("type", "none"),), anonymous=True
    )

    assert volumes.make(paths, wanted, durable=True)
    assert not volumes.make(paths, replace(wanted, created_ns=6), durable=False)

    assert volumes.read(paths, "data") == wanted
    assert volumes.names(paths) == ["data"]
    assert sorted(os.listdir(paths.volume("data"))) == ["_data", "lock", "volume.json"]
    assert os.listdir(paths.staging) == []
    for name in ("other", "..", "../staging", "data/_data"):
        with pytest.raises(VolumeNotFound):
            volumes.read(paths, name)


def test_a_volume_without_a_document_is_an_early_one(paths: Paths) -> None:
    os.makedirs(f"{paths.volume('early')}/_data")

    assert volumes.read(paths, "early").driver == "local"
    assert not volumes.make(paths, volumes.VolumeRecord(name="early", created_ns=1), durable=False)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "name": "data"}', '{"version": 1, "name": "other"}']
)
def test_a_damaged_volume_document_is_said_to_be(paths: Paths, text: str) -> None:
    volumes.make(paths, volumes.VolumeRecord(name="data", created_ns=5), durable=False)
    Path(paths.volume("data"), "volume.json").write_text(text)

    with pytest.raises(DamagedDocument):
        volumes.read(paths, "data")


def test_users_of_volumes_are_the_containers_that_name_them(paths: Paths) -> None:
    first, second, damaged = ("a" * 64, "b" * 64, "c" * 64)
    mount = {"kind": "volume", "source": "data", "anonymous": True}
    bind = {"kind": "bind", "source": "other"}
    for container_id, mounts in ((first, [mount, bind]), (second, [mount, mount]), (damaged, [])):
        made = record(paths, container_id, f"name-{container_id[:4]}")
        containers.write(paths, replace(made, options={"volume": mounts}), durable=False)
    Path(paths.container(damaged), "container.json").write_text('{"source": "hidden"')

    found = volumes.users(paths, ["data", "other", "hidden"])

    assert {name: sorted(ids) for name, ids in found.items()} == {
        "data": [first, second],
        "other": [],
        "hidden": [damaged],
    }
    assert volumes.mounted_by({"volume": [mount, bind]}, anonymous=True) == ["data"]
