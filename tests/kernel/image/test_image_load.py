from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requires
from kit import archives
from kit.archives import Parts

from sandbox.errors import (
    DamagedArchive,
    DigestMismatch,
    ImageError,
    SandboxError,
    UnsafeArchive,
    WrongPlatform,
)
from sandbox.image import layout
from sandbox.image.archive import load
from sandbox.image.pack import file, folder, layer_tar
from sandbox.image.store import ImageStore

pytestmark = requires.root
Write = Callable[[bytes], str]


def assert_small(store: ImageStore, name: str = "small") -> None:
    image = store.resolve(name)
    assert image.config.cmd == ("sh",)
    assert len(image.layers) == 3
    assert (Path(image.layers[0]) / "etc/a").read_bytes() == b"lower"
    assert (Path(image.layers[1]) / "etc/a").read_bytes() == b"upper"
    assert (Path(image.layers[0]) / "etc").stat().st_mode & 0o7777 == 0o750
    assert image.size == 3000 + 5 + 2 * (5 + 1)
    assert os.listdir(store.paths.staging) == []
    for digest in (image.id, image.manifest_digest, *(x.digest for x in image.layer_records)):
        assert archives.digest(Path(store.blob_path(digest)).read_bytes()) == digest


KINDS: dict[str, Callable[[Parts], bytes]] = {
    "oci": Parts.oci_archive,
    "docker": Parts.docker_archive,
    "docker25": Parts.modern_docker_archive,
}


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("kind", KINDS)
def test_archive_is_loaded(
    kind: str, compression: str, image_store: ImageStore, written: Write
) -> None:
    parts = archives.small(compression)

    loaded = load(image_store, written(KINDS[kind](parts)))

    assert [(item.names, item.image_id) for item in loaded] == [(("small:latest",), parts.image_id)]
    assert_small(image_store)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "bzip2", "xz"])
