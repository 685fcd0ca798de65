from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from kit import archives

from sandbox.image.pack import file, folder, hardlink, layer_tar, pack_oci_archive, symlink
from sandbox.oci import imageconfig
from sandbox.oci.imageconfig import ImageConfig

LAYER = [file("bin/tool", b"x", mode=0o755), hardlink("bin/t", "bin/tool"), symlink("sbin", "bin")]


def packed(**options: str | int | bool) -> bytes:
    stream = io.BytesIO()
    pack_oci_archive([LAYER, [folder("tmp", mode=0o1777)]], stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def test_same_input_makes_the_same_bytes() -> None:
    assert packed(name="a:1") == packed(name="a:1")
    assert packed(epoch=1) != packed(epoch=2)


def test_archive_is_an_image_layout() -> None:
    stream = io.BytesIO()
    image_id = pack_oci_archive([LAYER], stream, name="a", config=ImageConfig(cmd=("sh",)))

    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
    index = json.loads(files["index.json"])
    manifest = json.loads(files[blob(index["manifests"][0])])
    config = imageconfig.parse(files[blob(manifest["config"])])
    assert index["manifests"][0]["annotations"] == {
        "io.containerd.image.name": "docker.io/library/a:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    assert manifest["config"]["digest"] == image_id
    assert config.config.cmd == ("sh",)
    assert config.diff_ids == (archives.digest(layer_tar(LAYER)),)
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert name.endswith(archives.digest(content)[7:])


def test_folders_that_were_left_out_are_put_in_before_what_is_in_them() -> None:
    content = layer_tar([file("a/b/c", b""), file("a/d", b"")])

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["a", "a/b", "a/b/c", "a/d"]
        assert tar.getmember("a").mode == 0o755


def test_file_takes_content_and_mode_from_its_source(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(b"content")
    source.chmod(0o711)

    with tarfile.open(fileobj=io.BytesIO(layer_tar([file("f", source=str(source))]))) as tar:
        member = tar.getmember("f")
        assert tar.extractfile(member).read() == b"content"  # type: ignore[union-attr]
        assert (member.mode, member.uid, member.mtime) == (0o711, 0, 1_700_000_000)


def test_folder_is_packed_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0o750)
    (tmp_path / "b/c").write_bytes(b"1")
    (tmp_path / "a").symlink_to("b/c")
    stream = io.BytesIO()
    pack_oci_archive([str(tmp_path)], stream, compressed=False)

    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        blobs = [tar.extractfile(m).read() for m in tar if m.name.startswith("blobs/sha256/")]  # type: ignore[union-attr]
    layer = next(x for x in blobs if not x.startswith(b"{"))
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert [(m.name, m.mode & 0o777, m.linkname) for m in tar] == [
            ("a", 0o777, "b/c"),
            ("b", 0o750, ""),
            ("b/c", 0o644, ""),
        ]


def blob(descriptor: dict[str, str]) -> str:
    return f"blobs/sha256/{descriptor['digest'][7:]}"
