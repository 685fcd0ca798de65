"""Digests: ``sha256:`` and 64 lower-case hexadecimal digits, and nothing else.

Every digest passes `require` (or `is_digest`) before any part of it becomes part of
a path.  Other algorithms are refused: no image in use needs one.
"""

from __future__ import annotations

from ..errors import DamagedDocument, DigestMismatch

_PREFIX = "sha256:"
_HEX = "0123456789abcdef"


def is_digest(value: object) -> bool:
    """Whether this is a digest, exactly."""
    return isinstance(value, str) and value.startswith(_PREFIX) and is_hex(value[len(_PREFIX) :])


def is_hex(text: str) -> bool:
    """Whether this is the 64 digits of a digest, without the algorithm."""
    return len(text) == 64 and not text.strip(_HEX)


def require(value: object, *, what: str) -> str:
    """The value as a digest; `DamagedDocument`, with ``what`` it was for, if it is not one."""
    if not isinstance(value, str) or not is_digest(value):
        raise DamagedDocument(what=what, problem=f"not a sha256 digest: {_shown(value)}")
    return value


def hex_of(digest: str) -> str:
    """The digits of a digest: what files are named by."""
    return require(digest, what="digest")[len(_PREFIX) :]


def of_bytes(content: bytes) -> str:
    """The digest of some bytes."""
    # The price (5 ms) is paid where content is taken in, never where it is used.
    import hashlib

    return _PREFIX + hashlib.sha256(content).hexdigest()


def verify(content: bytes, expected: str, *, what: str) -> None:
    """Raise `DigestMismatch` unless the bytes are those that the digest names."""
    actual = of_bytes(content)
    if actual != expected:
        raise DigestMismatch(what=what, expected=expected, actual=actual)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
