from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import requires
from kit import archives
from kit.archives import Parts

from sandbox.errors import (
    DamagedArchive,
    DamagedDocument,
    DigestMismatch,
    ImageNotFound,
    InvalidReference,
    StoreError,
    UsageError,
)
from sandbox.image.archive import load
from sandbox.image.importing import import_rootfs
from sandbox.image.pack import file, layer_tar
from sandbox.image.store import ImageStore
from sandbox.oci import reference

pytestmark = requires.root
Write = Callable[[bytes], str]


@pytest.fixture
def loaded(image_store: ImageStore, written: Write, parts: Parts) -> ImageStore:
    load(image_store, written(parts.oci_archive()))
    return image_store


def document(store: ImageStore, folder: str) -> Path:
    (path,) = Path(store.paths.images, folder).iterdir()
    return path


def test_image_is_found_by_name_and_id(loaded: ImageStore, parts: Parts) -> None:
    hexadecimal = parts.image_id[7:]

    for text in (
        "small",
        "small:latest",
        "docker.io/library/small",
        parts.image_id,
        hexadecimal,
        hexadecimal[:12],
        f"sha256:{hexadecimal[:12]}",
        f"small@{archives.digest(parts.manifest)}",
        f"small:latest@{archives.digest(parts.manifest)}",
    ):
        assert loaded.resolve(text).id == parts.image_id, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "No such image: nosuch:latest"),
        ("nosuch:tag", "No such image: nosuch:tag"),
        ("small:other", "No such image: small:other"),
        ("127.0.0.1:5000/none", "No such image: 127.0.0.1:5000/none:latest"),
        (f"small@sha256:{'0' * 64}", f"No such image: small@sha256:{'0' * 64}"),
        ("f" * 64, f"No such image: {'f' * 64}"),
        (f"sha256:{'f' * 64}", f"No such image: sha256:{'f' * 64}"),
    ],
)
def test_missing_image_is_said_in_dockers_words(
    text: str, message: str, loaded: ImageStore
) -> None:
    with pytest.raises(ImageNotFound) as caught:
        loaded.resolve(text)

    assert str(caught.value) == message


def test_empty_store_has_no_images(image_store: ImageStore) -> None:
    assert image_store.images() == ()
    assert image_store.sweep_staging() == ()
    assert image_store.collect() == ()
    with pytest.raises(ImageNotFound):
        image_store.resolve("x")
    assert not os.path.exists(image_store.paths.root)


def test_bad_reference_is_refused(loaded: ImageStore) -> None:
    with pytest.raises(InvalidReference, match="must be lowercase"):
        loaded.resolve("UPPER/case")


def test_beginning_of_two_ids_is_refused(image_store: ImageStore, written: Write) -> None:
    seen: dict[str, str] = {}
    number = 0
    while True:
        parts = Parts([], name=f"docker.io/library/n{number}:1", changes={"author": str(number)})
        load(image_store, written(parts.oci_archive()))
        first = parts.image_id[7]
        if first in seen:
            break
        seen[first] = parts.image_id
        number += 1

    with pytest.raises(UsageError, match="multiple images"):
        image_store.resolve(first)


def test_name_comes_before_id(loaded: ImageStore, parts: Parts, written: Write) -> None:
    other = Parts([], name=f"docker.io/library/{parts.image_id[7:15]}:latest")
    load(loaded, written(other.oci_archive()))

    assert loaded.resolve(parts.image_id[7:15]).id == other.image_id


def test_names_are_given_and_taken(loaded: ImageStore, parts: Parts) -> None:
    loaded.tag(parts.image_id, "host:5000/a/b:1")

    assert loaded.resolve("small").names == ("small:latest", "host:5000/a/b:1")
    assert loaded.resolve("small", all_names=False).names == ("small:latest",)
    assert loaded.untag("small") == "small:latest"
    assert loaded.resolve(parts.image_id).names == ("host:5000/a/b:1",)
    with pytest.raises(ImageNotFound):
        loaded.resolve("small")
    with pytest.raises(ImageNotFound):
        loaded.untag("small")


def test_name_of_an_image_that_is_not_there_is_refused(loaded: ImageStore) -> None:
    with pytest.raises(ImageNotFound):
        loaded.tag(f"sha256:{'0' * 64}", "x")


def test_name_to_give_must_be_lowercase(loaded: ImageStore, parts: Parts) -> None:
    with pytest.raises(InvalidReference, match=r"\(library/X\) must be lowercase"):
        loaded.tag(parts.image_id, "X:1")


def test_very_long_name_is_kept(loaded: ImageStore, parts: Parts) -> None:
    name = "h.example/" + "n" * 240 + ":" + "t" * 128

    loaded.tag(parts.image_id, name)

    assert loaded.resolve(name).id == parts.image_id
    assert name in loaded.resolve("small").names


def test_images_are_listed_newest_first(image_store: ImageStore, written: Write) -> None:
    for year in (2021, 2023, 2022):
        parts = Parts(
            [], name=f"docker.io/library/y:{year}", changes={"created": f"{year}-01-01T00:00:00Z"}
        )
        load(image_store, written(parts.oci_archive()))

    assert [image.names[0] for image in image_store.images()] == ["y:2023", "y:2022", "y:2021"]


