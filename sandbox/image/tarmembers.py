"""The members of an image archive: a tar, read one header at a time.

This is the outer archive only, the one that holds the documents and the layers.
Nothing is extracted: a member is a name and a range of bytes.  ustar, GNU long
names and pax are read; sizes, names and counts are bounded.

Out of scope: layers, which the layer unpacker reads.
"""

from __future__ import annotations

from ..errors import DamagedArchive, UnsafeArchive
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Stream(Protocol):
        """Where headers are read from and contents are skipped or taken."""

        def read(self, size: int) -> bytes:
            """At most ``size`` bytes; none at the end."""

        def skip(self, size: int) -> None:
            """Pass over ``size`` bytes."""

        def tell(self) -> int:
            """How many bytes were read or skipped."""


BLOCK = 512
MAX_MEMBERS = 100_000
MAX_NAME = 4096
MAX_EXTENSION = 1 << 20
MAX_SIZE = 1 << 50

UNEXPECTED_EOF = "Error processing tar file(exit status 1): unexpected EOF"
INVALID_HEADER = "Error processing tar file(exit status 1): archive/tar: invalid tar header"


class Member(Record):
    """One member.  ``start`` is where its contents begin; ``link`` is a link's target."""

    name: str
    kind: str  # "file", "folder", "symlink", "hardlink" or "other"
    size: int
    start: int
    link: str = ""


def members(stream: Stream) -> Iterator[Member]:
    """Walk the archive.

    The stream stands at the start of a member's contents while that member is
    in hand; what the caller leaves unread is skipped.
    """
    count = 0
    name = link = ""
    size = -1
    while True:
        block = _exactly(stream, BLOCK)
        if block.count(0) == BLOCK:
            return
        header = _Header(block)
        count += 1
        if count > MAX_MEMBERS:
            raise UnsafeArchive(entry=header.name, problem=f"more than {MAX_MEMBERS} members")
        if header.type in (b"L", b"K", b"x", b"X", b"g"):
            content = _extension(stream, header)
            if header.type == b"L":
                name = _text(content.split(b"\0")[0])
            elif header.type == b"K":
                link = _text(content.split(b"\0")[0])
            elif header.type != b"g":
                fields = _pax(content)
                name = fields.get("path", name)
                link = fields.get("linkpath", link)
                size = _decimal(fields["size"]) if "size" in fields else size
            continue
        kind = header.kind
        length = header.size if size < 0 else size
        member = Member(
            name=_bounded(name or header.name),
            kind=kind,
            size=length if kind in ("file", "other") else 0,
            start=stream.tell(),
            link=_bounded(link or header.link),
        )
        name = link = ""
        size = -1
        end = member.start + (member.size + BLOCK - 1) // BLOCK * BLOCK
        yield member
        stream.skip(end - stream.tell())


def inside(name: str) -> str:
    """The name as the archive's own: no leading ``./`` or ``/``, no ``..``.

    Raises `UnsafeArchive` for a name that points out of the archive.
    """
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise UnsafeArchive(entry=name, problem="points out of the archive")
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


class _Header:
    """The fields of a header block whose checksum is right."""

    def __init__(self, block: bytes) -> None:
        stated = _octal(block[148:156])
        blanked = block[:148] + b" " * 8 + block[156:]
        if stated != sum(blanked):
            # Not a header at all, as with text piped in: docker reports what it sees first.
            raise DamagedArchive(INVALID_HEADER)
        self.type = block[156:157]
        self.size = _number(block[124:136])
        self.link = _text(block[157:257].split(b"\0")[0])
        self.name = _text(block[:100].split(b"\0")[0])
        if block[257:263] == b"ustar\0":
            prefix = _text(block[345:500].split(b"\0")[0])
            if prefix:
                self.name = f"{prefix}/{self.name}"

    @property
    def kind(self) -> str:
        """What the member is."""
        if self.type in (b"0", b"\0", b"7"):
            return "folder" if self.name.endswith("/") else "file"
        return {b"1": "hardlink", b"2": "symlink", b"5": "folder"}.get(self.type, "other")


def _exactly(stream: Stream, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise DamagedArchive(UNEXPECTED_EOF)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _extension(stream: Stream, header: _Header) -> bytes:
    if header.size > MAX_EXTENSION:
        raise UnsafeArchive(entry=header.name, problem=f"an extended header of {header.size} bytes")
    content = _exactly(stream, header.size)
    stream.skip(-header.size % BLOCK)
    return content


def _pax(content: bytes) -> dict[str, str]:
    # Records are "<length> <key>=<value>\n", the length counting all of itself.
    fields = {}
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 10)
        if space < 0 or not content[at:space].isdigit():
            raise DamagedArchive(INVALID_HEADER)
        end = at + int(content[at:space])
        if end > len(content) or end <= space + 1 or content[end - 1 : end] != b"\n":
            raise DamagedArchive(INVALID_HEADER)
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise DamagedArchive(INVALID_HEADER)
        fields[_text(key)] = _text(value)
        at = end
    return fields


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise DamagedArchive(INVALID_HEADER)
    return int(digits, 8)


def _number(field: bytes) -> int:
    # A set high bit means base 256, which GNU tar writes beyond 8 GiB; a negative
    # number (two high bits) is nothing that a size can be.
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        value = _octal(field)
    if value > MAX_SIZE:
        raise DamagedArchive(INVALID_HEADER)
    return value


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or int(text) > MAX_SIZE:
        raise DamagedArchive(INVALID_HEADER)
    return int(text)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bounded(name: str) -> str:
    if len(name) > MAX_NAME:
        raise UnsafeArchive(entry=name[:100] + "...", problem="a name too long")
    return name
