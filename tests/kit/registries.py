"""Registries for tests: Debian's ``docker-registry``, a token server, and one that is faulty.

All of them listen on loopback ports and end with their scope.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kit.archives import Parts

USER, PASSWORD = "someone", "pass:word"
# Of the two; the registry takes nothing but bcrypt.
HTPASSWD = "someone:$2y$04$53.vyP3U1MNg.ONK2944QOiWE3BpmtN2Y6KIoezISceJ/s5mwuE06\n"


@contextmanager
def docker_registry(
    folder: Path,
    *,
    tls: tuple[Path, Path] | None = None,
    client_authority: Path | None = None,
    htpasswd: Path | None = None,
    mirror_of: str = "",
) -> Iterator[str]:
    """The real one; gives ``127.0.0.1:PORT``."""
    port = free_port()
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
    if tls:
        http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if client_authority:
            http["tls"]["clientcas"] = [str(client_authority)]
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": http,
    }
    if htpasswd:
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
    if mirror_of:
        config["proxy"] = {"remoteurl": f"http://{mirror_of}"}
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process, folder / "log")
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


@contextmanager
def dropping() -> Iterator[str]:
    """A port where nobody answers, as if packets were dropped: its queue is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                tried = socket.socket()
                waiting.append(tried)
                tried.setblocking(False)
                tried.connect_ex(("127.0.0.1", port))
            yield f"127.0.0.1:{port}"
        finally:
            for each in waiting:
                each.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, and a certificate and a key of 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, cert, key = (folder / n for n in ("ca.crt", "ca.key", "cert.pem", "key.pem"))
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    commands = (
        (*new, "-x509", "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority", "-days", "2"),
        (*new, "-keyout", key, "-out", folder / "csr", "-subj", "/CN=registry"),
    )
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ("openssl", "x509", "-req", "-in", folder / "csr", "-CA", ca, "-CAkey", ca_key)
    subprocess.run(
        (*sign, "-CAcreateserial", "-out", cert, "-days", "2", "-extfile", folder / "ext"),
        check=True,
        capture_output=True,
    )
    return ca, cert, key


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        self.server.received_bytes += length
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        self.server.requests.append(request)
        self.server.answer(self, request)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - the base's names

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.begin(status, len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)
            self.server.sent_bytes += len(body)

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.say(status, body, **headers)

    def log_message(self, *_what: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Answers by a function, and keeps every request."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, answer: Callable[[Handler, Request], None]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.received_bytes = self.sent_bytes = 0  # of bodies
        self.released = Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away are what is tested

    def forget(self) -> None:
        """Count from here on."""
        self.requests.clear()
        self.received_bytes = self.sent_bytes = 0

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]


@contextmanager
def serving(answer: Callable[[Handler, Request], None]) -> Iterator[Server]:
    server = Server(answer)
    thread = Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


Fault = Callable[[Handler, Request, bytes], bool]


@dataclass
class Fake:
    """A registry of one image, ``image:1``, that can be told to misbehave.

    A fault is called with the handler, the request and what should be sent, for each GET of
    a path in which its key is found; it says whether it has answered.
    """

    parts: Parts
    faults: dict[str, Fault] = field(default_factory=dict)
    manifest: bytes | None = None
    media_type: str = "application/vnd.oci.image.manifest.v1+json"
    more: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True

    def __call__(self, handler: Handler, request: Request) -> None:
        path = urlsplit(request.path).path
        content = self._content(path)
        for key, fault in self.faults.items():
            if key in path and fault(handler, request, content or b""):
                return
        if path == "/v2/":
            handler.say(200, b"{}")
        elif content is None:
            code = "MANIFEST_UNKNOWN" if "/manifests/" in path else "BLOB_UNKNOWN"
            handler.refuse(404, code, code.lower().replace("_", " "))
        elif "/manifests/" in path:
            kind = json.loads(content).get("mediaType", self.media_type)
            handler.say(200, content, Content_Type=kind, Docker_Content_Digest=digest(content))
        else:
            start = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
            if start and self.ranges:
                at = int(start[1])
                span = f"bytes {at}-{len(content) - 1}/{len(content)}"
                handler.say(206, content[at:], Content_Range=span)
            else:
                handler.say(200, content)

    def _content(self, path: str) -> bytes | None:
        manifest = self.manifest or self.parts.manifest
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            if name == "1":
                return manifest
            return {digest(x): x for x in (manifest, *self.more.values())}.get(name)
        blobs = (self.parts.config, *self.parts.layers, *self.more.values())
        return {digest(x): x for x in blobs}.get(name)