def test_delete_takes_everything(loaded: ImageStore, parts: Parts) -> None:
    loaded.tag(parts.image_id, "other:1")

    gone = loaded.delete(parts.image_id)

    assert gone.untagged == ("other:1", "small:latest")
    assert gone.deleted[0] == parts.image_id
    assert len(gone.deleted) == 4
    assert loaded.images() == ()
    assert everything(loaded) == set()


def test_delete_keeps_what_another_image_needs(
    loaded: ImageStore, written: Write, parts: Parts
) -> None:
    other = Parts(parts.tars[:2], name="docker.io/library/other:1")
    load(loaded, written(other.oci_archive()))

    loaded.delete(parts.image_id)

    image = loaded.resolve("other:1")
    assert len(os.listdir(loaded.paths.layers)) == 2
    assert {x for x in everything(loaded) if "blobs" in x} == {
        loaded.blob_path(x)
        for x in (image.id, image.manifest_digest, *(y.digest for y in image.layer_records))
    }


def test_an_image_that_must_stay_stays_with_its_names(loaded: ImageStore, parts: Parts) -> None:
    before = everything(loaded), loaded.resolve("small")
    asked: list[tuple[str, ...]] = []

    def must_stay(names: tuple[str, ...]) -> bool:
        asked.append(names)
        return True

    assert loaded.delete(parts.image_id, must_stay) is None

    assert asked == [("small:latest",)]
    assert (everything(loaded), loaded.resolve("small")) == before


def test_a_name_given_during_a_removal_waits_for_its_end(loaded: ImageStore, parts: Parts) -> None:
    failures: list[ImageNotFound] = []

    def name_it() -> None:
        try:
            loaded.tag(parts.image_id, "late:1")
        except ImageNotFound as error:
            failures.append(error)

    thread = Thread(target=name_it)

    def must_stay(names: tuple[str, ...]) -> bool:
        thread.start()
        while not os.path.exists(loaded.name_path(reference.parse("late:1"))):
            time.sleep(0.001)
        return "late:1" in names

    gone = loaded.delete(parts.image_id, must_stay)

    thread.join()
    assert gone is not None
    assert len(failures) == 1
    assert loaded.images() == ()


def test_a_removal_that_died_before_its_end_is_undone(loaded: ImageStore, parts: Parts) -> None:
    program = (
        "import os, sys; from sandbox.image.store import ImageStore;"
        "from sandbox.paths import Paths;"
        "store = ImageStore(Paths(root=sys.argv[1], run=sys.argv[1]));"
        "store.delete(sys.argv[2], lambda names: os._exit(7))"
    )
    before = everything(loaded)
    for look in (lambda: loaded.resolve("small"), loaded.sweep_staging):
        done = subprocess.run(
            [sys.executable, "-c", program, loaded.paths.root, parts.image_id], check=False
        )
        assert done.returncode == 7

        look()

        assert loaded.resolve("small").id == parts.image_id
        loaded.sweep_staging()
        assert everything(loaded) == before
        assert loaded.resolve("small").names == ("small:latest",)


def test_delete_during_a_load_is_finished_by_a_sweep(loaded: ImageStore, parts: Parts) -> None:
    with loaded.locked(shared=True):
        loaded.delete(parts.image_id)
        assert loaded.images() == ()
        assert loaded.sweep_staging() == ()
        assert len(os.listdir(loaded.paths.layers)) == 3

    assert len(loaded.sweep_staging()) == 1
    assert everything(loaded) == set()


def test_load_after_delete_finds_its_way(loaded: ImageStore, parts: Parts, written: Write) -> None:
    loaded.delete(parts.image_id)

    load(loaded, written(parts.docker_archive()))

    assert loaded.resolve("small").id == parts.image_id


def test_name_without_an_image_is_not_there_and_is_collected(
    loaded: ImageStore, parts: Parts
) -> None:
    document(loaded, "ids").unlink()

    assert loaded.images() == ()
    with pytest.raises(ImageNotFound):
        loaded.resolve("small")
    assert "name small:latest" in loaded.collect()
    assert everything(loaded) == set()
    assert os.listdir(f"{loaded.paths.images}/names") == []


def test_same_image_with_other_blobs_takes_their_place(
    loaded: ImageStore, parts: Parts, written: Write
) -> None:
    other = Parts(parts.tars, "zstd")

    load(loaded, written(other.oci_archive()))

    image = loaded.resolve(f"small@{archives.digest(other.manifest)}")
    assert image.id == parts.image_id == other.image_id
    assert {x for x in everything(loaded) if "/layers/" not in x} == {
        loaded.blob_path(x)
        for x in (image.id, image.manifest_digest, *(y.digest for y in image.layer_records))
    }


