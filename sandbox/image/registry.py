"""The distribution protocol: one registry and one repository, one request a method.

Rules of every request, whatever a registry says:

- What ``web`` says of connections holds: https where it may not be plain, bounds, time.
- ``Authorization`` goes to the registry's own origin (scheme, host and port) and nowhere
  else.  Redirects are followed here, at most five, and never from https to http.
- A login goes to a token server only if `credentials.Realms` allows it.
- Documents, redirects and attempts are bounded.  An answer that is lost or says "later" is
  asked for again, after a while; whoever reads a blob goes on where it broke off
  (``Registry.blob``).

Out of scope: what manifests say, what is missing, several blobs at once; see ``transfer``.
"""

from __future__ import annotations

import time
from threading import Lock
from urllib.parse import quote, urlencode, urljoin

from .. import jsontext
from ..errors import AccessDenied, DamagedDocument, RegistryError
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci.manifest import MAX_BYTES
from ..oci.reference import DEFAULT_DOMAIN
from ..record import Record
from .web import (
    MAX_ERROR,
    NotNow,
    NotTls,
    Web,
    authorities,
    doing,
    is_loopback,
    origin_of,
    plain_text,
    shown_url,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self, TypeVar

    from .credentials import Keyring, Login, Realms
    from .web import Answer, Body, Origin, Settings

    T = TypeVar("T")

HUB = "registry-1.docker.io"
HUB_SEARCH = "index.docker.io"
MAX_REDIRECTS = 5
MAX_TOKEN = 1 << 20
MAX_TAGS = 10_000
MAX_CATALOG = 100_000
PAGE = 1000
MAX_WAIT_S = 30.0
ACCEPT = ", ".join((*descriptors.MANIFESTS, *descriptors.INDEXES))
LATER = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)


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
            "HEAD",
            self._url("blobs", digest),
            lambda answer: answer.status,
            what=f"blob {digest}",
            also=(404,),
        )
        return found == 200

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository."""
        return self._listed(self._url("tags", "list"), "tags", MAX_TAGS)

    def catalog(self) -> tuple[str, ...]:
        """The names of all repositories, if the registry tells."""
        self._scopes.append("registry:catalog:*")
        return self._listed(f"{self.open()}/v2/_catalog?n={PAGE}", "repositories", MAX_CATALOG)

    def search(self, term: str, limit: int) -> bytes:
        """The answer of docker's first search; empty from a registry that does not have it."""
        host = HUB_SEARCH if self.domain == DEFAULT_DOMAIN else ""
        origin = origin_of(f"https://{host}") if host else self.open()
        url = f"{origin}/v1/search?{urlencode({'q': term, 'n': limit})}"

        def once() -> bytes:
            # Nothing is told to a search that does not ask for it.
            answer = self._web.ask("GET", url, {"User-Agent": "sandbox"})
            if answer.status in (401, *REDIRECTS):
                answer.close()
                answer = self._request("GET", url)
            with answer:
                if answer.status in (400, 404, 405, 501):
                    return b""
                if answer.status != 200:
                    raise refusal(answer, f"search for {term}")
                kind = answer.header("Content-Type")
                return answer.content(MAX_BYTES, "search") if "json" in kind else b""

        return self._persisted(once)

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

    def _listed(self, url: str, key: str, most: int) -> tuple[str, ...]:
        found: list[str] = []
        while url:
            content, following = self._repeated(
                "GET",
                url,
                lambda answer: (answer.content(MAX_BYTES, key), answer.header("Link")),
            )
            value = jsontext.decode(content, what=f"{key} of {self.domain}/{self.path}".rstrip("/"))
            names = value.get(key) if isinstance(value, dict) else None
            if not isinstance(names, list):
                break
            found += [name for name in names if isinstance(name, str)]
            if len(found) > most:
                raise RegistryError(f"more than {most} {key}")
            target = following.partition("<")[2].partition(">")[0] if names else ""
            url = urljoin(url, target) if target else ""
            if url and origin_of(url) != self._origin:
                raise RegistryError(f"the list of {key} goes on elsewhere: {plain_text(url)}")
        return tuple(found)

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
                raise RegistryError(f"{doing(method, url)}: more than {MAX_REDIRECTS} redirects")
            self._check_step(url, target)
            url = target

    def _check_step(self, url: str, target: str) -> None:
        if origin_of(target).scheme == "http" and origin_of(url).scheme == "https":
            raise RegistryError(f"{shown_url(url)} leads from https to http: {shown_url(target)}")

    def _found(self) -> Origin:
        host = HUB if self.domain == DEFAULT_DOMAIN else self.domain
        secure = origin_of(f"https://{host}")
        # Whoever gave us an authority for it wants TLS.
        may_be_plain = self.settings.may_be_plain(secure) and not authorities(self.settings, secure)
        try:
            return self._persisted(lambda: self._pinged(secure))
        except RegistryError as error:
            is_refused = isinstance(error.__cause__, ConnectionRefusedError)
            if not may_be_plain or not (isinstance(error, NotTls) or is_refused):
                raise
        plain = origin_of(f"http://{host}")
        return self._persisted(lambda: self._pinged(plain))

    def _pinged(self, origin: Origin) -> Origin:
        # A 404 may be a registry that does not answer here; what is asked next will tell.
        with self._web.ask("GET", f"{origin}/v2/", {"User-Agent": "sandbox"}) as answer:
            if answer.status == 401:
                self._challenge = _challenge(answer)
            elif answer.status in LATER:
                raise refusal(answer, doing("GET", answer.url))
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
    words = said or f"the registry answered {status} {plain_text(answer.reason)}".rstrip()
    if status == 429:
        return _later(f"{about}toomanyrequests: {said or 'too many requests'}", answer, said)
    if status in LATER:
        return _later(f"{about}received unexpected HTTP status: {status} {words}", answer, said)
    return RegistryError(f"{about}{words}", status=status, said=said)


def _later(message: str, answer: Answer, said: str) -> NotNow:
    after = _seconds(answer.header("Retry-After").strip())
    hint = f"the registry asks to wait {after} s" if is_too_long(after) else ""
    error = NotNow(message, status=answer.status, said=said, hint=hint)
    error.after = after
    return error


def _seconds(after: str) -> str:
    # A number of seconds, or a moment as HTTP writes it.
    if not after or after.isdigit():
        return after
    from email.utils import parsedate_to_datetime  # registries that say it so are few

    try:
        moment = parsedate_to_datetime(after).timestamp()
    except (ValueError, OverflowError):
        return ""
    return str(max(0, int(moment - time.time()) + 1))


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
        return plain_text(detail) if isinstance(detail, str) else ""
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
    return plain_text(": ".join(text for text in texts if text))


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
