"""The distribution protocol: one registry and one repository, one request a method.

Rules of every request, whatever a registry says:

- https, with the host's authorities and those of ``certs.d/HOST:PORT``; plain http only
  where `Settings.may_be_plain`: this machine, and registries that were named as insecure.
- ``Authorization`` goes to the registry's own origin (scheme, host and port) and nowhere
  else.  Redirects are followed here, at most five, and never from https to http.
- A login goes to a token server only if `credentials.Realms` allows it.
- Everything is bounded: headers (by the standard library), documents, redirects, time
  without a byte, attempts.  An answer that is lost or says "later" is asked for again,
  after a while; whoever reads a blob goes on where it broke off (``Registry.blob``).

`http.client` and not a bigger library: what those add (redirects, retries, pools) is
exactly what has to be done here by hand, and it loads and runs faster than they do.

Out of scope: what manifests say, what is missing, several blobs at once; see ``transfer``.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import time
from threading import Event, Lock
from urllib.parse import quote, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from .. import jsontext
from ..errors import AccessDenied, DamagedDocument, RegistryError, UsageError
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci.manifest import MAX_BYTES
from ..oci.reference import DEFAULT_DOMAIN
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol, Self, TypeVar

    from .credentials import Keyring, Login, Realms

    T = TypeVar("T")

    class Rewindable(Protocol):
        """What can be sent, and sent again from its beginning."""

        def read(self, size: int = -1, /) -> bytes:
            """Some bytes; none at the end."""

        def seek(self, at: int, /) -> int:
            """Go to a place."""

    Body = bytes | Rewindable

HUB = "registry-1.docker.io"
MAX_REDIRECTS = 5
MAX_TOKEN = 1 << 20
MAX_ERROR = 1 << 16
MAX_SAID = 300
MAX_TAGS = 10_000
MAX_WAIT_S = 30.0
MAX_DOCUMENT_S = 300.0
ACCEPT = ", ".join((*descriptors.MANIFESTS, *descriptors.INDEXES))
LATER = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 18


class Settings(Record):
    """How registries are spoken to; ``insecure`` are hosts, with their ports if not 443."""

    insecure: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ("/etc/docker/certs.d",)
    timeout_s: float = 60.0
    attempts: int = 5
    backoff_s: float = 0.5

    @classmethod
    def choose(cls, certificates: str, environ: Mapping[str, str] | None = None) -> Settings:
        """With what SANDBOX_INSECURE_REGISTRIES and SANDBOX_REGISTRY_TIMEOUT say.

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
            certificates=(certificates, "/etc/docker/certs.d"),
            timeout_s=timeout_s,
        )

    def may_be_plain(self, origin: Origin) -> bool:
        """Whether plain http will do."""
        return is_loopback(origin.host) or self.is_insecure(origin)

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
        raise RegistryError(f"not an address: {_plain(url)}") from error
    is_good = parts.scheme in ("http", "https") and host and "@" not in parts.netloc
    if not is_good or not all("!" <= letter <= "~" for letter in url):
        raise RegistryError(f"not an address: {_plain(url)}")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return Origin(scheme=parts.scheme, host=host, port=port)


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


