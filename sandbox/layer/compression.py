"""Layer compressions: which there are, and how to inflate a whole stream.

Layers are inflated on the way by `sandbox.layer.unpack`; this is for archives that
are themselves compressed.
"""

from __future__ import annotations

from .. import native
from .unpack import Bounds, faults_as_errors, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..native import Sums

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def detect(head: bytes) -> str:
    """Name the compression of a stream by its first four bytes: gzip, zstd or none."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    is_skippable = len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18"
    return "zstd" if head.startswith(ZSTD_MAGIC) or is_skippable else "none"


def inflate(
    fd: int,
    out_fd: int,
    *,
    compression: str | None = None,
    expected_size: int | None = None,
    bounds: Bounds | None = None,
    progress: Callable[[int], None] | None = None,
) -> Sums:
    """Write to ``out_fd`` what the stream in ``fd`` inflates to; neither is kept.

    ``compression`` None goes by the first bytes.  Returns digests and sizes of both.
    """
    bounds = bounds or Bounds()
    counts = native.Progress()
    with faults_as_errors(out_fd):
        return watched(
            lambda: native.inflate(
                fd,
                out_fd,
                compression=compression,
                expected_size=expected_size,
                stream=bounds.stream(),
                progress=counts,
            ),
            counts,
            progress,
        )
