"""The three files under /etc that the engine owns, bind-mounted into the container."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..state.document import create_bytes, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import RunOptions

HOSTS = "hosts"
HOSTNAME = "hostname"
RESOLV_CONF = "resolv.conf"


def make_mount_points(folder: str) -> None:
    """The layer below every image: places for what is mounted in every container.

    An image that lacks them would otherwise get them in the writable layer,
    where they would look like a change the container made.
    """
    make_folder(folder, 0o755)
    for name in ("proc", "sys", "dev", "etc"):
        make_folder(f"{folder}/{name}", 0o755)
    for name in (HOSTS, HOSTNAME, RESOLV_CONF):
        fd = os.open(f"{folder}/etc/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(fd, 0o644)
        os.close(fd)


def make_folder(path: str, mode: int) -> None:
    """A folder that a container sees: of this mode, whatever the caller's umask is."""
    os.makedirs(path, mode=mode, exist_ok=True)
    os.chmod(path, mode)


def write(folder: str, options: RunOptions, hostname: str) -> None:
    """Write ``hosts``, ``hostname`` and ``resolv.conf`` into a new container's folder."""
    for name, text in (
        (HOSTNAME, hostname + "\n"),
        (HOSTS, hosts_text(options, hostname)),
        (RESOLV_CONF, resolv_text(options)),
    ):
        create_bytes(f"{folder}/{name}", text.encode(), mode=0o644)


def hosts_text(options: RunOptions, hostname: str) -> str:
    """Docker's lines, the container's own name, and what ``--add-host`` asked for."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    for text in options.add_host:
        name, colon, address = text.partition(":")
        if not colon or not name or not address:
            raise UsageError(f'bad format for add-host: "{text}"')
        lines.append(f"{address}\t{name}")
    full = f"{hostname}.{options.domainname} " if options.domainname else ""
    lines.append(f"127.0.1.1\t{full}{hostname}")
    return "\n".join(lines) + "\n"


def resolv_text(options: RunOptions) -> str:
    """What was asked for; with the host's network, the host's file."""
    if not (options.dns or options.dns_search or options.dns_option):
        if options.network == "host":
            try:
                return read_bytes("/etc/resolv.conf").decode("utf-8", "replace")
            except OSError:
                return ""
        return "# no network\n"
    lines = [f"nameserver {address}" for address in options.dns]
    if options.dns_search:
        lines.append("search " + " ".join(options.dns_search))
    if options.dns_option:
        lines.append("options " + " ".join(options.dns_option))
    return "\n".join(lines) + "\n"