class _NotTls(RegistryError):
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
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError, AttributeError: somebody else has cut it off.
            raise self._web.lost("GET", self.url, error) from error

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
                raise NotNow(f"{_doing('GET', self.url)}: still coming after {MAX_DOCUMENT_S:g} s")
        if self.length not in (-1, len(content)):
            raise NotNow(f"{_doing('GET', self.url)}: unexpected EOF")
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
        self._cut = Event()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = Lock()

    def cut(self) -> None:
        """End, from another thread, what is under way, and begin nothing more.

        Wakes who waits for an answer as well as who reads one.
        """
        with self._lock:
            self._cut.set()
            for connection in self._busy:
                _shut(connection)

    def wait(self, seconds: float) -> None:
        """Wait before another attempt; not longer than until the cut."""
        self._cut.wait(seconds)

    def lost(self, method: str, url: str, error: Exception) -> RegistryError:
        """What to say of a connection that broke."""
        if self._cut.is_set():
            return _interrupted(method, url)
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
            raise _interrupted(method, url)
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
        settings = self.settings
        proxy = None if is_loopback(origin.host) else _proxy(origin)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        connection: http.client.HTTPConnection
        if origin.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=settings.timeout_s, context=self._context(origin)
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=settings.timeout_s)
        connection.blocksize = _CHUNK
        if proxy:
            connection.set_tunnel(origin.host, origin.port)
        try:
            connection.connect()
        except BaseException as error:
            connection.close()
            if not isinstance(error, (OSError, http.client.HTTPException, ValueError)):
                raise
            raise self._unreached(origin, f"{host}:{port}", method, url, error) from error
        return connection

    def _unreached(
        self, origin: Origin, address: str, method: str, url: str, error: Exception
    ) -> Exception:
        doing = _doing(method, url)
        if isinstance(error, ssl.SSLCertVerificationError):
            return RegistryError(
                f"{doing}: tls: failed to verify certificate: {error.verify_message}",
                hint="the certificate of its authority belongs in "
                f"{self.settings.certificates[0]}/{origin.host_port}/ca.crt",
            )
        if isinstance(error, socket.gaierror):
            return RegistryError(f"{doing}: dial tcp: lookup {address}: no such host")
        if isinstance(error, (ssl.SSLError, ConnectionResetError)):
            reason = getattr(error, "reason", None) or str(error)
            return _NotTls(
                f"{doing}: tls: {reason.lower().replace('_', ' ')}",
                hint=f"SANDBOX_INSECURE_REGISTRIES={origin.host_port} allows plain http",
            )
        if isinstance(error, TimeoutError):
            return NotNow(
                f"{doing}: dial tcp {address}: no answer in {self.settings.timeout_s:g} s"
            )
        number = getattr(error, "errno", None)
        said = os.strerror(number).lower() if number else str(error)
        kind = RegistryError if isinstance(error, ConnectionRefusedError) else NotNow
        return kind(f"{doing}: dial tcp {address}: connect: {said}")

    def _context(self, origin: Origin) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get(origin.host_port)
            if context is None:
                context = self._contexts[origin.host_port] = _context(self.settings, origin)
        return context


class Challenge(Record):
    """What ``WWW-Authenticate`` asks for."""

    kind: str
    realm: str = ""
    service: str = ""
    scope: str = ""