@pytest.mark.parametrize("kind", KINDS)
def test_archive_that_is_compressed_as_a_whole_is_loaded(
    kind: str, compression: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    load(image_store, written(archives.PACK[compression](KINDS[kind](parts))))

    assert_small(image_store)


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd", "bzip2", "xz"])
@pytest.mark.parametrize("kind", KINDS)
def test_archive_is_loaded_through_a_pipe(
    kind: str, compression: str, image_store: ImageStore, parts: Parts
) -> None:
    content = archives.PACK[compression](KINDS[kind](parts))

    with piped(content) as fd:
        load(image_store, fd)

    assert_small(image_store)


def test_layout_folder_is_loaded(image_store: ImageStore, parts: Parts, tmp_path: Path) -> None:
    load(image_store, str(archives.write_folder(parts.layout(), tmp_path / "layout")))

    assert_small(image_store)


def test_descriptor_is_read_from_where_it_stands(
    image_store: ImageStore, parts: Parts, written: Write
) -> None:
    with open(written(b"x" * 1000 + parts.oci_archive()), "rb") as archive:
        os.lseek(archive.fileno(), 1000, os.SEEK_SET)
        load(image_store, archive.fileno())

    assert_small(image_store)


def test_manifest_is_kept_as_it_came(image_store: ImageStore, parts: Parts, written: Write) -> None:
    load(image_store, written(parts.oci_archive()))

    image = image_store.resolve("small")
    assert image.manifest_digest == archives.digest(parts.manifest)
    assert image_store.read_blob(image.manifest_digest) == parts.manifest


def test_archive_without_a_name_is_loaded_by_id(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    parts.name = ""

    loaded = load(image_store, written(parts.oci_archive()))

    assert loaded[0].names == ()
    assert image_store.resolve(parts.image_id).names == ()


def test_second_load_takes_the_name_over(image_store: ImageStore, written: Write) -> None:
    one, two = archives.small(), archives.many_layers(2)
    load(image_store, written(one.oci_archive()))

    load(image_store, written(two.docker_archive()))

    assert image_store.resolve("small").id == two.image_id
    assert image_store.resolve(one.image_id).names == ()


def test_layers_are_shared_between_images(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    other = Parts(parts.tars[:2], "zstd", name="docker.io/library/other:1")
    load(image_store, written(parts.oci_archive()))

    load(image_store, written(other.oci_archive()))

    assert image_store.resolve("other:1").layers == image_store.resolve("small").layers[:2]
    assert len(os.listdir(image_store.paths.layers)) == 3


def test_hundred_layers_are_loaded(image_store: ImageStore, written: Write) -> None:
    load(image_store, written(archives.many_layers(100).oci_archive()))

    assert len(image_store.resolve("small").layers) == 100


def test_image_without_layers_is_loaded(image_store: ImageStore, written: Write) -> None:
    load(image_store, written(Parts([]).oci_archive()))

    assert image_store.resolve("small").layers == ()


def test_folder_that_a_layer_only_implies_keeps_what_it_is_below(
    image_store: ImageStore, written: Write
) -> None:
    lower = layer_tar([folder("home", mode=0o711), folder("home/me", mode=0o2700)])
    whited = layer_tar([file("gone/.wh.x")])
    bare = archives.tar_of({"home/me/file": b"x", "gone/y": b"y"})
    load(image_store, written(Parts([lower, whited, bare]).oci_archive()))

    top = Path(image_store.resolve("small").layers[2])

    assert (top / "home").stat().st_mode & 0o7777 == 0o711
    assert (top / "home/me").stat().st_mode & 0o7777 == 0o2700
    assert (top / "home/me").stat().st_mtime == 1_700_000_000


def test_folder_that_was_deleted_in_between_is_made_anew(
    image_store: ImageStore, written: Write
) -> None:
    lower = layer_tar([folder("home", mode=0o711), folder("opaque/in", mode=0o700)])
    gone = layer_tar([file(".wh.home"), file("opaque/.wh..wh..opq")])
    bare = archives.tar_of({"home/file": b"x", "opaque/in/file": b"x"})
    load(image_store, written(Parts([lower, gone, bare]).oci_archive()))

    top = Path(image_store.resolve("small").layers[2])

    assert (top / "home").stat().st_mode & 0o7777 == 0o755
    assert (top / "opaque/in").stat().st_mode & 0o7777 == 0o755


# What has to be refused.


def refused(store: ImageStore, archive: str, error: type[SandboxError] = ImageError) -> str:
    """Load, expect an error, and nothing stored."""
    store.make_folders()
    before = archives.tree(store.paths.root)
    with pytest.raises(error) as caught:
        load(store, archive)
    after = archives.tree(store.paths.root)
    after.pop("images/lock", None)
    before.pop("images/lock", None)
    assert after == before
    return str(caught.value)


def test_text_is_refused_in_dockers_words(image_store: ImageStore, written: Write) -> None:
    text = refused(image_store, written(b"junk\n"), DamagedArchive)

    assert text == "Error processing tar file(exit status 1): unexpected EOF"


def test_missing_file_is_refused(image_store: ImageStore) -> None:
    assert "no such file" in refused(image_store, "/nonexistent/archive")


@pytest.mark.parametrize(
    "manifest",
    [None, [], {}, "x", [None], [{}], [{"Config": 1}], [{"Config": "c", "Layers": "x"}],
     [{"Config": "c", "Layers": [1]}], [{"Config": "c", "RepoTags": ["UPPER"]}],
     [{"Config": "missing", "Layers": []}], [{"Config": "../../etc/passwd", "Layers": []}]],
)  # fmt: skip
def test_manifest_json_that_is_none_is_refused(
    manifest: object, image_store: ImageStore, written: Write
) -> None:
    members = {"manifest.json": json.dumps(manifest).encode(), "c": b"{}"}

    refused(image_store, written(archives.tar_of(members)))


def test_archive_of_something_else_is_refused_with_a_hint(
    image_store: ImageStore, written: Write
) -> None:
    with pytest.raises(DamagedArchive) as caught:
        load(image_store, written(archives.tar_of({"etc/passwd": b"x"})))

    assert "sandbox import" in caught.value.hint


@pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd", "loop", "nothing"])
def test_layer_that_is_a_link_out_of_the_archive_is_refused(
    target: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    members: dict[str, Any] = {"a/loop": "loop", "a/layer.tar": target, "c": parts.config}
    item = {"Config": "c", "Layers": ["a/layer.tar"] * 3}
    members["manifest.json"] = json.dumps([item]).encode()

    refused(image_store, written(archives.tar_of(members)))


def test_layout_folder_with_a_link_in_it_is_refused(
    image_store: ImageStore, parts: Parts, tmp_path: Path
) -> None:
    path = archives.write_folder(parts.layout(), tmp_path / "layout")
    (path / "index.json").rename(tmp_path / "elsewhere")
    (path / "index.json").symlink_to(tmp_path / "elsewhere")

    refused(image_store, str(path), UnsafeArchive)


def test_layout_folder_with_a_fifo_in_it_is_refused(
    image_store: ImageStore, parts: Parts, tmp_path: Path
) -> None:
    path = archives.write_folder(parts.layout(), tmp_path / "layout")
    (path / "index.json").unlink()
    os.mkfifo(path / "index.json")

    refused(image_store, str(path), UnsafeArchive)


def test_number_of_layers_that_differs_is_refused(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    parts.changes = {"rootfs": {"diff_ids": [archives.digest(parts.tars[0])]}}

    text = refused(image_store, written(parts.docker_archive()))

    assert text == "invalid manifest, layers length mismatch: expected 1, got 3"


@pytest.mark.parametrize("kind", KINDS)
def test_layer_that_is_not_its_diff_id_is_refused(
    kind: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    other = archives.digest(b"other")
    parts.changes = {"rootfs": {"diff_ids": [*(archives.digest(x) for x in parts.tars[:2]), other]}}

    refused(image_store, written(KINDS[kind](parts)), DigestMismatch)


@pytest.mark.parametrize("number", range(3))
def test_blob_that_is_not_its_digest_is_refused(
    number: int, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    files = parts.layout()
    name = sorted(x for x in files if x.startswith("blobs/"))[number]
    files[name] = bytes([files[name][0], *files[name][1:-1], files[name][-1] ^ 1])

    refused(image_store, written(archives.tar_of(files)), SandboxError)


def test_blob_of_another_size_is_refused(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    files = parts.layout()
    name = f"blobs/sha256/{archives.digest(parts.layers[0])[7:]}"
    files[name] += b"\0"

    assert "expected" in refused(image_store, written(archives.tar_of(files)))


def test_missing_blob_is_refused(image_store: ImageStore, written: Write, parts: Parts) -> None:
    files = parts.layout()
    del files[f"blobs/sha256/{archives.digest(parts.layers[0])[7:]}"]

    assert "missing" in refused(image_store, written(archives.tar_of(files)))


def test_artifact_is_not_an_image(image_store: ImageStore, written: Write, parts: Parts) -> None:
    manifest = parts.manifest.replace(b"image.config", b"thing.config")
    refused(image_store, written(archives.tar_of(relaid(parts, manifest))))


@pytest.mark.parametrize("size", [5 << 20])
def test_manifest_too_long_is_refused(
    size: int, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    manifest = parts.manifest + b" " * size

    refused(image_store, written(archives.tar_of(relaid(parts, manifest))), UnsafeArchive)


def test_index_nested_in_itself_too_deep_is_refused(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    files = parts.layout()
    media_type = f"{archives.OCI}.index.v1+json"
    index = files["index.json"]
    for _ in range(10):
        files[f"blobs/sha256/{archives.digest(index)[7:]}"] = index
        item = archives.descriptor(index, media_type)
        index = json.dumps({"schemaVersion": 2, "manifests": [item]}).encode()
    files["index.json"] = index

    assert "nested" in refused(image_store, written(archives.tar_of(files)))


@pytest.mark.parametrize("content", [b"null", b"[]", b"{}", b"x", b"", b"[" * 100_000])
@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_layout_document_of_wrong_types_is_refused(
    name: str, content: bytes, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    files = parts.layout()
    files[name] = content

    refused(image_store, written(archives.tar_of(files)), SandboxError)


def test_layout_of_another_architecture_alone_is_loaded(
    image_store: ImageStore, written: Write, parts: Parts
) -> None:
    parts.changes = {"architecture": "s390x"}

    load(image_store, written(parts.oci_archive()))

    assert image_store.resolve("small").architecture == "s390x"


def test_choice_of_platforms_is_made_for_this_host(image_store: ImageStore, written: Write) -> None:
    here = layout.host_platform()[1]
    images = {"s390x": archives.many_layers(1), here: archives.small()}

    load(image_store, written(archives.tar_of(several(images))))

    assert image_store.resolve("small").id == images[here].image_id


def test_choice_of_platforms_without_this_host_is_refused(
    image_store: ImageStore, written: Write
) -> None:
    images = {"s390x": archives.many_layers(1), "mips": archives.small()}

    text = refused(image_store, written(archives.tar_of(several(images))), WrongPlatform)

    assert "linux/s390x, linux/mips" in text


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_byte_anywhere_in_a_blob_is_refused(
    kind: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    # A gzip header has bytes that mean nothing, and a docker archive states no digest of it.
    parts.compression = "plain" if kind == "docker" else "gzip"
    content = KINDS[kind](parts)
    ranges = [(content.index(blob), len(blob)) for blob in (parts.config, *parts.layers[:2])]

    for number in range(100):
        start, length = ranges[number % len(ranges)]
        at = start + (number * 7919) % length
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << number % 8
        refused(image_store, written(bytes(spoilt)), SandboxError)


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd", "xz"])
@pytest.mark.parametrize("kind", KINDS)
def test_archive_cut_short_anywhere_is_refused(
    kind: str, compression: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    content = archives.PACK[compression](KINDS[kind](parts).rstrip(b"\0") + bytes(1024))
    if compression == "plain":
        content = content[:-1024]

    for number in range(40):
        cut = content[: len(content) * number // 40]
        refused(image_store, written(cut), SandboxError)
        with piped(cut) as fd, pytest.raises(SandboxError):
            load(image_store, fd)
    assert image_store.images() == ()


@pytest.mark.parametrize("kind", KINDS)
def test_archive_spoilt_at_random_is_loaded_or_refused(
    kind: str, image_store: ImageStore, written: Write, parts: Parts
) -> None:
    parts.compression = "plain"
    content = KINDS[kind](parts)
    chance = random.Random(kind)
    image_store.make_folders()

    for _ in range(150):
        spoilt = bytearray(content)
        for _ in range(chance.choice((1, 3, 30))):
            at = chance.randrange(len(spoilt))
            spoilt[at : at + chance.choice((0, 1, 4))] = chance.randbytes(chance.choice((0, 1, 4)))
        try:
            for item in load(image_store, written(bytes(spoilt))):
                image_store.delete(item.image_id)
        except SandboxError:
            pass
        assert image_store.images() == ()
        assert os.listdir(image_store.paths.layers) == []
        assert os.listdir(image_store.paths.staging) == []


def relaid(parts: Parts, manifest: bytes) -> dict[str, bytes]:
    """The layout with another manifest, whose digest is right."""
    files = parts.layout()
    item = archives.descriptor(manifest, f"{archives.OCI}.manifest.v1+json")
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [item]}).encode()
    files[f"blobs/sha256/{archives.digest(manifest)[7:]}"] = manifest
    return files


def several(images: dict[str, Parts]) -> dict[str, bytes]:
    """A layout of one name for several architectures, behind an index of its own."""
    files: dict[str, bytes] = {}
    items = []
    for architecture, parts in images.items():
        files |= parts.layout()
        item = archives.descriptor(parts.manifest, f"{archives.OCI}.manifest.v1+json")
        items.append(item | {"platform": {"os": "linux", "architecture": architecture}})
    note = archives.descriptor(b"{}", f"{archives.OCI}.manifest.v1+json")
    items.append(note | {"platform": {"os": "unknown", "architecture": "unknown"}})
    index = json.dumps({"schemaVersion": 2, "manifests": items}).encode()
    top = archives.descriptor(index, f"{archives.OCI}.index.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "small:latest"}
    files[f"blobs/sha256/{archives.digest(index)[7:]}"] = index
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    return files


class piped:  # noqa: N801 - reads as a verb
    """The reading end of a pipe into which a thread writes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __enter__(self) -> int:
        self._read, write = os.pipe()
        self._thread = threading.Thread(target=self._write, args=(write,))
        self._thread.start()
        return self._read

    def _write(self, fd: int) -> None:
        with open(fd, "wb", buffering=0) as pipe:
            view = memoryview(self._content)
            try:
                while view:
                    view = view[pipe.write(view) :]
            except BrokenPipeError:
                pass

    def __exit__(self, *_failure: object) -> None:
        os.close(self._read)
        self._thread.join()
