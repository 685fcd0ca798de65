"""The sockets of a resolver: UDP and TCP, on port 53 of each gateway.

They are bound by whoever starts a resolver and given to it: what a client asks before it reads
waits in the socket, so nobody has to wait for the resolver, and that a port is taken is known at
once.
"""

from __future__ import annotations

from errno import EADDRINUSE

from netns import settings
from netns.errors import NetnsError, PortTaken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 - a class

    from netns.namespace import Namespace

PORT = 53
_QUEUE = 64
_IP_FREEBIND = 15


def bind(
    addresses: tuple[str, ...], *, port: int = PORT, namespace: Namespace | None = None
) -> list[Socket]:
    """Bind both protocols of every address; all of them, or none.

    A gateway's bridge may be missing at this moment, and may be made anew later: the sockets do
    not notice.  Raises `PortTaken`, or `NetnsError` for anything else.
    """
    made: list[Socket] = []
    try:
        with settings.in_namespace(namespace) as place, place.entered():
            for address in addresses:
                made += [_bound(address, port, kind) for kind in ("udp", "tcp")]
    except BaseException:
        for each in made:
            each.close()
        raise
    return made


def _bound(address: str, port: int, kind: str) -> Socket:
    import _socket  # the compiled half of `socket`

    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    stream = _socket.SOCK_STREAM if kind == "tcp" else _socket.SOCK_DGRAM
    made = _socket.socket(family, stream | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(_socket.SOL_IP, _IP_FREEBIND, 1)
        if kind == "tcp":
            # Connections of an earlier resolver may still be on their way out.
            made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == "tcp":
            made.listen(_QUEUE)
    except OSError as error:
        made.close()
        if error.errno == EADDRINUSE:
            taken = PortTaken(address, port, kind, "")
            taken.hint = (
                "a name server of the host listens there, or on every address;"
                " have it listen on its own addresses only"
            )
            raise taken from error
        shown = f"[{address}]" if ":" in address else address
        message = f"cannot listen on {shown}:{port}/{kind}: {(error.strerror or '').lower()}"
        raise NetnsError(message) from error
    return made
