"""Settings of one namespace, or of one link in it, below /proc/sys/net.

/proc/sys/net shows the namespace of the thread that opens a file in it, so one
is written inside ``namespace.entered()``, or about the thread's own.
"""

from __future__ import annotations

import os

from netns.errors import SettingRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.namespace import Entered, Namespace

ROOT = "/proc/sys/net"


def read(path: str) -> str:
    """A setting without its line end, or an empty text where this kernel has none such."""
    try:
        fd = os.open(f"{ROOT}/{path}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write(path: str, value: str, *, optional: bool = False) -> None:
    """Write a setting that has another value; an optional one may not be there at all."""
    full = f"{ROOT}/{path}"
    if read(path) == value:
        return
    try:
        fd = os.open(full, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if not (optional and isinstance(error, FileNotFoundError)):
            raise SettingRefused(full, value, error.errno or 0) from error


def harden_new_links(*, ipv6: bool) -> None:
    """Let links that come into the thread's namespace from now on hear no router.

    Without ``ipv6`` they have none of it, not even an address of the link: a container on an
    IPv4 network cannot be reached, or misled, by a family that nobody configured.  With it,
    addresses are used at once: who hands out addresses and hardware addresses knows that they
    are given once, and asking the neighbours takes more than a second.
    """
    _harden("default", ipv6=ipv6)


def harden_link(name: str, *, ipv6: bool) -> None:
    """The same for a link that is there, in the thread's namespace."""
    _harden(name, ipv6=ipv6)


def _harden(name: str, *, ipv6: bool) -> None:
    # Without IPv6 in the kernel there are no such files.
    write(f"ipv6/conf/{name}/accept_ra", "0", optional=True)
    write(f"ipv6/conf/{name}/accept_dad", "0", optional=True)
    write(f"ipv6/conf/{name}/disable_ipv6", "0" if ipv6 else "1", optional=True)


class Here:
    """The thread where it is, for a block: `Entered` of no other namespace."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def entered(namespace: Namespace | None) -> Entered | Here:
    """Move the thread into the namespace for a block; for None it stays, and nothing is loaded."""
    return Here() if namespace is None else namespace.entered()


def in_namespace(namespace: Namespace | None) -> Namespace:
    """The namespace, or that of the thread; to be used in a ``with`` either way."""
    from netns.namespace import Namespace as Held

    if namespace is None:
        return Held.current()
    return Held(os.dup(namespace.fileno()), namespace.path)
