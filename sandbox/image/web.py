"""Requests to any origin: connections, TLS, time; no credentials, no redirects.

- https, with the host's authorities and those of ``certs.d/HOST:PORT``; plain http only
  where `Settings.may_be_plain`: this machine, and registries that were named as insecure.
- Everything is bounded: headers (by the standard library), documents, time without a byte.
- `Web.cut` ends, from another thread, whatever is under way: a look-up, a connection that
  nobody answers, a handshake, an answer.

`http.client` and not a bigger library: what those add (redirects, retries, pools) is
exactly what has to be done here by hand, and it loads and runs faster than they do.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import time
from contextlib import contextmanager
from threading import Event, Lock, Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import RegistryError, UsageError
from ..oci.reference import DEFAULT_DOMAIN
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Protocol, Self

    class Rewindable(Protocol):
        """What can be sent, and sent again from its beginning."""

        def read(self, size: int = -1, /) -> bytes:
            """Some bytes; none at the end."""

        def seek(self, at: int, /) -> int:
            """Go to a place."""

    Body = bytes | Rewindable

MAX_ERROR = 1 << 16
MAX_SAID = 300
MAX_DOCUMENT_S = 300.0
_CHUNK = 1 << 18
# How often a look-up, which nothing can end, is asked whether it is still wanted.
_LOOK_S = 0.05


class Settings(Record):
    """How registries are spoken to; ``insecure`` are hosts, with their ports if not 443.

    ``mirrors`` are registries and what is asked before them.
    """

    insecure: tuple[str, ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    certificates: tuple[str, ...] = ("/etc/docker/certs.d",)
    timeout_s: float = 60.0
    attempts: int = 5
    backoff_s: float = 0.5

    @classmethod
    def choose(cls, certificates: str, environ: Mapping[str, str] | None = None) -> Settings:
        """With what SANDBOX_INSECURE_REGISTRIES, SANDBOX_REGISTRY_{MIRRORS,TIMEOUT} say.

        ``certificates`` is the engine's own folder, beside docker's.
        """
        environ = os.environ if environ is None else environ
        text = environ.get("SANDBOX_REGISTRY_TIMEOUT", "60")
        try:
            timeout_s = float(text)
        except ValueError:
            timeout_s = 0.0
        if not 0 < timeout_s < 1e6:
            raise UsageError(f"SANDBOX_REGISTRY_TIMEOUT is not a number of seconds: {text!r}")
        named = environ.get("SANDBOX_INSECURE_REGISTRIES", "").replace(",", " ").split()
        return cls(
            insecure=tuple(name.lower() for name in named),
            mirrors=_mirrors(environ.get("SANDBOX_REGISTRY_MIRRORS", "")),
            certificates=(certificates, "/etc/docker/certs.d"),
            timeout_s=timeout_s,
        )

    def may_be_plain(self, origin: Origin) -> bool:
        """Whether plain http will do."""
        return is_loopback(origin.host) or self.is_insecure(origin)

    def mirrors_of(self, domain: str) -> tuple[str, ...]:
        """Whom to ask before this registry."""
        return tuple(mirror for registry, mirror in self.mirrors if registry == domain)

    def is_insecure(self, origin: Origin) -> bool:
        """Whether it was named as insecure: its certificate is not looked at."""
        return origin.host in self.insecure or origin.host_port in self.insecure


class Origin(Record):
    """Scheme, host and port: who a request is made to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        default = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{self._shown}" + (f":{self.port}" * (self.port != default))

    @property
    def host_port(self) -> str:
        """``HOST:PORT``, always with the port."""
        return f"{self._shown}:{self.port}"

    @property
    def _shown(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def origin_of(url: str) -> Origin:
    """The origin of an address; `RegistryError` for what is no http or https address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RegistryError(f"not an address: {plain_text(url)}") from error
    is_good = parts.scheme in ("http", "https") and host and "@" not in parts.netloc
    if not is_good or not all("!" <= letter <= "~" for letter in url):
        raise RegistryError(f"not an address: {plain_text(url)}")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return Origin(scheme=parts.scheme, host=host, port=port)


def _mirrors(text: str) -> tuple[tuple[str, str], ...]:
    # MIRROR, of docker's own registry, or REGISTRY=MIRROR; as addresses or as hosts.
    found = []
    for word in text.replace(",", " ").split():
        registry, equals, mirror = word.rpartition("=")
        mirror = (mirror.partition("://")[2] or mirror).rstrip("/")
        if "/" in mirror or not mirror or (equals and not registry):
            raise UsageError(
                f"SANDBOX_REGISTRY_MIRRORS: [REGISTRY=]HOST[:PORT] is expected, not {word!r}"
            )
        origin_of(f"https://{mirror}")
        found.append((registry.lower() or DEFAULT_DOMAIN, mirror))
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's own, without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class NotNow(RegistryError):
    """The connection broke, or the registry says "later": worth another attempt.

    ``after`` is the number of seconds that it asked for; empty if none.
    """

    after = ""


class NotTls(RegistryError):
    """The other side does not speak TLS."""


class Answer:
    """One answer.  Close it; its connection is used again if all of it was read."""

    def __init__(
        self,
        web: Web,
        origin: Origin,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        method: str,
        url: str,
    ) -> None:
        self.method = method
        self.url = url
        self.status = response.status
        self.reason = response.reason
        self._web = web
        self._origin = origin
        self._connection = connection
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """A header's value; empty if there is none."""
        return self._response.headers.get(name) or ""

    def headers(self, name: str) -> list[str]:
        """All values of a header."""
        return self._response.headers.get_all(name) or []

    @property
    def length(self) -> int:
        """The announced length; -1 if none was."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else -1

    def read_into(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end, or where the connection ended."""
        try:
            # What is there: `readinto` waits for all of it, however slowly it comes.
            part = self._response.read1(len(buffer))
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError, AttributeError: somebody else has cut it off.
            raise self._web.lost("GET", self.url, error) from error
        buffer[: len(part)] = part
        return len(part)

    def content(self, limit: int, what: str) -> bytes:
        """All of it, if it is not longer than ``limit``."""
        if self.length > limit:
            raise RegistryError(f"{what} is longer than {limit} bytes")
        deadline = time.monotonic() + MAX_DOCUMENT_S
        content = bytearray()
        buffer = memoryview(bytearray(min(limit + 1, 1 << 16)))
        while count := self.read_into(buffer):
            content += buffer[:count]
            if len(content) > limit:
                raise RegistryError(f"{what} is longer than {limit} bytes")
            if time.monotonic() > deadline:
                raise NotNow(f"{doing('GET', self.url)}: still coming after {MAX_DOCUMENT_S:g} s")
        if self.length not in (-1, len(content)):
            raise NotNow(f"{doing('GET', self.url)}: unexpected EOF")
        return bytes(content)

    def cut(self) -> None:
        """End it from another thread, which wakes whoever reads."""
        _shut(self._connection)

    def close(self) -> None:
        """Give the connection back, or end it."""
        response = self._response
        try:
            # The little that nobody asked for, so that the connection can be used again.
            left = response.length
            if self.method == "HEAD" or (left is not None and left <= MAX_ERROR):
                response.read()
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            response.will_close = True
        if response.isclosed() and not response.will_close:
            self._web.keep(self._origin, self._connection)
        else:
            response.close()
            self._web.drop(self._connection)


class Web:
    """Requests to any origin: connections, TLS, timeouts; no credentials, no redirects."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._opening: set[socket.socket] = set()
        self._cut = Event()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = Lock()

    def cut(self) -> None:
        """End, from another thread, what is under way, and begin nothing more.

        Wakes who waits for a connection or an answer as well as who reads one.
        """
        with self._lock:
            self._cut.set()
            for connection in self._busy:
                _shut(connection)
            for opening in self._opening:
                _end(opening)

    def wait(self, seconds: float) -> None:
        """Wait before another attempt; not longer than until the cut."""
        self._cut.wait(seconds)

    def lost(self, method: str, url: str, error: Exception) -> RegistryError:
        """What to say of a connection that broke."""
        if self._cut.is_set():
            return interrupted(method, url)
        return _lost(method, url, error, self.settings)

    def close(self) -> None:
        """End what is kept open."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def keep(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            self._busy.discard(connection)
            self._idle.setdefault(origin, []).append(connection)

    def drop(self, connection: http.client.HTTPConnection) -> None:
        """End a connection."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
    ) -> Answer:
        """One request and the beginning of its answer, whatever that says."""
        origin = origin_of(url)
        if origin.scheme == "http" and not self.settings.may_be_plain(origin):
            raise RegistryError(
                f"{origin} is not encrypted",
                hint=f"SANDBOX_INSECURE_REGISTRIES={origin.host_port} allows it for this registry",
            )
        with self._lock:
            idle = self._idle.get(origin)
            connection = idle.pop() if idle else None
        if connection is not None and (body is None or isinstance(body, bytes)):
            try:
                return self._asked(origin, connection, method, url, headers, body)
            except NotNow:
                connection = None  # it may have been idle for too long
        elif connection is not None:
            connection.close()
        connection = self._connected(origin, method, url)
        return self._asked(origin, connection, method, url, headers, body)

    def _asked(
        self,
        origin: Origin,
        connection: http.client.HTTPConnection,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> Answer:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if headers.get("Content-Length") == "0":
            body = None
        with self._lock:
            self._busy.add(connection)
            is_cut = self._cut.is_set()
        if is_cut:
            self.drop(connection)
            raise interrupted(method, url)
        try:
            try:
                connection.request(method, target, body=body, headers=dict(headers))
            except (BrokenPipeError, ConnectionResetError):
                # It may have said why before it stopped listening.
                if body is None:
                    raise
            response = connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # AttributeError: somebody else has cut it off.
            self.drop(connection)
            raise self.lost(method, url, error) from error
        except BaseException:
            self.drop(connection)
            raise
        return Answer(self, origin, connection, response, method, url)

    def _connected(self, origin: Origin, method: str, url: str) -> http.client.HTTPConnection:
        proxy = None if is_loopback(origin.host) else _proxy(origin)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        connection: http.client.HTTPConnection
        if origin.scheme == "https":
            connection = http.client.HTTPSConnection(origin.host, origin.port)
        else:
            connection = http.client.HTTPConnection(origin.host, origin.port)
        connection.blocksize = _CHUNK
        try:
            opened = self._dialed(host, port)
            try:
                if proxy:
                    self._pass(opened, origin)
                if origin.scheme == "https":
                    opened = self._encrypted(opened, origin)
            except BaseException:
                opened.close()
                raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._cut.is_set():
                raise interrupted(method, url) from error
            raise self._unreached(origin, f"{host}:{port}", method, url, error) from error
        connection.sock = opened
        return connection

    def _dialed(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _name, address in self._looked_up(host, port):
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(self.settings.timeout_s)
                with self._opened(opened):
                    opened.connect(address)
                    opened.getpeername()  # one that was cut while it waited has none
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return opened
            except OSError as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
        assert failure is not None
        raise failure

    def _looked_up(self, host: str, port: int) -> list[Any]:
        # Nothing ends a look-up in the C library: it is left alone when nobody wants it any more.
        if is_loopback(host):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found: list[Any] = []
        failures: list[OSError] = []
        is_done = Event()

        def look_up() -> None:
            try:
                found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                failures.append(error)
            finally:
                is_done.set()

        Thread(target=look_up, name="look-up", daemon=True).start()
        while not is_done.wait(_LOOK_S):
            if self._cut.is_set():
                raise OSError("interrupted")
        if failures:
            raise failures[0]
        return found

    def _pass(self, opened: socket.socket, origin: Origin) -> None:
        # Through an http proxy, which does not see what is inside.
        with self._opened(opened):
            words = f"CONNECT {origin.host_port} HTTP/1.1\r\nHost: {origin.host_port}\r\n\r\n"
            opened.sendall(words.encode("ascii"))
            response = http.client.HTTPResponse(opened, method="CONNECT")
            response.begin()
            if response.status != 200:
                raise OSError(f"the proxy answered {response.status} {plain_text(response.reason)}")

    def _encrypted(self, opened: socket.socket, origin: Origin) -> socket.socket:
        made = self._context(origin).wrap_socket(
            opened, server_hostname=origin.host, do_handshake_on_connect=False
        )
        try:
            with self._opened(made):
                made.do_handshake()
        except BaseException:
            made.close()
            raise
        return made

    @contextmanager
    def _opened(self, opened: socket.socket) -> Iterator[None]:
        # For a block in which a cut ends it.
        with self._lock:
            if self._cut.is_set():
                raise OSError("interrupted")
            self._opening.add(opened)
        try:
            yield
        finally:
            with self._lock:
                self._opening.discard(opened)

    def _unreached(
        self, origin: Origin, address: str, method: str, url: str, error: Exception
    ) -> Exception:
        about = doing(method, url)
        if isinstance(error, ssl.SSLCertVerificationError):
            return RegistryError(
                f"{about}: tls: failed to verify certificate: {error.verify_message}",
                hint="the certificate of its authority belongs in "
                f"{self.settings.certificates[0]}/{origin.host_port}/ca.crt",
            )
        if isinstance(error, socket.gaierror):
            host = address.rpartition(":")[0]
            return RegistryError(f"{about}: dial tcp: lookup {host}: no such host")
        if isinstance(error, (ssl.SSLError, ConnectionResetError)):
            reason = getattr(error, "reason", None) or str(error)
            return NotTls(
                f"{about}: tls: {reason.lower().replace('_', ' ')}",
                hint=f"SANDBOX_INSECURE_REGISTRIES={origin.host_port} allows plain http",
            )
        if isinstance(error, TimeoutError):
            return NotNow(
                f"{about}: dial tcp {address}: no answer in {self.settings.timeout_s:g} s"
            )
        number = getattr(error, "errno", None)
        said = os.strerror(number).lower() if number else str(error)
        kind = RegistryError if isinstance(error, ConnectionRefusedError) else NotNow
        return kind(f"{about}: dial tcp {address}: connect: {said}")

    def _context(self, origin: Origin) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get(origin.host_port)
            if context is None:
                context = self._contexts[origin.host_port] = _context(self.settings, origin)
        return context


def plain_text(text: str) -> str:
    """What others say, as it is shown."""
    # What others say is shown, bounded, and moves no cursor.
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: MAX_SAID + 1])
    return shown if len(shown) <= MAX_SAID else shown[: MAX_SAID - 1] + "…"


def shown_url(url: str) -> str:
    """An address without what may be a signature."""
    return plain_text(url.partition("?")[0])


def doing(method: str, url: str) -> str:
    """A request, as docker's errors begin with it."""
    return f'{method.capitalize()} "{shown_url(url)}"'


def _shut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        _end(connection.sock)


def _end(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself


def interrupted(method: str, url: str) -> RegistryError:
    """The error of a request that was cut."""
    return RegistryError(f"{doing(method, url)}: interrupted")


def _lost(method: str, url: str, error: Exception, settings: Settings) -> RegistryError:
    about = doing(method, url)
    if isinstance(error, TimeoutError):
        return NotNow(f"{about}: nothing came for {settings.timeout_s:g} s")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        # The other side has ended it on purpose, and says why.
        return RegistryError(
            f"{about}: tls: {error.reason.lower().replace('_', ' ')}",
            hint="a certificate of your own belongs beside that of the authority, as NAME.cert "
            "with NAME.key",
        )
    if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return NotNow(f"{about}: unexpected EOF")
    if isinstance(error, http.client.HTTPException):
        return RegistryError(f"{about}: malformed HTTP response: {plain_text(str(error))}")
    reason = getattr(error, "strerror", None) or str(error)
    return NotNow(f"{about}: {plain_text(reason).lower()}")


def authorities(settings: Settings, origin: Origin) -> list[str]:
    """The files ``*.crt`` of ``certs.d/HOST:PORT``, or of ``certs.d/HOST`` for the usual port."""
    return _certificates(settings, origin, ".crt")


def _certificates(settings: Settings, origin: Origin, end: str) -> list[str]:
    names = [origin.host_port] + [origin.host] * (origin.port == 443)
    found = []
    for folder in settings.certificates:
        for name in names:
            if "/" in name or name.startswith("."):
                continue
            try:
                files = sorted(os.listdir(f"{folder}/{name}"))
            except OSError:
                continue
            found += [f"{folder}/{name}/{file}" for file in files if file.endswith(end)]
    return found


def _context(settings: Settings, origin: Origin) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.is_insecure(origin):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in authorities(settings, origin):
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"{path}: not a certificate: {error}") from error
    # docker's: NAME.cert, with its key in NAME.key.
    for path in _certificates(settings, origin, ".cert"):
        key = f"{path.removesuffix('.cert')}.key"
        try:
            context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(
                f"{path}: not a certificate with its key in {key}: {error}"
            ) from error
    return context


def _proxy(origin: Origin) -> Origin | None:
    # Through an http proxy, by CONNECT, which does not see what is inside.
    address = getproxies().get(origin.scheme)
    if not address or proxy_bypass(origin.host_port):
        return None
    return origin_of(address if "://" in address else f"http://{address}")
