"""The three files under /etc that the engine owns, bind-mounted into the container."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..record import Record
from ..state.document import create_bytes, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import RunOptions

HOSTS = "hosts"
HOSTNAME = "hostname"
RESOLV_CONF = "resolv.conf"
HOST_GATEWAY = "host-gateway"


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


class Place(Record):
    """A container's place on networks, as its files show it; a start without any has none.

    ``addresses`` are without a prefix, ``gateway`` is the host as the container sees it, and
    ``resolver`` who knows the names of its networks; empty on the default one.
    """

    addresses: tuple[str, ...]
    gateway: str
    resolver: str = ""


def write(folder: str, options: RunOptions, hostname: str) -> None:
    """Write ``hosts``, ``hostname`` and ``resolv.conf`` into a new container's folder.

    On networks, each start writes the first and the last anew.
    """
    for name, text in (
        (HOSTNAME, hostname + "\n"),
        (HOSTS, hosts_text(options, hostname)),
        (RESOLV_CONF, resolv_text(options)),
    ):
        create_bytes(f"{folder}/{name}", text.encode(), mode=0o644)


def hosts_text(options: RunOptions, hostname: str, place: Place | None = None) -> str:
    """Docker's lines, what ``--add-host`` asked for, and the container's own name."""
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
        if address == HOST_GATEWAY:
            address = _host(options, place)
        if address:
            lines.append(f"{address}\t{name}")
    full = f"{hostname}.{options.domainname} " if options.domainname else ""
    addresses = ("127.0.1.1",) if place is None else place.addresses
    lines += [f"{address}\t{full}{hostname}" for address in addresses]
    return "\n".join(lines) + "\n"


def _host(options: RunOptions, place: Place | None) -> str:
    if place is not None:
        return place.gateway
    # Without a network of its own there is no host to speak to.
    return "127.0.0.1" if options.network == "host" else ""


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


def resolv_text_at(
    options: RunOptions, place: Place, *, host_file: str = "/etc/resolv.conf"
) -> tuple[str, bool]:
    """The file of a container on networks, and whether it needs a resolver on the default one.

    What was asked for comes first; then the network's resolver, or the host's nameservers, of
    which those on its loopback cannot be asked from a container: if no other is left, the
    resolver is, who can.  Search domains and options are the host's where no other were asked for.
    """
    # On networks only: the host's file is read for each start.
    from netns import resolvconf

    host = resolvconf.of_host(host_file)
    needs_resolver = False
    servers = options.dns
    if not servers and place.resolver:
        servers = (place.resolver,)
    elif not servers:
        has6 = any(":" in address for address in place.addresses)
        servers = tuple(
            [each for each in resolvconf.reachable(host.nameservers) if has6 or ":" not in each]
        )
        if not servers:
            servers, needs_resolver = (place.gateway,), True
    search = options.dns_search or host.search
    if search == (".",):
        search = ()  # docker's word for none
    words = options.dns_option or host.options
    if place.resolver and not any(word.startswith("ndots:") for word in options.dns_option):
        # A name with no dot in it is a container's before it is a host's of the search domains.
        words = (*[word for word in words if not word.startswith("ndots:")], "ndots:0")
    made = resolvconf.ResolvConf(nameservers=servers, search=search, options=words)
    return made.text(), needs_resolver