def test_other_compression_of_a_known_layer_must_be_that_layer(
    loaded: ImageStore, parts: Parts, written: Write
) -> None:
    """The tree is the known one's, but a push would send the other."""
    other = Parts(parts.tars[:1], "zstd", name="docker.io/library/other:1")
    files = other.layout()
    good = other.layers[0]
    bad = archives.zstd(parts.tars[0].replace(b"lower", b"other"))
    manifest = other.manifest.replace(archives.digest(good).encode(), archives.digest(bad).encode())
    files[f"blobs/sha256/{archives.digest(bad)[7:]}"] = bad
    files[f"blobs/sha256/{archives.digest(manifest)[7:]}"] = manifest
    files["index.json"] = files["index.json"].replace(
        archives.digest(other.manifest).encode(), archives.digest(manifest).encode()
    )

    with pytest.raises(DigestMismatch, match="DiffID"):
        load(loaded, written(archives.tar_of(files)))


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"{}", b'{"version":1}', b"\xff"])
def test_damaged_name_is_set_aside_and_the_rest_goes_on(
    content: bytes, loaded: ImageStore, parts: Parts
) -> None:
    loaded.tag(parts.image_id, "other:1")
    Path(loaded.paths.images, "names/docker.io+library+small:latest.json").write_bytes(content)

    (image,) = loaded.images()

    assert image.names == ("other:1",)
    assert len(loaded.damaged()) == 1
    assert isinstance(loaded.problems[0], DamagedDocument)
    assert loaded.damaged()[0] in loaded.problems[0].hint
    with pytest.raises(ImageNotFound):
        loaded.resolve("small")


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b.replace(b"sha256", b"md5")]
)
def test_damaged_image_is_set_aside_and_a_load_mends_it(
    spoil: Callable[[bytes], bytes], loaded: ImageStore, parts: Parts, written: Write
) -> None:
    path = document(loaded, "ids")
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(DamagedDocument):
        loaded.resolve("small")
    assert loaded.images() == ()
    assert len(loaded.damaged()) == 1
    assert loaded.collect() == ()  # what the damaged one needed is not known

    load(loaded, written(parts.oci_archive()))
    assert loaded.resolve("small").id == parts.image_id


def test_document_of_a_later_version_is_left_alone(loaded: ImageStore) -> None:
    path = document(loaded, "ids")
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))

    with pytest.raises(StoreError, match="version is 9"):
        loaded.resolve("small")

    assert path.exists()
    assert loaded.collect() == ()


def test_missing_layer_is_said_and_a_load_mends_it(
    loaded: ImageStore, parts: Parts, written: Write
) -> None:
    layer = loaded.resolve("small").layers[1]
    os.rename(os.path.dirname(layer), f"{loaded.paths.root}/elsewhere")

    with pytest.raises(StoreError, match="is missing"):
        loaded.resolve("small")

    load(loaded, written(parts.oci_archive()))
    assert os.path.isdir(loaded.resolve("small").layers[1])


def test_store_is_for_its_owner_alone(loaded: ImageStore) -> None:
    for path in (loaded.paths.root, loaded.paths.layers, loaded.paths.blobs, loaded.paths.images):
        assert os.stat(path).st_mode & 0o7777 == 0o700
    assert os.stat(loaded.resolve("small").layers[0]).st_mode & 0o7777 == 0o755


# import


def imported(store: ImageStore, content: bytes, name: str = "imp:1", **options: object) -> str:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    try:
        return import_rootfs(store, read, name, **options)  # type: ignore[arg-type]
    finally:
        os.close(read)


@pytest.mark.parametrize("compression", archives.PACK)
def test_rootfs_is_imported(compression: str, image_store: ImageStore) -> None:
    content = layer_tar([file("etc/x", b"hi")])

    image_id = imported(
        image_store,
        archives.PACK[compression](content),
        changes=['CMD ["/bin/sh"]', "ENV A=1"],
        message="by hand",
    )

    image = image_store.resolve("imp:1")
    assert image.id == image_id
    assert image.config.cmd == ("/bin/sh",)
    assert image.config.env == ("A=1",)
    assert (Path(image.layers[0]) / "etc/x").read_bytes() == b"hi"
    assert b"by hand" in image_store.read_blob(image_id)
    assert os.listdir(image_store.paths.staging) == []


@pytest.mark.parametrize("content", [b"junk\n", b"", b"x" * 600])
def test_import_of_text_is_refused_in_dockers_words(
    content: bytes, image_store: ImageStore
) -> None:
    with pytest.raises(DamagedArchive, match=r"^Error processing tar file\(exit status 1\): "):
        imported(image_store, content)

    assert everything(image_store) == set()


def test_import_under_a_bad_name_reads_nothing(image_store: ImageStore) -> None:
    with pytest.raises(InvalidReference):
        imported(image_store, b"", "X")

    assert not os.path.exists(image_store.paths.root)


def everything(store: ImageStore) -> set[str]:
    """Whatever takes room: layers, blobs, staging, documents."""
    found = set()
    for root in (store.paths.layers, f"{store.paths.blobs}/sha256", store.paths.staging):
        if os.path.exists(root):
            found |= {f"{root}/{name}" for name in os.listdir(root)}
    return found
