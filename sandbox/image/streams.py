"""Byte streams for archives: counted, skippable, decompressed on the way.

gzip, bzip2 and xz come from the standard library.  A whole gzip or zstd archive is
better inflated by the native core, into a file (`inflate_into`).
"""

from __future__ import annotations

import errno
import os
import stat
from threading import Thread

from ..errors import DamagedArchive
from ..layer.compression import inflate
from .tarmembers import UNEXPECTED_EOF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Decompressor(Protocol):
        """What zlib, bz2 and lzma have in common, made the same."""

        def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
            """At most so many bytes of what ``data``, and what came before, unpacks to."""

        @property
        def eof(self) -> bool:
            """Whether the end of the compressed stream was reached."""

        @property
        def needs_input(self) -> bool:
            """Whether nothing more comes without more input."""

        @property
        def unused_data(self) -> bytes:
            """What followed the end."""


CHUNK = 1 << 20

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)
MAGIC_LENGTH = 6


def compression(start: bytes) -> str:
    """Which compression begins like this; empty for none."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    # zstd lets a file begin with skippable frames, and some writers use them.
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
        return "zstd"
    return ""


def is_seekable(fd: int) -> bool:
    """Whether this is a regular file, so that parts of it can be read in any order."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def opened(fd: int) -> tuple[bytes, FileStream]:
    """The first bytes, and a stream that begins with them; the descriptor is borrowed."""
    if is_seekable(fd):
        return os.pread(fd, MAGIC_LENGTH, os.lseek(fd, 0, os.SEEK_CUR)), FileStream(fd)
    start = b""
    while len(start) < MAGIC_LENGTH:
        try:
            part = os.read(fd, MAGIC_LENGTH - len(start))
        except OSError as error:
            if error.errno != errno.EISDIR:
                raise
            raise DamagedArchive("a folder, where an archive was expected") from error
        if not part:
            break
        start += part
    return start, FileStream(fd, start=start)


class FileStream:
    """A descriptor read from where it stands.  Borrowed, not closed."""

    def __init__(self, fd: int, *, start: bytes = b"") -> None:
        self._fd = fd
        self._held = start
        self._position = 0
        self._seekable = not start and is_seekable(fd)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if self._held:
            part, self._held = self._held[:size], self._held[size:]
        else:
            part = os.read(self._fd, min(size, CHUNK))
        self._position += len(part)
        return part

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes, which must be there."""
        if self._seekable and size:
            end = os.lseek(self._fd, size, os.SEEK_CUR)
            if end > os.fstat(self._fd).st_size:
                raise DamagedArchive(UNEXPECTED_EOF)
            self._position += size
            return
        skip_by_reading(self, size)

    def tell(self) -> int:
        """How many bytes were read or skipped."""
        return self._position


def inflate_into(stream: FileStream, out_fd: int, kind: str) -> None:
    """Write what the rest of a gzip or zstd stream inflates to, and go to its beginning."""
    read, write = os.pipe()
    failures: list[OSError] = []

    def feed() -> None:
        try:
            while part := stream.read(CHUNK):
                write_all(write, part)
        except BrokenPipeError:
            pass  # the reader has failed, and says why
        except OSError as error:
            failures.append(error)
        finally:
            os.close(write)

    # A daemon: after a failure it may wait for its input as long as the input's writer likes.
    feeder = Thread(target=feed, name="feed", daemon=True)
    feeder.start()
    try:
        inflate(read, out_fd, compression=kind)
    finally:
        os.close(read)
    feeder.join()
    if failures:
        raise failures[0]
    os.lseek(out_fd, 0, os.SEEK_SET)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all of it, however little the kernel takes at once."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


class DecompressedStream:
    """What a compressed stream unpacks to; several members one after another are one stream."""

    def __init__(self, source: FileStream, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._decompressor = decompressor(kind)
        self._input = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._source.read(CHUNK)
                if not rest.strip(b"\0"):
                    return b""
                self._decompressor = decompressor(self._kind)
                self._input = rest
            elif not self._input and self._decompressor.needs_input:
                self._input = self._source.read(CHUNK)
                if not self._input:
                    raise DamagedArchive(UNEXPECTED_EOF)
            data, self._input = self._input, b""
            part = _unpacked(self._decompressor, data, min(size, CHUNK), self._kind)
            if part:
                self._position += len(part)
                return part

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes, which must be there."""
        skip_by_reading(self, size)

    def tell(self) -> int:
        """How many bytes were read or skipped."""
        return self._position


def skip_by_reading(stream: FileStream | DecompressedStream, size: int) -> None:
    """Pass over bytes of what cannot be positioned."""
    while size:
        part = stream.read(min(size, CHUNK))
        if not part:
            raise DamagedArchive(UNEXPECTED_EOF)
        size -= len(part)


def decompressor(kind: str) -> Decompressor:
    """A new decompressor of the kind that `compression` named."""
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    if kind == "xz":
        import lzma

        # 128 MiB is what the highest preset (-9) needs twice over.
        return lzma.LZMADecompressor(memlimit=128 << 20)
    raise DamagedArchive(f"unsupported compression: {kind}")


class _Gzip:
    def __init__(self) -> None:
        import zlib

        self._object = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max(max_length, 0))

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data


def _unpacked(decompressor: Decompressor, data: bytes, limit: int, kind: str) -> bytes:
    import zlib

    failures: tuple[type[Exception], ...] = (zlib.error, OSError, EOFError, ValueError)
    if kind == "xz":
        import lzma

        failures += (lzma.LZMAError,)
    try:
        return decompressor.decompress(data, limit)
    except failures as error:
        raise DamagedArchive(f"the {kind} stream is damaged: {error}") from error
