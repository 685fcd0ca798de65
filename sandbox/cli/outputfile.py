"""A file that is there when it is whole: nothing is left of one that was broken off."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = os.O_WRONLY | os.O_CLOEXEC
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


@contextmanager
def whole_file(path: str, *, mode: int = 0o600) -> Iterator[int]:
    """A descriptor to write to; what was written has the name when the scope is left in order.

    What exists and is no regular file (a device, a fifo) is written to as it is.
    """
    try:
        is_special = not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        is_special = False
    if is_special:
        fd = os.open(path, _FLAGS)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    # The file that a link leads to is replaced, not the link.
    path = os.path.realpath(path)
    beside = f"{path}.{os.getpid()}.new"
    fd, has_name = _open_new(os.path.dirname(path), beside, mode)
    try:
        yield fd
        if not has_name:
            # With a folder named, it is linkat, which follows the link that /proc has.
            os.link(f"/proc/self/fd/{fd}", beside, src_dir_fd=fd, follow_symlinks=True)
            has_name = True
        os.rename(beside, path)
        has_name = False
    finally:
        os.close(fd)
        if has_name:
            os.unlink(beside)


def _open_new(folder: str, beside: str, mode: int) -> tuple[int, bool]:
    try:
        return os.open(folder, _FLAGS | os.O_TMPFILE, mode), False
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
    # A file system without files that have no name.
    return os.open(beside, _FLAGS | os.O_CREAT | os.O_EXCL, mode), True
