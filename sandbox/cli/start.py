"""The start of the program: modules from one file, the command, and a quick end.

Loaded by the launcher ``sandbox-python`` alone, as the first thing of all: what is imported
here is paid for by every command.
"""

from __future__ import annotations

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any, NoReturn

    Index = dict[str, tuple[str, bool, int, int, int, int]]


class StartCache:
    """The compiled modules of earlier starts in one file, ``sandbox/start.cache``.

    Finding and opening sixty files costs a third of the interpreter's start.  A module
    counts while its source has the size and the time that it had, as in Python's own
    cache; anything else is imported the ordinary way, and kept when the command is done.

    bytes 0..7    length of the index
    index         marshal of (Python's version, bytes of code, {name: (path below the packages,
                  is a package, mtime ns, size, offset behind the index, length)})
    code          marshal of each module's code
    """

    FIRST_READ = 1 << 14

    def __init__(self) -> None:
        self.home = ""
        self.fd = -1
        self.behind = 0
        self.index: Index = {}
        self.used: set[str] = set()

    def open(self, home: str) -> None:
        """Use the file of this installation, if there is one."""
        self.home = home
        try:
            fd = posix.open(f"{home}/sandbox/start.cache", posix.O_RDONLY | posix.O_NOFOLLOW)
        except OSError:
            return
        try:
            status = posix.fstat(fd)
            head = posix.pread(fd, self.FIRST_READ, 0)
            self.behind = 8 + int.from_bytes(head[:8], "little")
            if len(head) < self.behind <= status.st_size:
                head = posix.pread(fd, self.behind, 0)
            version, length, index = marshal.loads(head[8 : self.behind])  # noqa: S302 - see below
            # As trusted as the code beside it: nobody but its owner can have written it.  One
            # of the first three descriptors is the program's, were it closed when we began.
            if (
                version == sys.version
                and status.st_size == self.behind + length
                and not status.st_mode & 0o022
                and status.st_uid in (0, posix.geteuid())
                and fd > 2
            ):
                self.fd, self.index = fd, index
                sys.meta_path.insert(0, self)
        except (OSError, ValueError, TypeError, EOFError):
            pass  # empty as it was installed, or damaged
        if self.fd < 0:
            posix.close(fd)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """The module, if it is kept and still what its source says."""
        kept = self.index.get(name)
        if kept is None:
            return None
        origin = f"{self.home}/{kept[0]}"
        try:
            status = posix.stat(origin)
        except OSError:
            return None
        if (status.st_mtime_ns, status.st_size) != kept[2:4]:
            return None
        loader: Any = self  # its class is importlib.abc's, which is not to be loaded
        spec = ModuleSpec(name, loader, origin=origin, is_package=kept[1])
        spec.has_location = True
        spec.cached = f"{self.home}/sandbox/start.cache"
        if kept[1]:
            spec.submodule_search_locations = [origin.rpartition("/")[0]]
        return spec

    def create_module(self, spec: object) -> None:
        """As Python makes them."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        *_, offset, length = self.index[module.__name__]
        code = marshal.loads(posix.pread(self.fd, length, self.behind + offset))  # noqa: S302
        self.used.add(module.__name__)
        exec(code, module.__dict__)  # noqa: S102 - what an import is

    def keep(self) -> None:
        """Write the file anew if a module of ours came from elsewhere."""
        for name, module in sys.modules.items():
            if (
                name.startswith(("sandbox", "cgroups", "netns"))
                and name not in self.used
                and (getattr(module, "__file__", None) or "").endswith(".py")
            ):
                break
        else:
            return
        if posix.access(f"{self.home}/sandbox", posix.W_OK):
            from .startcache import write

            write(self.home, self.fd, self.index, self.behind)


def run(home: str) -> NoReturn:
    """Run the program, whose packages are in ``home``, if that is known, and exit."""
    start_cache = StartCache()
    if home:
        start_cache.open(home)
    # A start makes many objects and no garbage.
    gc.set_threshold(100_000)
    try:
        from .main import main

        code = main(sys.argv[1:])
    finally:
        listing = posix.environ.get(b"SANDBOX_DEBUG_MODULES")
        if listing:
            with open(listing, "w") as file:
                file.write("\n".join(sorted(sys.modules)) + "\n")
    if home:
        start_cache.keep()
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit without taking the interpreter apart, which costs a third of its start."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        posix._exit(141)  # as if by SIGPIPE
    except OSError:
        sys.exit(code)  # let the interpreter say what it could not write
    if "threading" in sys.modules or "atexit" in sys.modules:
        sys.exit(code)
    posix._exit(code)