def cut_after(count: int, *, times: int = 1) -> Fault:
    """Break the connection after so many bytes of what was asked for, some times."""
    left = [times]

    def fault(handler: Handler, request: Request, content: bytes) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        start = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        at = int(start[1]) if start else 0
        headers = {"Content_Range": f"bytes {at}-{len(content) - 1}/{len(content)}"} if at else {}
        handler.begin(206 if at else 200, len(content) - at, **headers)
        handler.wfile.write(content[at : at + count])
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    return fault


def stall(handler: Handler, _request: Request, content: bytes) -> bool:
    """Send half of it, and then nothing."""
    handler.begin(200, len(content))
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.server.released.wait(60)
    handler.close_connection = True
    return True


def silent(handler: Handler, _request: Request, _content: bytes) -> bool:
    """Take the request, and never answer."""
    handler.server.released.wait(60)
    handler.close_connection = True
    return True


def status(number: int, code: str, message: str, *, times: int = 1 << 30, **headers: str) -> Fault:
    left = [times]

    def fault(handler: Handler, _request: Request, _content: bytes) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        handler.refuse(number, code, message, **headers)
        return True

    return fault


def instead(change: Callable[[bytes], bytes]) -> Fault:
    """Something else in its place, with a length that fits it."""

    def fault(handler: Handler, _request: Request, content: bytes) -> bool:
        handler.say(200, change(content))
        return True

    return fault


def redirect(to: Callable[[Request], str]) -> Fault:
    def fault(handler: Handler, request: Request, _content: bytes) -> bool:
        handler.say(307, b"", Location=to(request))
        return True

    return fault


@dataclass
class Tokens:
    """A token server: gives ``TOKEN-<n>``, with a login or without, and keeps what was asked."""

    login: bool = False
    given: int = 0

    def __call__(self, handler: Handler, request: Request) -> None:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.login and request.authorization != expected:
            handler.refuse(401, "UNAUTHORIZED", "authentication required")
            return
        self.given += 1
        handler.say(200, json.dumps({"token": f"TOKEN-{self.given}"}).encode())


@dataclass
class Guarded:
    """In front of another registry or fake: nothing without the last token."""

    inner: Callable[[Handler, Request], None]
    tokens: Tokens
    realm: str = ""
    uses_of_a_token: int = 1 << 30
    _used: dict[str, int] = field(default_factory=dict)

    def __call__(self, handler: Handler, request: Request) -> None:
        token = request.authorization.removeprefix("Bearer ")
        used = self._used[token] = self._used.get(token, 0) + 1
        if token != f"TOKEN-{self.tokens.given}" or used > self.uses_of_a_token:
            challenge = f'Bearer realm="{self.realm}",service="test, of tests"'
            handler.refuse(
                401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge
            )
            return
        self.inner(handler, request)


@dataclass
class Forward:
    """Everything to a real registry, as a front does; addresses in answers become relative."""

    host: str

    def __call__(self, handler: Handler, request: Request) -> None:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in ("authorization", "host", "connection")
        }
        body = handler.body if request.method in ("POST", "PUT", "PATCH") else None
        asked = urllib.request.Request(
            f"http://{self.host}{request.path}", data=body, headers=headers, method=request.method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            answer = opener.open(asked)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            content = answer.read()
            kept = {
                name: value.replace(f"http://{self.host}", "")
                for name, value in answer.headers.items()
                if name in ("Content-Type", "Location", "Docker-Content-Digest", "Content-Range")
            }
            if request.method == "HEAD":
                handler.begin(answer.status, int(answer.headers.get("Content-Length") or 0), **kept)
            else:
                handler.say(answer.status, content, **kept)


def query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.path).query)
