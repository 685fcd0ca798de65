"""Texts of resolv.conf and hosts: read and written, with builtins alone.

See resolv.conf(5), hosts(5).  Nothing here knows where such a file is, but for the host's own.
"""

from __future__ import annotations

import os

from netns.errors import InvalidValue
from netns.record import Record

HOST_FILE = "/etc/resolv.conf"
MAX_BYTES = 65536
MOST_SERVERS = 3  # more are not asked, by any C library


class ResolvConf(Record):
    """What a resolv.conf says; the order counts."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        """The file."""
        lines = [f"nameserver {address}" for address in self.nameservers]
        if self.search:
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join([line + "\n" for line in lines])


def parse(text: str) -> ResolvConf:
    """Read a resolv.conf as C libraries do: of ``search`` and ``domain`` the last one counts."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        word, rest = words[0], words[1:]
        for place, value in enumerate(rest):
            if value[0] in "#;":
                rest = rest[:place]
                break
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word == "domain" and rest:
            search = rest[:1]
        elif word == "search":
            search = rest
        elif word == "options":
            options += rest
    return ResolvConf(nameservers=tuple(servers), search=tuple(search), options=tuple(options))


def of_host(path: str = HOST_FILE) -> ResolvConf:
    """The host's own; an empty one if it has none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ResolvConf()
    try:
        data = os.read(fd, MAX_BYTES)
    finally:
        os.close(fd)
    return parse(data.decode("utf-8", "replace"))


def is_loopback(address: str) -> bool:
    """Whether an address is the host's own, which means another host inside a namespace.

    So is one with a zone (``fe80::1%eth0``): its link is not there either.
    """
    plain = address.lower()
    return (
        plain.startswith(("127.", "::ffff:127.")) or plain in ("::1", "0.0.0.0", "::", "::0")
    ) or "%" in plain


def reachable(servers: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can be asked from another namespace, too."""
    return tuple([server for server in servers if not is_loopback(server)])


def hosts_line(address: str, *names: str) -> str:
    """One line of a hosts file.  `InvalidValue` for what would be more than that."""
    for word in (address, *names):
        if not word or any(character.isspace() or character == "#" for character in word):
            raise InvalidValue("name", word, "it cannot stand in a hosts file")
    return f"{address}\t{' '.join(names)}\n"
