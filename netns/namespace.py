"""Create a network namespace, pin it to a path, enter it for a block, delete it.

A namespace lives as long as a process is in it, a descriptor holds it, or a path pins it.  A
`Namespace` is a descriptor; `Namespace.pin` bind-mounts it on a file, in the mount namespace of
the caller, and so it outlives the process.  When the last of them is gone the kernel takes
back all its links, some 100 ms later; a veth's other end goes with it.

The system calls act on one thread: a namespace is made in a short-lived thread, so that
nobody else's network is touched, and ``entered`` moves the calling thread alone.
"""

from __future__ import annotations

import os
from errno import EBUSY

from netns.errors import NamespaceExists, NamespaceNotFound, NamespaceRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in its place does not block
_OWN = "/proc/thread-self/ns/net"


class Namespace:
    """One network namespace, held by a descriptor that this object owns."""

    def __init__(self, fd: int, path: str) -> None:
        """Keep ``fd``; ``path`` is for messages.  Use `create`, `open`, `current`, `of_process`."""
        self._fd = fd
        self.path = path

    @classmethod
    def create(cls, pin: str = "") -> Namespace:
        """Make a namespace, pinned at ``pin`` if that is given; loopback is down in it."""
        made = cls(_in_a_thread(_unshared), "a new namespace")
        if pin:
            try:
                made.pin(pin)
            except BaseException:
                made.close()
                raise
        return made

    @classmethod
    def open(cls, path: str) -> Namespace:
        """The namespace that is pinned at ``path``."""
        try:
            fd = os.open(path, _OPEN)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NamespaceNotFound("no network namespace", path=path) from error
        except OSError as error:
            raise NamespaceRefused("open", path=path, errno=error.errno or 0) from error
        made = cls(fd, path)
        if not _is_network_namespace(fd):
            made.close()
            raise NamespaceNotFound("not a network namespace", path=path)
        return made

    @classmethod
    def of_process(cls, pid: int) -> Namespace:
        """The namespace of a process; hold a pidfd and check it afterwards, for ids are reused."""
        return cls.open(f"/proc/{pid}/ns/net")

    @classmethod
    def current(cls) -> Namespace:
        """The namespace of the calling thread."""
        return cls.open(_OWN)

    def pin(self, path: str) -> None:
        """Bind the namespace to a new file at ``path``; `delete` takes it back."""
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise NamespaceExists("a network namespace is pinned already", path=path) from error
        except OSError as error:
            raise NamespaceRefused("pin", path=path, errno=error.errno or 0) from error
        try:
            _mount(f"/proc/self/fd/{self.fileno()}", path)
        except OSError as error:
            os.unlink(path)
            raise NamespaceRefused("pin", path=path, errno=error.errno or 0) from error
        self.path = path

    def entered(self) -> Entered:
        """Move the calling thread into the namespace for a block.

        Sockets made in the block stay in the namespace afterwards, and processes started in
        it live there.
        """
        return Entered(self)

    def is_same(self, other: Namespace) -> bool:
        """Whether both are the same namespace, whatever their paths."""
        one, two = os.fstat(self.fileno()), os.fstat(other.fileno())
        return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)

    def fileno(self) -> int:
        """The descriptor, which stays this object's."""
        if self._fd < 0:
            raise NamespaceNotFound("the namespace was closed", path=self.path)
        return self._fd

    def close(self) -> None:
        """Let go of the namespace; a second time is nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Namespace({self.path!r})"


class Entered:
    """The thread in a namespace, from the start of a block to its end."""

    def __init__(self, namespace: Namespace) -> None:
        """Nothing happens before the block begins; use `Namespace.entered`."""
        self._namespace = namespace
        self._before = -1

    def __enter__(self) -> None:
        namespace = self._namespace
        before = os.open(_OWN, _OPEN)
        try:
            _setns(namespace.fileno())
        except OSError as error:
            os.close(before)
            errno = error.errno or 0
            raise NamespaceRefused("enter", path=namespace.path, errno=errno) from error
        except BaseException:
            os.close(before)
            raise
        self._before = before

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        before, self._before = self._before, -1
        try:
            _setns(before)
        finally:
            os.close(before)


def delete(path: str) -> None:
    """Take the pin back; what holds the namespace otherwise goes on holding it.

    A file that pins nothing (a crash came between) is removed too; a path where nothing is, is
    nothing to do.  What is neither is left alone, and an error.
    """
    try:
        Namespace.open(path).close()
    except NamespaceNotFound as error:
        if not os.path.lexists(path):
            return
        if not os.path.isfile(path) or os.path.getsize(path):
            raise NamespaceNotFound("not a network namespace", path=path) from error
    else:
        try:
            _umount(path)
        except OSError as error:
            raise NamespaceRefused("delete", path=path, errno=error.errno or 0) from error
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        hint = "it is pinned there twice" if error.errno == EBUSY else ""
        raise NamespaceRefused("delete", path=path, errno=error.errno or 0, hint=hint) from error


def _unshared() -> int:
    _libc_call("unshare", CLONE_NEWNET)
    return os.open(_OWN, _OPEN)


def _in_a_thread(act: Callable[[], int]) -> int:
    import threading

    answer: list[int] = []
    wrong: list[OSError] = []

    def body() -> None:
        try:
            answer.append(act())
        except OSError as error:
            wrong.append(error)

    thread = threading.Thread(target=body, name="netns-create")
    thread.start()
    thread.join()
    if wrong:
        errno = wrong[0].errno or 0
        raise NamespaceRefused("make", path="a new namespace", errno=errno) from wrong[0]
    return answer[0]


def _is_network_namespace(fd: int) -> bool:
    # NS_GET_NSTYPE; on a descriptor that is no namespace it is not known.
    import fcntl

    try:
        return fcntl.ioctl(fd, 0xB703) == CLONE_NEWNET
    except OSError:
        return False


def _setns(fd: int) -> None:
    _libc_call("setns", fd, CLONE_NEWNET)


def _mount(source: str, target: str) -> None:
    _libc_call("mount", source.encode(), os.fsencode(target), None, MS_BIND, None)


def _umount(target: str) -> None:
    _libc_call("umount2", os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW)


def _libc_call(name: str, *arguments: int | bytes | None) -> None:
    """One function of libc that answers 0 or -1; raises OSError."""
    import ctypes  # 5 ms; os.unshare and os.setns come with Python 3.12, mount never

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), name)
