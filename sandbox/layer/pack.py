"""A tree becomes the bytes of a layer, or of any tar stream.

The work is in C (``native/pack.c``, which also says what is kept of a tree and what is
not), by handle, with the interpreter's lock released.  The same tree gives the same
bytes.  After an error what was written is no archive.

Out of scope: compression, and which tree it is.
"""

from __future__ import annotations

import os

from .. import native
from ..errors import ImageError, StoreFull
from .unpack import FULL, Bounds, path_of, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OVERLAY = "trusted.overlay."
OVERLAY_ROOTLESS = "user.overlay."


def pack_layer(
    dir_fd: int,
    out_fd: int,
    *,
    name: str = "",
    overlay: str = OVERLAY,
    progress: Callable[[int], None] | None = None,
) -> native.Packed:
    """Write the writable layer ``dir_fd`` of an overlay to ``out_fd``; both are borrowed.

    ``overlay`` is how the names of overlayfs' own attributes begin there: its marks
    become whiteouts.  With ``name`` "." the root has an entry of its own, without it
    none.  ``progress`` is called with the bytes written so far, from this thread; when
    it raises, the packing stops.  Raises `ImageError` for what no layer can hold,
    `StoreFull`, `OSError`.
    """
    counts = native.Progress()
    try:
        return watched(
            lambda: native.pack(
                dir_fd,
                out_fd,
                name=name.encode(),
                overlay=overlay.encode(),
                max_bytes=Bounds().max_unpacked_bytes,
                progress=counts,
            ),
            counts,
            progress,
        )
    except native.Fault as fault:
        if fault.kind == native.UNSAFE:
            raise ImageError(f"cannot make a layer of {fault.entry!r}: {fault.problem}") from fault
        if fault.call == "write" and fault.errno in FULL:
            raise StoreFull(path_of(out_fd)) from fault
        said = f"{fault.call}: {os.strerror(fault.errno)}"
        raise OSError(fault.errno, said, fault.entry) from fault
