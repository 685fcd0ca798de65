"""Write the launcher's cache of compiled modules, ``sandbox/start.cache``.

``start`` reads it and draws its format; it asks for this module only when a command has
imported something that the file does not hold.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from .start import Index

PACKAGES = ("cgroups", "netns", "sandbox")
MAX_BYTES = 16 << 20


def write(home: str, old_fd: int, old_index: Index, behind: int) -> None:
    """Keep what was kept and is still true, and what this process has imported.

    ``home`` is the folder of our packages; ``old_fd`` is the open file with
    ``old_index``, whose codes begin at byte ``behind``.  A folder that cannot be written
    to is no failure: Python's own cache does the same.
    """
    entries: dict[str, tuple[str, bool, int, int]] = {}
    codes: dict[str, bytes] = {}
    for name, (place, is_package, mtime, size, offset, length) in old_index.items():
        kept = _source(home, place, is_package=is_package)
        if kept == (place, is_package, mtime, size):
            entries[name] = kept
            codes[name] = os.pread(old_fd, length, behind + offset)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in PACKAGES and name not in entries:
            found = _compiled(home, name, module)
            if found is not None:
                entries[name], codes[name] = found
    _replace(f"{home}/sandbox/start.cache", _bytes(entries, codes))


def _compiled(
    home: str, name: str, module: ModuleType
) -> tuple[tuple[str, bool, int, int], bytes] | None:
    file = getattr(module, "__file__", None) or ""
    get_code = getattr(module.__spec__ and module.__spec__.loader, "get_code", None)
    if not file.endswith(".py") or get_code is None:
        return None
    # A relative path, so that a checkout that has moved is still itself.
    place = os.path.relpath(file, home)
    source = _source(home, place, is_package=hasattr(module, "__path__"))
    code = get_code(name)
    if source is None or code is None or source != _source(home, place, is_package=source[1]):
        return None
    return source, marshal.dumps(code)


def _source(home: str, place: str, *, is_package: bool) -> tuple[str, bool, int, int] | None:
    try:
        status = os.stat(f"{home}/{place}")
    except OSError:
        return None
    return place, is_package, status.st_mtime_ns, status.st_size


def _bytes(entries: dict[str, tuple[str, bool, int, int]], codes: dict[str, bytes]) -> bytes:
    index: Index = {}
    offset = 0
    for name, source in entries.items():
        index[name] = (*source, offset, len(codes[name]))
        offset += len(codes[name])
    head = marshal.dumps((sys.version, offset, index))
    return len(head).to_bytes(8, "little") + head + b"".join(codes.values())


def _replace(path: str, data: bytes) -> None:
    if len(data) > MAX_BYTES:
        return
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        try:
            if os.write(fd, data) != len(data):
                raise OSError
            # Damage would be believed: nothing but length and time is compared later.
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
