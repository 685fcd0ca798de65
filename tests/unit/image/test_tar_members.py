from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import DamagedArchive, SandboxError, UnsafeArchive
from sandbox.image.streams import DecompressedStream, FileStream, compression
from sandbox.image.tarmembers import Member, inside, members


def tar_of(*entries: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in entries:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def listed(content: bytes, folder: Path) -> list[Member]:
    path = folder / "archive"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return list(members(FileStream(fd)))
    finally:
        os.close(fd)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_in_each_format(form: int, tmp_path: Path) -> None:
    content = tar_of(("a", b"1"), ("d/b", b"22" * 400), form=form)

    found = listed(content, tmp_path)

    assert [(member.name, member.size) for member in found] == [("a", 1), ("d/b", 800)]
    assert content[found[1].start :][:800] == b"22" * 400


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read(form: int, tmp_path: Path) -> None:
    name = "x" * 150 + "/" + "y" * 150

    assert listed(tar_of((name, b"1"), form=form), tmp_path)[0].name == name


def test_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match="too long"):
        listed(tar_of(("x" * 5000, b"")), tmp_path)


def test_huge_extended_header_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = 1 << 30

    with pytest.raises(UnsafeArchive, match="extended header"):
        listed(header.tobuf(tarfile.USTAR_FORMAT), tmp_path)


@pytest.mark.parametrize("size", ["-1", "x", "9" * 30, "1e3", "", "\u0661"])
def test_pax_size_that_is_no_size_is_refused(size: str, tmp_path: Path) -> None:
    header = tarfile.TarInfo("a")
    header.pax_headers = {"size": size}

    with pytest.raises(DamagedArchive):
        listed(header.tobuf(tarfile.PAX_FORMAT), tmp_path)


def test_size_field_of_a_negative_number_is_refused(tmp_path: Path) -> None:
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)[:512])
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()

    with pytest.raises(DamagedArchive):
        listed(bytes(block), tmp_path)


def test_text_is_not_an_archive(tmp_path: Path) -> None:
    with pytest.raises(DamagedArchive) as caught:
        listed(b"junk\n", tmp_path)

    assert str(caught.value) == "Error processing tar file(exit status 1): unexpected EOF"


def test_every_truncation_at_a_block_is_refused(tmp_path: Path) -> None:
    content = tar_of(("a", b"1" * 700), ("b" * 120, b"2"), ("c", b""))
    end = content.rstrip(b"\0")
    blocks = (len(end) + 511) // 512

    for count in range(blocks):
        with pytest.raises(DamagedArchive):
            listed(content[: count * 512], tmp_path)


def test_every_flip_in_a_header_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    content = tar_of(("a", b"1" * 700), form=tarfile.USTAR_FORMAT)
    whole = listed(content, tmp_path)

    for at in range(512):
        flipped = bytearray(content)
        flipped[at] ^= 0x41
        try:
            assert listed(bytes(flipped), tmp_path) == whole
        except DamagedArchive:
            continue


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/../x", "a/./../../b"])
def test_name_that_points_out_of_the_archive_is_refused(name: str) -> None:
    with pytest.raises(UnsafeArchive):
        inside(name)


@pytest.mark.parametrize(
    ("name", "found"), [("./a", "a"), ("/a", "a"), ("a//b/", "a/b"), ("a/../b", "b"), (".", "")]
)
def test_name_is_made_the_archives_own(name: str, found: str) -> None:
    assert inside(name) == found


@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_refused(content: bytes) -> None:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    try:
        list(members(FileStream(read)))
    except SandboxError:
        pass
    finally:
        os.close(read)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("parts", [1, 3])
def test_compressed_stream_is_read_to_its_end(kind: str, parts: int, tmp_path: Path) -> None:
    import bz2
    import gzip
    import lzma

    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    plain = random.Random(1).randbytes(300_000) + bytes(4_000_000)
    path = tmp_path / "stream"
    path.write_bytes(b"".join(pack(plain) for _ in range(parts)))
    assert compression(path.read_bytes()[:6]) == kind
    fd = os.open(path, os.O_RDONLY)
    stream = DecompressedStream(FileStream(fd), kind)

    found = b"".join(iter(lambda: stream.read(100_000), b""))

    os.close(fd)
    assert found == plain * parts
    assert stream.tell() == len(found)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_compressed_stream_cut_short_is_refused(kind: str, tmp_path: Path) -> None:
    import bz2
    import gzip
    import lzma

    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    path = tmp_path / "stream"
    path.write_bytes(pack(random.Random(1).randbytes(5000))[:-9])
    fd = os.open(path, os.O_RDONLY)
    stream = DecompressedStream(FileStream(fd), kind)

    with pytest.raises(DamagedArchive):
        list(iter(lambda: stream.read(4096), b""))
    os.close(fd)
