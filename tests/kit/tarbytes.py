"""Tar archives made by hand, header by header, so that they can lie."""

from __future__ import annotations

from collections.abc import Iterable

BLOCK = 512
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
END = bytes(2 * BLOCK)

# Where a field is, and how long.
_FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "typeflag": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "major": (329, 8),
    "minor": (337, 8),
    "prefix": (345, 155),
}


def octal(value: int, width: int) -> bytes:
    return f"{value:0{width - 1}o}".encode() + b"\0"


def base256(value: int, width: int) -> bytes:
    """The GNU form of numbers that do not fit; negative ones too."""
    raw = bytearray((value % (1 << (8 * width))).to_bytes(width, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def header(name: bytes = b"file", typeflag: bytes = b"0", **fields: bytes | int) -> bytes:
    """One header block with its checksum.  A field given as bytes goes in as it is."""
    block = bytearray(BLOCK)
    values: dict[str, bytes | int] = {
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": 0,
        "mtime": 1_000_000_000,
        "magic": USTAR,
    }
    at = {key: value for key, value in fields.items() if key.startswith("at_")}
    values |= {key: value for key, value in fields.items() if key not in at}
    values |= {"name": name, "typeflag": typeflag}
    for key, value in values.items():
        start, width = _FIELDS[key]
        raw = value if isinstance(value, bytes) else octal(value, width)
        assert len(raw) <= width, (key, raw)
        block[start : start + len(raw)] = raw
    for key, value in at.items():
        assert isinstance(value, bytes)
        block[int(key[3:]) : int(key[3:]) + len(value)] = value
    return with_checksum(bytes(block))


def with_checksum(block: bytes) -> bytes:
    total = sum(block[:148]) + sum(block[156:512]) + 8 * ord(" ")
    return block[:148] + f"{total:06o}".encode() + b"\0 " + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, content: bytes = b"", **fields: bytes | int) -> bytes:
    return header(name, b"0", **({"size": len(content)} | fields)) + padded(content)


def directory(name: bytes, **fields: bytes | int) -> bytes:
    return header(name, b"5", **({"mode": 0o755} | fields))


def symlink(name: bytes, target: bytes, **fields: bytes | int) -> bytes:
    return header(name, b"2", **({"link": target, "mode": 0o777} | fields))


def hard_link(name: bytes, target: bytes, **fields: bytes | int) -> bytes:
    return header(name, b"1", link=target, **fields)


def long_name(name: bytes, typeflag: bytes = b"L") -> bytes:
    """GNU's header in front of an entry whose name (or link, K) is long."""
    return header(b"././@LongLink", typeflag, magic=GNU, size=len(name) + 1) + padded(name + b"\0")


def record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header, with its own length in front."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def pax(records: Iterable[tuple[bytes, bytes]] | bytes, typeflag: bytes = b"x") -> bytes:
    body = records if isinstance(records, bytes) else b"".join(record(*each) for each in records)
    return header(b"PaxHeaders/0", typeflag, size=len(body)) + padded(body)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + END
