"""C, and the only Python that touches it.

    calls   the extension module's functions, typed (layers, trees, seccomp programs)
    plan    the launch plan that the monitor carries out; loads nothing compiled

The names of ``calls`` are also here, loaded at first use: importing ``plan`` must
not cost four shared libraries.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .calls import (
        CANCELLED,
        DAMAGED,
        SYSTEM,
        UNSAFE,
        Bind,
        CopyRules,
        Fault,
        Packed,
        Progress,
        SeccompRule,
        StreamBounds,
        Sums,
        TarBounds,
        Unpacked,
        copy_tree,
        inflate,
        mount_disk,
        move_tree,
        open_in_root,
        open_view,
        pack,
        remove_tree,
        seccomp_compile,
        tree_disk_bytes,
        tree_size,
        unpack,
    )

__all__ = [
    "CANCELLED",
    "DAMAGED",
    "SYSTEM",
    "UNSAFE",
    "Bind",
    "CopyRules",
    "Fault",
    "Packed",
    "Progress",
    "SeccompRule",
    "StreamBounds",
    "Sums",
    "TarBounds",
    "Unpacked",
    "copy_tree",
    "inflate",
    "mount_disk",
    "move_tree",
    "open_in_root",
    "open_view",
    "pack",
    "remove_tree",
    "seccomp_compile",
    "tree_disk_bytes",
    "tree_size",
    "unpack",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.calls", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value
