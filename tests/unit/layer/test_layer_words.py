"""Chains, whiteout names, compressions, and the errors that faults become."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat

import pytest

from sandbox import native
from sandbox.errors import DamagedArchive, DamagedDocument, StoreFull, UnsafeArchive
from sandbox.layer import compression, whiteout
from sandbox.layer.chain import chain_id, chain_ids
from sandbox.layer.unpack import Bounds, faults_as_errors, unpack_layer

A, B, C = ("sha256:" + digit * 64 for digit in "abc")


def sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_chain_of_one_layer_is_its_diff_id() -> None:
    assert chain_id("", A) == A


def test_chain_goes_on_with_the_chain_below_and_a_space() -> None:
    over_a = sha256(f"{A} {B}")

    assert chain_id(A, B) == over_a
    assert chain_ids([A, B, C]) == (A, over_a, sha256(f"{over_a} {C}"))


@pytest.mark.parametrize(
    ("parent", "diff_id"), [("", "sha256:1"), ("x", A), (A, ""), ("", A.upper())]
)
def test_chain_of_what_is_no_digest_is_refused(parent: str, diff_id: str) -> None:
    with pytest.raises(DamagedDocument):
        chain_id(parent, diff_id)


def test_whiteout_names_go_both_ways() -> None:
    assert whiteout.whiteout_name("file") == ".wh.file"
    assert whiteout.hidden_name(".wh.file") == "file"
    assert whiteout.hidden_name(".wh..hidden") == ".hidden"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_whiteout_of_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        whiteout.whiteout_name(name)


@pytest.mark.parametrize("name", ["file", ".wh.", ".wh..", ".wh...", ".wh..wh..opq", ".wh..wh.x"])
def test_other_names_hide_nothing(name: str) -> None:
    assert whiteout.hidden_name(name) is None


def test_whiteout_device_is_character_0_0() -> None:
    def status(mode: int) -> os.stat_result:
        return os.stat_result([mode, *[0] * 9], {"st_rdev": 0})

    assert whiteout.is_whiteout(status(stat.S_IFCHR))
    assert not whiteout.is_whiteout(status(stat.S_IFBLK))
    assert not whiteout.is_whiteout(os.stat("/dev/null"))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x5a\x2a\x4d\x18", "zstd"),
        (b"etc/", "none"),
        (b"", "none"),
        (b"\x28\xb5", "none"),
    ],
)
def test_compression_is_seen_by_the_first_bytes(head: bytes, name: str) -> None:
    assert compression.detect(head) == name


def fault(kind: int, **facts: object) -> native.Fault:
    words = {"errno": errno.EIO, "call": "", "entry": "a/b", "problem": ""} | facts
    return native.Fault(kind=kind, **words)  # type: ignore[arg-type]  # facts of any kind


@pytest.mark.parametrize(
    ("said", "meant", "text"),
    [
        (
            fault(native.UNSAFE, problem="`..` leaves the root"),
            UnsafeArchive,
            "unsafe archive entry 'a/b': `..` leaves the root",
        ),
        (
            fault(native.DAMAGED, problem="unexpected EOF"),
            DamagedArchive,
            "damaged archive: unexpected EOF (in 'a/b')",
        ),
        (fault(native.SYSTEM, call="write", errno=errno.ENOSPC), StoreFull, "no space left"),
        (fault(native.SYSTEM, call="mkdirat", errno=errno.EDQUOT), StoreFull, "no space left"),
        (fault(native.SYSTEM, call="setxattr", errno=errno.ENOSPC), OSError, "setxattr"),
        (fault(native.SYSTEM, call="openat", errno=errno.EROFS), OSError, "openat: Read-only"),
    ],
)
def test_fault_becomes_one_of_our_errors(
    said: native.Fault, meant: type[Exception], text: str
) -> None:
    with pytest.raises(meant) as raised, faults_as_errors(0):
        raise said

    assert text in str(raised.value)
    assert raised.value.__cause__ is said


def test_bounds_are_those_that_the_kernel_has() -> None:
    bounds = Bounds()

    assert (bounds.max_path_bytes, bounds.max_xattr_bytes) == (4095, 65536)
    assert bounds.stream().max_bytes == bounds.max_unpacked_bytes


def test_unknown_compression_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown compression"):
        unpack_layer(0, 0, compression="lzma")


def test_inflate_writes_the_whole_stream_and_says_both_digests() -> None:

    plain = bytes(range(256)) * 5000
    packed = gzip.compress(plain)
    source = os.memfd_create("packed")
    target = os.memfd_create("plain")
    os.write(source, packed)
    os.lseek(source, 0, os.SEEK_SET)

    sums = compression.inflate(source, target, expected_size=len(packed))

    assert os.pread(target, len(plain) + 1, 0) == plain
    assert sums.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
    assert sums.plain_digest == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert (sums.size, sums.plain_size, sums.compression) == (len(packed), len(plain), "gzip")
    os.close(source)
    os.close(target)
