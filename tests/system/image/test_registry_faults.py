"""Registries that break off, lie, refuse, or lead elsewhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from kit import archives, registries

from sandbox.errors import (
    AccessDenied,
    DamagedArchive,
    DamagedDocument,
    DigestMismatch,
    ImageNotFound,
    RegistryError,
    SandboxError,
)
from sandbox.image.credentials import Keyring, Login, Realms
from sandbox.image.store import ImageStore
from sandbox.image.transfer import Pulled, Remote, pull
from sandbox.image.web import Settings
from sandbox.oci.reference import parse
from sandbox.paths import Paths
from sandbox.record import replace

FILLER = 3_000_000


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(root=str(tmp_path / "root"), run=str(tmp_path / "run")))


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(
        settings=Settings(certificates=(), timeout_s=20, attempts=3, backoff_s=0.001),
        keyring=Keyring(str(tmp_path / "config.json")),
        realms=Realms(str(tmp_path / "realms.json")),
    )


@pytest.fixture
def fake() -> registries.Fake:
    return registries.Fake(archives.small(filler=FILLER))


@pytest.fixture
def server(fake: registries.Fake) -> Iterator[registries.Server]:
    with registries.serving(fake) as server:
        yield server


@pytest.fixture
def pulled(store: ImageStore, remote: Remote, server: registries.Server) -> Callable[[], Pulled]:
    return lambda: pull(store, remote, parse(f"{server.host}/image:1"))


def layer(fake: registries.Fake) -> str:
    """The path of the big layer."""
    return f"/blobs/{registries.digest(fake.parts.layers[0])}"


def assert_nothing_is_kept(store: ImageStore) -> None:
    assert store.images() == ()
    for folder in (f"{store.paths.blobs}/sha256", store.paths.layers, store.paths.staging):
        assert not os.path.exists(folder) or os.listdir(folder) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_layer_goes_on_where_it_broke_off(
    fake: registries.Fake,
    server: registries.Server,
    pulled: Callable[[], Pulled],
    ranges: bool,
) -> None:
    fake.ranges = ranges
    fake.faults = {layer(fake): registries.cut_after(1_000_000, times=2 if ranges else 1)}

    assert pulled().image_id == fake.parts.image_id

    asked = [request.headers.get("range", "") for request in server.asked(layer(fake))]
    assert asked[0] == ""
    assert asked[1:] == (["bytes=1000000-", "bytes=2000000-"] if ranges else ["bytes=1000000-"])


def test_a_layer_that_never_comes_is_given_up(
    fake: registries.Fake, store: ImageStore, pulled: Callable[[], Pulled]
) -> None:
    fake.faults = {layer(fake): registries.cut_after(0, times=99)}

    with pytest.raises(RegistryError, match="unexpected EOF"):
        pulled()
    assert_nothing_is_kept(store)


def test_a_stalled_layer_is_given_up_with_a_message(
    fake: registries.Fake, server: registries.Server, store: ImageStore, remote: Remote
) -> None:
    fake.faults = {layer(fake): registries.stall}
    fake.ranges = False
    hasty = replace(remote, settings=replace(remote.settings, timeout_s=0.5, attempts=1))

    with pytest.raises(RegistryError, match=r"nothing came for 0\.5 s"):
        pull(store, hasty, parse(f"{server.host}/image:1"))
    assert_nothing_is_kept(store)


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


FAULTS = {
    "layer flipped": ("layer", flipped, (DigestMismatch, DamagedArchive)),
    "layer shorter": ("layer", lambda content: content[:-1], DamagedArchive),
    "layer longer": ("layer", lambda content: content + b"\0", DamagedArchive),
    "config flipped": ("config", flipped, DigestMismatch),
    "config longer": ("config", lambda content: content + b" ", RegistryError),
    "manifest is no JSON": ("/manifests/", lambda _: b"{", DamagedDocument),
    "manifest is a list": ("/manifests/", lambda _: b"[]", DamagedDocument),
    "manifest is deep": ("/manifests/", lambda _: b"[" * 3_000_000, DamagedDocument),
    "manifest is huge": ("/manifests/", lambda _: b" " * (4 << 20) + b" ", RegistryError),
    "manifest is of schema 1": ("/manifests/", lambda _: b'{"schemaVersion":1}', DamagedDocument),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_as_stated_is_refused(
    fake: registries.Fake, store: ImageStore, pulled: Callable[[], Pulled], fault: str
) -> None:
    key, change, expected = FAULTS[fault]
    paths = {"layer": layer(fake), "config": f"/blobs/{fake.parts.image_id}"}
    fake.faults = {paths.get(key, key): registries.instead(change)}

    with pytest.raises(expected):
        pulled()
    assert_nothing_is_kept(store)


def described(content: bytes, kind: str) -> dict[str, object]:
    return archives.descriptor(content, f"{archives.OCI}.{kind}")


def with_manifest(parts: archives.Parts, **changes: object) -> bytes:
    return json.dumps(json.loads(parts.manifest) | changes).encode()


def test_documents_of_wrong_kinds_are_refused_in_one_line(
    fake: registries.Fake, store: ImageStore, pulled: Callable[[], Pulled]
) -> None:
    deep = fake.parts.manifest
    for _ in range(8):
        kind = "manifest" if deep == fake.parts.manifest else "index"
        inner = described(deep, f"{kind}.v1+json")
        inner["platform"] = {"os": "linux", "architecture": "amd64"}
        deep = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{archives.OCI}.index.v1+json",
                "manifests": [inner],
            }
        ).encode()
        fake.more[registries.digest(deep)] = deep
    layers = json.loads(fake.parts.manifest)["layers"]
    alien = [layers[0] | {"mediaType": "application/x-alien"}, *layers[1:]]
    text = [layers[0] | {"size": "3"}, *layers[1:]]
    few = b'{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}'
    fake.more["config of few"] = few
    cases = {
        "nested deeper than": deep,
        "unknown kind of layer: application/x-alien": with_manifest(fake.parts, layers=alien),
        "is not an image": with_manifest(fake.parts, config=described(few, "artifact.v1+json")),
        "length mismatch": with_manifest(fake.parts, config=described(few, "config.v1+json")),
        "size": with_manifest(fake.parts, layers=text),
        "digest": with_manifest(fake.parts, layers=[layers[0] | {"digest": "sha256:x"}]),
        "names no image": b'{"schemaVersion":2,"mediaType":'
        b'"application/vnd.oci.image.index.v1+json","manifests":[]}',
    }
    for said, manifest in cases.items():
        fake.manifest = manifest

        with pytest.raises(SandboxError, match=said) as raised:
            pulled()

        assert "\n" not in raised.value.message
        assert_nothing_is_kept(store)


def test_a_manifest_that_is_not_what_its_header_says_is_refused(
    fake: registries.Fake, store: ImageStore, pulled: Callable[[], Pulled]
) -> None:
    def fault(handler: registries.Handler, _request: object, content: bytes) -> bool:
        said = registries.digest(content)
        handler.say(200, content + b" ", Docker_Content_Digest=said)
        return True

    fake.faults = {"/manifests/": fault}

    with pytest.raises(DigestMismatch):
        pulled()
    assert_nothing_is_kept(store)


REFUSALS = [
    (401, "UNAUTHORIZED", "authentication required", AccessDenied, "pull access denied for"),
    (403, "DENIED", "not for you", AccessDenied, "not for you"),
    (404, "MANIFEST_UNKNOWN", "manifest unknown", RegistryError, "manifest unknown"),
    (429, "TOOMANYREQUESTS", "slow down", RegistryError, "toomanyrequests: slow down"),
    (503, "UNAVAILABLE", "closed", RegistryError, "received unexpected HTTP status: 503"),
]


@pytest.mark.parametrize(("number", "code", "words", "kind", "text"), REFUSALS)
def test_a_refusal_is_said_in_words(
    fake: registries.Fake,
    server: registries.Server,
    pulled: Callable[[], Pulled],
    number: int,
    code: str,
    words: str,
    kind: type[SandboxError],
    text: str,
) -> None:
    fake.faults = {"/manifests/": registries.status(number, code, words)}

    with pytest.raises(kind, match=text):
        pulled()

    assert len(server.asked("/manifests/")) == (3 if number in (429, 503) else 1)


def test_later_means_another_attempt(fake: registries.Fake, pulled: Callable[[], Pulled]) -> None:
    fake.faults = {
        "/manifests/": registries.status(503, "UNAVAILABLE", "closed", times=2),
        "/blobs/": registries.status(429, "TOOMANYREQUESTS", "wait", times=2, Retry_After="0"),
    }

    assert pulled().image_id == fake.parts.image_id


def test_much_later_means_no_other_attempt(
    fake: registries.Fake, server: registries.Server, pulled: Callable[[], Pulled]
) -> None:
    fake.faults = {"/manifests/": registries.status(429, "X", "wait", Retry_After="3600")}

    with pytest.raises(RegistryError) as raised:
        pulled()

    assert "3600 s" in raised.value.hint
    assert len(server.asked("/manifests/")) == 1


def test_later_may_be_said_as_a_moment(
    fake: registries.Fake, server: registries.Server, pulled: Callable[[], Pulled]
) -> None:
    moment = formatdate(time.time() + 3600, usegmt=True)
    fake.faults = {"/manifests/": registries.status(503, "X", "wait", Retry_After=moment)}

    with pytest.raises(RegistryError) as raised:
        pulled()

    assert "the registry asks to wait 3" in raised.value.hint
    assert len(server.asked("/manifests/")) == 1


def test_a_layer_that_only_drips_is_given_up_with_a_message(
    fake: registries.Fake, store: ImageStore, remote: Remote, server: registries.Server
) -> None:
    def drip(handler: registries.Handler, _request: object, content: bytes) -> bool:
        handler.begin(200, len(content))
        for at in range(len(content)):
            handler.wfile.write(content[at : at + 1])
            handler.wfile.flush()
            if handler.server.released.wait(0.1):
                break
        return True

    fake.faults = {layer(fake): drip}
    impatient = replace(remote, settings=replace(remote.settings, timeout_s=5, attempts=1))

    with pytest.raises(RegistryError, match="slower than 100 bytes a second"):
        pull(store, impatient, parse(f"{server.host}/image:1"))

    assert_nothing_is_kept(store)


def test_a_redirect_gets_no_password(
    fake: registries.Fake, store: ImageStore, remote: Remote
) -> None:
    login = Login(user=registries.USER, password=registries.PASSWORD)
    with registries.serving(fake) as elsewhere, registries.serving(fake_front := Basic()) as front:
        fake_front.fake = registries.Fake(
            fake.parts,
            faults={"/blobs/": registries.redirect(lambda r: f"http://{elsewhere.host}{r.path}")},
        )
        remote.keyring.store(front.host, login)

        done = pull(store, remote, parse(f"{front.host}/image:1"))

    assert done.image_id == fake.parts.image_id
    assert {request.authorization for request in front.requests} == {"", login.basic}
    assert len({request.path for request in elsewhere.requests}) == 3
    assert {request.authorization for request in elsewhere.requests} == {""}


class Basic:
    """Asks for a password."""

    fake: registries.Fake

    def __call__(self, handler: registries.Handler, request: registries.Request) -> None:
        if request.authorization:
            self.fake(handler, request)
        else:
            handler.refuse(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')


def test_a_password_is_not_given_to_a_token_server_that_nobody_chose(
    fake: registries.Fake, store: ImageStore, remote: Remote
) -> None:
    tokens = registries.Tokens()
    guard = registries.Guarded(fake, tokens)
    login = Login(user=registries.USER, password=registries.PASSWORD)
    with registries.serving(tokens) as realm, registries.serving(guard) as front:
        guard.realm = f"http://{realm.host}/token"
        remote.keyring.store(front.host, login)

        pull(store, remote, parse(f"{front.host}/image:1"))

    assert {request.authorization for request in realm.requests} == {""}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("file:///etc/passwd", "not an address"),
        ("http://user:word@127.0.0.1/", "not an address"),
        ("http://192.0.2.1/blob", "is not encrypted"),
        ("/v2/image/blobs/again", "more than 5 redirects"),
    ],
)
def test_a_redirect_that_cannot_be_followed_is_an_error(
    fake: registries.Fake,
    store: ImageStore,
    pulled: Callable[[], Pulled],
    target: str,
    text: str,
) -> None:
    fake.faults = {"/blobs/": registries.redirect(lambda _request: target)}

    with pytest.raises(RegistryError, match=text):
        pulled()
    assert_nothing_is_kept(store)


def test_foreign_addresses_are_never_asked(
    fake: registries.Fake, server: registries.Server, store: ImageStore, remote: Remote
) -> None:
    with registries.serving(fake) as foreign:
        value = json.loads(fake.parts.manifest)
        for item in value["layers"]:
            item["urls"] = [f"http://{foreign.host}/v2/image/blobs/{item['digest']}"]
        fake.manifest = json.dumps(value).encode()

        pull(store, remote, parse(f"{server.host}/image:1"))

    assert foreign.requests == []


def test_a_registry_far_away_must_be_encrypted(remote: Remote, store: ImageStore) -> None:
    with registries.serving(lambda handler, _request: handler.say(200)) as server:
        port = server.server_address[1]
        named = parse(f"localhost.localdomain.invalid:{port}/x")
        with pytest.raises(RegistryError, match="no such host"):
            pull(store, remote, named)
    with pytest.raises(ImageNotFound):
        store.resolve(named.canonical)