class Registry:
    """One repository of one registry; safe to use from several threads."""

    def __init__(
        self,
        domain: str,
        path: str,
        *,
        settings: Settings,
        keyring: Keyring,
        realms: Realms,
        actions: str = "pull",
        login: Login | None = None,
    ) -> None:
        self.domain = domain
        self.path = path
        self.settings = settings
        self._web = Web(settings)
        self._realms = realms
        self._keyring = keyring
        self._given = login
        self._scopes = [f"repository:{path}:{actions}"] if path else []
        self._origin: Origin | None = None
        self._login: Login | None = None
        self._challenge: Challenge | None = None
        self._authorization = ""
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._web.close()

    def cut(self) -> None:
        """End, from another thread, what is under way here; nothing more can be asked."""
        self._web.cut()

    # -- requests

    def open(self) -> Origin:
        """Find the registry and learn what it asks for, once."""
        with self._lock:
            if self._origin is None:
                origin = self._found()
                self._login = self._given or self._keyring.find(self.domain)
                if self._challenge is not None:
                    self._authorization = self._authorized(self._challenge, origin)
                self._origin = origin
            return self._origin

    def log_in(self) -> None:
        """Ask for nothing, with the login that was given; `AccessDenied` if it is not taken."""
        origin = self.open()
        with self._request("GET", f"{origin}/v2/") as answer:
            if answer.status != 200:
                raise refusal(answer, f"login attempt to {origin}/v2/ failed")
        challenge = self._challenge
        if challenge is not None and challenge.kind == "bearer":
            self._realms.pin(origin.host_port, origin_of(challenge.realm).host_port)

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """A manifest or an index as it is, and its media type, checked against its digest."""
        url = self._url("manifests", tag_or_digest)

        def read(answer: Answer) -> tuple[bytes, str]:
            content = answer.content(MAX_BYTES, f"manifest {tag_or_digest}")
            stated = answer.header("Docker-Content-Digest")
            for expected in (tag_or_digest, stated):
                if digests.is_digest(expected):
                    digests.verify(content, expected, what=f"manifest {tag_or_digest}")
            kind = answer.header("Content-Type").partition(";")[0].strip()
            known = (*descriptors.MANIFESTS, *descriptors.INDEXES)
            return content, kind if kind in known else ""

        return self._repeated(
            "GET", url, read, headers={"Accept": ACCEPT}, what=f"manifest {tag_or_digest}"
        )

    def document(self, digest: str, *, size: int, limit: int) -> bytes:
        """A small blob, verified."""
        if size > limit:
            raise RegistryError(f"{digest} is {size} bytes, at most {limit} are taken")

        def read(answer: Answer) -> bytes:
            content = answer.content(size, f"blob {digest}")
            if len(content) != size:
                raise RegistryError(f"{digest} is {len(content)} bytes, expected {size}")
            digests.verify(content, digest, what=f"blob {digest}")
            return content

        return self._repeated("GET", self._url("blobs", digest), read, what=f"blob {digest}")

    def blob(self, digest: str, start: int) -> Answer:
        """A blob from byte ``start`` on, if the registry can do that: status 206, or else 200.

        One attempt; the caller counts.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._request("GET", self._url("blobs", digest), headers)
        if answer.status in (200, 206):
            return answer
        with answer:
            raise refusal(answer, f"blob {digest}")

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has it."""
        found = self._repeated(
            "HEAD", self._url("blobs", digest), lambda answer: answer.status, also=(404,)
        )
        return found == 200

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository."""
        found: list[str] = []
        url = self._url("tags", "list")
        while url:
            content, following = self._repeated(
                "GET",
                url,
                lambda answer: (answer.content(MAX_BYTES, "tags"), answer.header("Link")),
            )
            value = jsontext.decode(content, what=f"tags of {self.domain}/{self.path}")
            tags = value.get("tags") if isinstance(value, dict) else None
            if not isinstance(tags, list):
                break
            found += [tag for tag in tags if isinstance(tag, str)]
            if len(found) > MAX_TAGS:
                raise RegistryError(f"more than {MAX_TAGS} tags")
            target = following.partition("<")[2].partition(">")[0] if tags else ""
            url = urljoin(url, target) if target else ""
            if url and origin_of(url) != self._origin:
                raise RegistryError(f"the list of tags goes on elsewhere: {_plain(url)}")
        return tuple(found)

    def mount(self, digest: str, other: str) -> str:
        """Take a blob over from another repository: empty, or where to upload it instead."""
        query = urlencode({"mount": digest, "from": other})
        return self._upload_at(f"{self._url('blobs', 'uploads/')}?{query}", mounted=True)

    def start_upload(self) -> str:
        """Where to send a blob."""
        return self._upload_at(self._url("blobs", "uploads/"), mounted=False)

    def upload(self, location: str, digest: str, body: Body, size: int) -> None:
        """Send all of a blob, and have it checked.  One attempt."""
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._request("PUT", url, headers, body) as answer:
            if answer.status not in (201, 204):
                raise refusal(answer, f"blob {digest}")

    def put_manifest(self, name: str, content: bytes, media_type: str) -> None:
        """Give a manifest to the registry under a tag."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        self._repeated(
            "PUT",
            self._url("manifests", name),
            lambda _answer: None,
            headers=headers,
            body=content,
            what=f"manifest {name}",
        )

    def allow(self, other: str) -> None:
        """Ask for the right to read another repository too, for `mount`."""
        scope = f"repository:{other}:pull"
        with self._lock:
            if scope not in self._scopes:
                self._scopes.append(scope)
                if self._challenge is not None and self._origin is not None:
                    self._authorization = self._authorized(self._challenge, self._origin)

    def wait_s(self, attempt: int, asked: str = "") -> float:
        """How long to wait before another attempt; as long as the registry asks for, if short."""
        wait_s = self.settings.backoff_s * float(2**attempt)
        if asked.isascii() and asked.isdigit():
            wait_s = max(wait_s, float(asked))
        return min(wait_s, MAX_WAIT_S)

    def pause(self, attempt: int, asked: str = "") -> None:
        """Wait before another attempt."""
        self._web.wait(self.wait_s(attempt, asked))

    # -- within

    def _url(self, kind: str, name: str) -> str:
        return f"{self.open()}/v2/{quote(self.path)}/{kind}/{quote(name, safe='/:')}"

    def _upload_at(self, url: str, *, mounted: bool) -> str:
        with self._request("POST", url, {"Content-Length": "0"}) as answer:
            if answer.status == 201 and mounted:
                answer.content(MAX_ERROR, "answer")
                return ""
            location = answer.header("Location")
            if answer.status != 202 or not location:
                raise refusal(answer, "upload")
            answer.content(MAX_ERROR, "answer")
        target = urljoin(url, location)
        self._check_step(url, target)
        return target

    def _repeated(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], T],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        what: str = "",
        also: Iterable[int] = (),
    ) -> T:
        # For what can be asked for twice.
        def once() -> T:
            with self._request(method, url, headers or {}, body) as answer:
                if not 200 <= answer.status < 300 and answer.status not in also:
                    raise refusal(answer, what)
                return read(answer)

        return self._persisted(once)

    def _persisted(self, once: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return once()
            except NotNow as error:
                attempt += 1
                if attempt >= self.settings.attempts or is_too_long(error.after):
                    raise
                self.pause(attempt - 1, error.after)

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Answer:
        own = self.open()
        steps = 0
        is_renewed = False
        while True:
            sent = {"User-Agent": "sandbox", **(headers or {})}
            authorization = self._authorization
            is_own = origin_of(url) == own
            if is_own and authorization:
                sent["Authorization"] = authorization
            answer = self._web.ask(method, url, sent, body)
            if answer.status == 401 and is_own and not is_renewed:
                is_renewed = True
                if self._renew(answer, authorization):
                    answer.close()
                    if body is not None and not isinstance(body, bytes):
                        body.seek(0)
                    continue
            if answer.status not in REDIRECTS or method not in ("GET", "HEAD"):
                return answer
            with answer:
                target = urljoin(url, answer.header("Location"))
            steps += 1
            if steps > MAX_REDIRECTS:
                raise RegistryError(f"{_doing(method, url)}: more than {MAX_REDIRECTS} redirects")
            self._check_step(url, target)
            url = target

    def _check_step(self, url: str, target: str) -> None:
        if origin_of(target).scheme == "http" and origin_of(url).scheme == "https":
            raise RegistryError(f"{_shown(url)} leads from https to http: {_shown(target)}")

    def _found(self) -> Origin:
        host = HUB if self.domain == DEFAULT_DOMAIN else self.domain
        secure = origin_of(f"https://{host}")
        # Whoever gave us an authority for it wants TLS.
        may_be_plain = self.settings.may_be_plain(secure) and not _authorities(
            self.settings, secure
        )
        try:
            return self._persisted(lambda: self._pinged(secure))
        except RegistryError as error:
            is_refused = isinstance(error.__cause__, ConnectionRefusedError)
            if not may_be_plain or not (isinstance(error, _NotTls) or is_refused):
                raise
        plain = origin_of(f"http://{host}")
        return self._persisted(lambda: self._pinged(plain))

    def _pinged(self, origin: Origin) -> Origin:
        # A 404 may be a registry that does not answer here; what is asked next will tell.
        with self._web.ask("GET", f"{origin}/v2/", {"User-Agent": "sandbox"}) as answer:
            if answer.status == 401:
                self._challenge = _challenge(answer)
            elif answer.status in LATER:
                raise refusal(answer, _doing("GET", answer.url))
        return origin

    def _renew(self, answer: Answer, used: str) -> bool:
        # A token that has run out; or one that another thread has renewed by now.
        challenge = _challenge(answer)
        with self._lock:
            if self._authorization != used:
                return True
            if challenge is None or (challenge.kind == "basic" and used):
                return False
            self._challenge = challenge
            self._authorization = self._authorized(challenge, origin_of(answer.url))
            return bool(self._authorization)

    def _authorized(self, challenge: Challenge, own: Origin) -> str:
        if challenge.kind == "basic":
            return self._login.basic if self._login and self._login.user else ""
        return f"Bearer {self._persisted(lambda: self._token(challenge, own))}"

    def _token(self, challenge: Challenge, own: Origin) -> str:
        realm = origin_of(challenge.realm)
        login = self._login if self._may_know(realm, own) else None
        fields = [("service", challenge.service)] if challenge.service else []
        fields += [("scope", scope) for scope in self._scopes]
        headers = {"User-Agent": "sandbox"}
        if login is not None and login.identity_token:
            form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", login.identity_token),
                ("client_id", "sandbox"),
            ]
            form += [*fields[:1]] if challenge.service else []
            form.append(("scope", " ".join(self._scopes)))
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            asked = self._web.ask("POST", challenge.realm, headers, urlencode(form).encode())
        else:
            if login is not None:
                fields.append(("account", login.user))
                headers["Authorization"] = login.basic
            joint = "&" if "?" in challenge.realm else "?"
            url = f"{challenge.realm}{joint}{urlencode(fields)}" if fields else challenge.realm
            asked = self._web.ask("GET", url, headers)
        with asked as answer:
            if answer.status != 200:
                raise self._no_token(answer, realm, login)
            value = jsontext.decode(answer.content(MAX_TOKEN, "token"), what=f"token of {realm}")
        for key in ("token", "access_token"):
            token = value.get(key) if isinstance(value, dict) else None
            if isinstance(token, str) and token and all("!" <= each <= "~" for each in token):
                return token
        raise RegistryError(f"{realm} answered without a token")

    def _no_token(self, answer: Answer, realm: Origin, login: Login | None) -> RegistryError:
        if answer.status != 401 or (login is None and self._login is None):
            return refusal(answer, f"token of {realm}")
        if login is not None:
            return AccessDenied("unauthorized: incorrect username or password", status=401)
        return AccessDenied(
            f"the login for {self.domain} is not given to {realm}",
            status=401,
            hint=f"`sandbox login {self.domain}` allows it",
        )

    def _may_know(self, realm: Origin, own: Origin) -> bool:
        # Whether the login may be given to a token server.
        is_close = realm.scheme == "https" or (is_loopback(realm.host) and is_loopback(own.host))
        if self._given is not None and is_close:
            return True  # whoever types a password trusts the registry to name its server
        is_same = realm == own
        if not is_same and not is_close:
            return False
        return self._realms.allows(
            own.host_port,
            realm.host_port,
            is_same_origin=is_same,
            is_https=realm.scheme == "https",
        )


