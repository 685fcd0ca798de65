"""Damaged archives by the thousand, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import gzip
import os
import random
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from kit import tarbytes as tar
from kit import trees

from sandbox.native.build import SOURCES

pytestmark = [requires.root, requires.program("gcc"), requires.device_nodes]
SOURCE = Path(__file__).parents[3]
NATIVE = [name for name in SOURCES if name != "filter.c"]
LIBRARIES = ("-lisal", "-lzstd", "-lcrypto", "-lpthread")
MUTATIONS = 2000
SEED = 20240


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "unpack_driver"
    sources = [SOURCE / "tests/kit/unpack_driver.c"]
    sources += [SOURCE / "sandbox/native" / name for name in NATIVE]
    options = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    subprocess.run(
        ["gcc", *options, *sanitizers, f"-I{SOURCE}", *sources, *LIBRARIES, "-o", program],
        check=True,
    )
    return program


@pytest.fixture
def work() -> Iterator[Path]:
    """In memory where that can be: thousands of trees are made and deleted."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield Path(path)


def run(driver: Path, folder: Path, archives: list[bytes], *arguments: str) -> list[str]:
    frames = b"".join(struct.pack("<I", len(each)) + each for each in archives)
    done = subprocess.run(
        [driver, folder, *arguments],
        input=frames,
        capture_output=True,
        check=False,
        env=os.environ | {"ASAN_OPTIONS": "abort_on_error=0:exitcode=99"},
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    lines = done.stdout.decode(errors="replace").splitlines()
    assert len(lines) == len(archives)
    return lines


def seeds() -> list[bytes]:
    """Valid archives that between them use every kind of header."""
    sparse = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    sparse += [(b"GNU.sparse.realsize", b"5000"), (b"GNU.sparse.name", b"s")]
    pairs = [(b"GNU.sparse.size", b"900"), (b"GNU.sparse.map", b"0,3,500,3")]
    old = b"".join(tar.octal(n, 12) for n in (0, 3, 1024, 3, 4096, 0))
    first = tar.archive(
        tar.directory(b"./"),
        tar.directory(b"a/"),
        tar.file(b"a/f", b"content" * 300, uid=5, mode=0o4755),
        tar.hard_link(b"a/h", b"a/f"),
        tar.symlink(b"l", b"a"),
        tar.file(b"l/through", b"x"),
        tar.header(b"n", b"3", major=1, minor=3),
        tar.header(b"p", b"6"),
        tar.file(b"a/.wh.gone"),
        tar.file(b"a/.wh..wh..opq"),
        tar.file(b"b/../c/./d", b"y"),
        tar.file(b"a", b"over a folder"),
    )
    second = tar.archive(
        tar.pax([(b"comment", b"g"), (b"uid", b"3")], b"g"),
        tar.pax(
            [
                (b"path", b"long/" * 60 + b"f"),
                (b"mtime", b"-3.25"),
                (b"size", b"4"),
                (b"SCHILY.xattr.user.x", b"\0\1\2"),
            ]
        )
        + tar.file(b"short", b"data"),
        tar.long_name(b"gnu/" * 50 + b"f") + tar.file(b"short", b"data"),
        tar.long_name(b"t" * 200, b"K") + tar.symlink(b"k", b"t"),
        tar.pax(sparse) + tar.file(b"GNUSparse/s", tar.padded(b"2\n0\n3\n4000\n3\n") + b"abcdef"),
        tar.pax(pairs) + tar.file(b"s01", b"abcdef"),
        tar.header(b"old", b"S", size=6, magic=tar.GNU, at_386=old, at_483=tar.octal(4096, 12))
        + tar.padded(b"abcdef"),
        tar.header(b"b256", b"0", size=tar.base256(3, 12), mtime=tar.base256(-9, 12))
        + tar.padded(b"abc"),
    )
    return [first, second]


def mutated(archive: bytes, numbers: random.Random) -> bytes:
    """One to eight changes, most of them in headers, whose checksums are then put right."""
    data = bytearray(archive)
    for _ in range(numbers.randint(1, 8)):
        at = numbers.randrange(len(data))
        change = numbers.randrange(6)
        if change == 0:
            data[at] ^= 1 << numbers.randrange(8)
        elif change == 1:
            data[at] = numbers.choice(b"\0\xff\x80/.0179 =\n-")
        elif change == 2:
            del data[at : at + numbers.choice((1, 16, 512))]
        elif change == 3:
            block = numbers.randrange(len(data) // 512 + 1) * 512
            other = numbers.randrange(len(data) // 512 + 1) * 512
            data[block:block] = data[other : other + 512]
        elif change == 4:
            field, width = numbers.choice(((124, 12), (136, 12), (100, 8), (108, 8), (329, 8)))
            block = at // 512 * 512 + field
            data[block : block + width] = numbers.randbytes(width)
        else:
            data[at // 512 * 512 + 156 : at // 512 * 512 + 157] = numbers.choice(
                (b"0", b"1", b"2", b"3", b"5", b"6", b"S", b"x", b"g", b"L", b"K", b"D", b"7")
            )
    if numbers.random() < 0.9:
        mend_checksums(data)
    return bytes(data)


def mend_checksums(data: bytearray) -> None:
    """Of every block that looks as if it were a header."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at : at + 512] = tar.with_checksum(bytes(data[at : at + 512]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_mutated_archives_trip_no_sanitizer(driver: Path, work: Path, form: str) -> None:
    numbers = random.Random(SEED)
    originals = seeds()
    archives = [mutated(originals[n % len(originals)], numbers) for n in range(MUTATIONS)]
    (work / "inside").mkdir()
    (work / "canary").write_text("canary")
    before = trees.picture(work, directory_times=False)

    lines = run(driver, work / "inside", [*originals, *archives], form)

    assert [line.split()[0] for line in lines[: len(originals)]] == ["ok"] * len(originals)
    kinds = {line.split()[0] for line in lines}
    assert kinds <= {"ok", "damaged", "unsafe", "system"}
    surprises = {line for line in lines if line.startswith("system")}
    assert surprises <= {"system ftruncate 27 "}, surprises
    assert trees.differences(before, trees.picture(work, directory_times=False)) == []


@pytest.mark.slow
def test_mutated_compressed_archives_trip_no_sanitizer(driver: Path, work: Path) -> None:
    numbers = random.Random(SEED)
    originals = [gzip.compress(each, mtime=0) for each in seeds()]
    zstd = [
        subprocess.run(["zstd", "-qc"], input=each, capture_output=True, check=True).stdout
        for each in seeds()
    ]
    originals += zstd
    archives = []
    for number in range(MUTATIONS // 2):
        data = bytearray(originals[number % len(originals)])
        for _ in range(numbers.randint(1, 4)):
            data[numbers.randrange(len(data))] ^= numbers.randrange(1, 256)
        if numbers.random() < 0.3:
            del data[numbers.randrange(len(data)) :]
        archives.append(bytes(data))

    lines = run(driver, work, [*originals, *archives])

    assert [line.split()[0] for line in lines[: len(originals)]] == ["ok"] * len(originals)
    assert {line.split()[0] for line in lines} <= {"ok", "damaged", "unsafe"}


@pytest.mark.slow
def test_archives_cut_anywhere_trip_no_sanitizer(driver: Path, work: Path) -> None:
    archives = [each[:size] for each in seeds() for size in range(0, len(each), 97)]

    lines = run(driver, work, archives)

    assert "ok" not in {line.split()[0] for line in lines}