def is_too_long(after: str) -> bool:
    """Whether a registry asks to wait longer than anybody would."""
    return after.isascii() and after.isdigit() and float(after) > MAX_WAIT_S


def refusal(answer: Answer, what: str) -> RegistryError:
    """The error for an answer that is none of those that were hoped for."""
    said = _said(answer)
    status = answer.status
    about = f"{what}: " if what else ""
    if status == 401:
        return AccessDenied(
            f"{about}unauthorized: {said or 'authentication required'}",
            status=status,
            said=said,
            hint="`sandbox login` keeps a name and a password for a registry",
        )
    if status == 403:
        return AccessDenied(f"{about}denied: {said or 'forbidden'}", status=status, said=said)
    words = said or f"the registry answered {status} {_plain(answer.reason)}".rstrip()
    if status == 429:
        return _later(f"{about}toomanyrequests: {said or 'too many requests'}", answer, said)
    if status in LATER:
        return _later(f"{about}received unexpected HTTP status: {status} {words}", answer, said)
    return RegistryError(f"{about}{words}", status=status, said=said)


def _later(message: str, answer: Answer, said: str) -> NotNow:
    after = answer.header("Retry-After").strip()
    hint = f"the registry asks to wait {after} s" if is_too_long(after) else ""
    error = NotNow(message, status=answer.status, said=said, hint=hint)
    error.after = after
    return error


def _said(answer: Answer) -> str:
    # The first of ``{"errors": [{"code": ..., "message": ...}]}``, in docker's form.
    if answer.method == "HEAD":
        return ""
    try:
        content = answer.content(MAX_ERROR, "error")
        value = jsontext.decode(content, what="error")
    except (RegistryError, DamagedDocument):
        return ""
    errors = value.get("errors") if isinstance(value, dict) else None
    if isinstance(value, dict) and not errors:
        detail = value.get("details") or value.get("message")
        return _plain(detail) if isinstance(detail, str) else ""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    code, message = first.get("code"), first.get("message")
    texts = [
        code.lower().replace("_", " ") if isinstance(code, str) else "",
        message if isinstance(message, str) else "",
    ]
    if texts[0] in ("unauthorized", "denied", "toomanyrequests"):
        texts = texts[1:]
    return _plain(": ".join(text for text in texts if text))


def _plain(text: str) -> str:
    # What others say is shown, bounded, and moves no cursor.
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: MAX_SAID + 1])
    return shown if len(shown) <= MAX_SAID else shown[: MAX_SAID - 1] + "…"


def _shown(url: str) -> str:
    # Without what may be a signature.
    return _plain(url.partition("?")[0])


def _doing(method: str, url: str) -> str:
    return f'{method.capitalize()} "{_shown(url)}"'


def _shut(connection: http.client.HTTPConnection) -> None:
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself


def _interrupted(method: str, url: str) -> RegistryError:
    return RegistryError(f"{_doing(method, url)}: interrupted")


def _lost(method: str, url: str, error: Exception, settings: Settings) -> RegistryError:
    doing = _doing(method, url)
    if isinstance(error, TimeoutError):
        return NotNow(f"{doing}: nothing came for {settings.timeout_s:g} s")
    if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return NotNow(f"{doing}: unexpected EOF")
    if isinstance(error, http.client.HTTPException):
        return RegistryError(f"{doing}: malformed HTTP response: {_plain(str(error))}")
    reason = getattr(error, "strerror", None) or str(error)
    return NotNow(f"{doing}: {_plain(reason).lower()}")


def _challenge(answer: Answer) -> Challenge | None:
    # Bearer before Basic, as docker has it.
    found = [each for header in answer.headers("WWW-Authenticate") for each in challenges(header)]
    for kind in ("bearer", "basic"):
        for each in found:
            if each.kind == kind and (kind == "basic" or each.realm):
                return each
    return None


def challenges(header: str) -> list[Challenge]:
    """Read one ``WWW-Authenticate`` header, which may have several challenges."""
    found: list[tuple[str, dict[str, str]]] = []
    rest = header[:MAX_ERROR].strip()
    while rest:
        word = rest[: next((i for i, x in enumerate(rest) if x in " =,"), len(rest))]
        after = rest[len(word) :].lstrip()
        if word and not after.startswith("="):
            found.append((word.lower(), {}))
            rest = after.lstrip(", ")
            continue
        after = after[1:].lstrip()
        if after.startswith('"'):
            value, after = _quoted(after[1:])
        else:
            value, _, after = after.partition(",")
            value = value.strip()
        if found and word:
            found[-1][1].setdefault(word.lower(), value)
        rest = after.lstrip(", ")
    return [
        Challenge(
            kind=kind,
            realm=fields.get("realm", ""),
            service=fields.get("service", ""),
            scope=fields.get("scope", ""),
        )
        for kind, fields in found
    ]


def _quoted(text: str) -> tuple[str, str]:
    made = []
    at = 0
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\" and at + 1 < len(text)
        made.append(text[at])
        at += 1
    return "".join(made), text[at + 1 :]


def _authorities(settings: Settings, origin: Origin) -> list[str]:
    # certs.d/HOST:PORT, or certs.d/HOST for the usual port, as docker has them.
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
            found += [f"{folder}/{name}/{file}" for file in files if file.endswith(".crt")]
    return found


def _context(settings: Settings, origin: Origin) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.is_insecure(origin):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in _authorities(settings, origin):
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"{path}: not a certificate: {error}") from error
        client = f"{os.path.dirname(path)}/client"
        if os.path.exists(f"{client}.cert"):
            try:
                context.load_cert_chain(f"{client}.cert", f"{client}.key")
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"{client}.cert: not a certificate: {error}") from error
    return context


def _proxy(origin: Origin) -> Origin | None:
    # Through an http proxy, by CONNECT, which does not see what is inside.
    address = getproxies().get(origin.scheme)
    if not address or proxy_bypass(origin.host_port):
        return None
    return origin_of(address if "://" in address else f"http://{address}")
