"""Against Debian's docker-registry: plain, with TLS, with a password, behind tokens."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from kit import archives, registries

import sandbox
from sandbox.engine.engine import Engine
from sandbox.errors import AccessDenied, ImageNotFound, RegistryError, WrongPlatform
from sandbox.image.credentials import Keyring, Login
from sandbox.image.transfer import all_tags, log_in
from sandbox.oci.reference import parse

pytestmark = [requires.program("docker-registry"), requires.program("openssl")]


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def engine(tmp_path: Path) -> Callable[[str], Engine]:
    def make(name: str) -> Engine:
        return Engine(root=str(tmp_path / name), run=str(tmp_path / f"{name}-run"))

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[str]:
    with registries.docker_registry(folder / "plain") as host:
        yield host


@pytest.fixture(scope="module")
def made_certificates(folder: Path) -> tuple[Path, Path, Path]:
    return registries.certificates(folder / "certificates")


@pytest.fixture(scope="module")
def locked(folder: Path, made_certificates: tuple[Path, Path, Path]) -> Iterator[str]:
    """With TLS and a password."""
    passwords = folder / "htpasswd"
    passwords.write_text(registries.HTPASSWD)
    with registries.docker_registry(
        folder / "locked", tls=made_certificates[1:], htpasswd=passwords
    ) as host:
        yield host


def loaded(engine: Engine, tmp_path: Path, compression: str = "gzip") -> archives.Parts:
    parts = archives.small(compression)
    path = tmp_path / f"{compression}.tar"
    path.write_bytes(parts.oci_archive())
    engine.load(str(path))
    return parts


def trust(engine: Engine, host: str, authority: Path) -> None:
    target = Path(engine.paths.certificates, host, "ca.crt")
    target.parent.mkdir(parents=True)
    target.write_bytes(authority.read_bytes())


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_what_is_pushed_is_pulled_with_every_digest(
    engine: Callable[[str], Engine], plain: str, tmp_path: Path, compression: str
) -> None:
    one, two = engine("one"), engine("two")
    parts = loaded(one, tmp_path, compression)
    name = f"{plain}/kinds/{compression}:1"
    one.tag("small", name)

    pushed = one.push(name)
    pulled = two.pull(name)

    assert pushed.digest == pulled.digest == registries.digest(parts.manifest)
    assert pulled.image_id == parts.image_id
    assert pulled.is_new
    assert not two.pull(name).is_new
    image = two.image(f"{plain}/kinds/{compression}@{pulled.digest}")
    assert image.names == (name,)
    assert [archives.tree(x) for x in image.layers] == [
        archives.tree(x) for x in one.image("small").layers
    ]


def test_only_what_is_missing_travels(
    engine: Callable[[str], Engine], plain: str, tmp_path: Path
) -> None:
    one, two = engine("one"), engine("two")
    loaded(one, tmp_path)
    for name in (f"{plain}/travel/a:1", f"{plain}/travel/b:1"):
        one.tag("small", name)
    said: list[tuple[str, str]] = []

    one.push(f"{plain}/travel/a:1", progress=lambda who, what, *_: said.append((who, what)))
    assert {what for _, what in said} >= {"Pushed"}
    said.clear()
    one.push(f"{plain}/travel/a:1", progress=lambda who, what, *_: said.append((who, what)))
    assert {what for _, what in said} == {"Preparing", "Layer already exists"}
    said.clear()
    one.push(f"{plain}/travel/b:1", progress=lambda who, what, *_: said.append((who, what)))
    assert {what for _, what in said} == {"Preparing", "Mounted from travel/a"}

    two.pull(f"{plain}/travel/a:1")
    said.clear()
    two.pull(f"{plain}/travel/b:1", progress=lambda who, what, *_: said.append((who, what)))
    assert {what for who, what in said if who != "1"} == {"Already exists"}


def test_an_index_gives_the_image_of_the_platform(
    engine: Callable[[str], Engine], plain: str, tmp_path: Path
) -> None:
    one, two = engine("one"), engine("two")
    loaded(one, tmp_path)
    other = archives.small()
    other.changes = {"architecture": "s390x"}
    other.name = "docker.io/library/other:latest"
    (tmp_path / "other.tar").write_bytes(other.oci_archive())
    one.load(str(tmp_path / "other.tar"))
    items = []
    for name, architecture in (("small", "amd64"), ("other", "s390x")):
        one.tag(name, f"{plain}/many:{architecture}")
        pushed = one.push(f"{plain}/many:{architecture}")
        items.append(
            {
                "mediaType": f"{archives.OCI}.manifest.v1+json",
                "digest": pushed.digest,
                "size": pushed.size,
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    kind = f"{archives.OCI}.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": items}).encode()
    request = urllib.request.Request(
        f"http://{plain}/v2/many/manifests/1",
        data=index,
        headers={"Content-Type": kind},
        method="PUT",
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    pulled = two.pull(f"{plain}/many:1", platform="linux/s390x")

    assert pulled.image_id == other.image_id
    assert pulled.digest == registries.digest(index)
    with pytest.raises(WrongPlatform) as raised:
        two.pull(f"{plain}/many:1", platform="linux/arm64/v8")
    assert str(raised.value) == (
        "no matching manifest for linux/arm64/v8; there is linux/amd64, linux/s390x"
    )
    names = all_tags(two.remote, parse(f"{plain}/many"))
    assert sorted(name.tag for name in names) == ["1", "amd64", "s390x"]


def test_what_is_not_there_is_said_in_dockers_words(
    engine: Callable[[str], Engine], plain: str
) -> None:
    one = engine("one")

    with pytest.raises(RegistryError) as raised:
        one.pull(f"{plain}/nosuch:1")

    assert str(raised.value) == (
        f"manifest for {plain}/nosuch:1 not found: manifest unknown: manifest unknown"
    )
    with pytest.raises(ImageNotFound):
        one.push(f"{plain}/nosuch:1")
    port = registries.free_port()
    with pytest.raises(RegistryError) as raised:
        one.pull(f"127.0.0.1:{port}/x")
    assert str(raised.value) == (
        f'Get "http://127.0.0.1:{port}/v2/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )


def test_tls_needs_the_authority_and_the_login(
    engine: Callable[[str], Engine],
    locked: str,
    made_certificates: tuple[Path, Path, Path],
    tmp_path: Path,
) -> None:
    one = engine("one")
    parts = loaded(one, tmp_path)
    name = f"{locked}/guarded:1"
    one.tag("small", name)

    with pytest.raises(RegistryError, match="failed to verify certificate") as raised:
        one.pull(name)
    assert f"{locked}/ca.crt" in raised.value.hint
    trust(one, locked, made_certificates[0])
    with pytest.raises(AccessDenied, match="unauthorized"):
        one.push(name)
    with pytest.raises(AccessDenied):
        log_in(one.remote, locked, Login(user=registries.USER, password="wrong"))
    assert not Path(Keyring().path).exists()

    log_in(one.remote, locked, Login(user=registries.USER, password=registries.PASSWORD))

    assert Path(Keyring().path).stat().st_mode & 0o777 == 0o600
    one.push(name)
    two = engine("two")
    trust(two, locked, made_certificates[0])
    assert two.pull(name).image_id == parts.image_id
    assert two.remote.keyring.erase(locked)
    with pytest.raises(AccessDenied, match="pull access denied"):
        two.pull(name)


def test_a_registry_named_insecure_is_not_verified(
    engine: Callable[[str], Engine], locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_INSECURE_REGISTRIES", f"elsewhere, {locked}")

    with pytest.raises(AccessDenied, match="authentication required"):
        engine("one").pull(f"{locked}/guarded:1")


def test_a_registry_that_asks_for_a_certificate_gets_ours(
    engine: Callable[[str], Engine],
    folder: Path,
    made_certificates: tuple[Path, Path, Path],
    tmp_path: Path,
) -> None:
    authority, certificate, key = made_certificates
    one = engine("one")
    loaded(one, tmp_path)
    with registries.docker_registry(
        folder / "mutual", tls=(certificate, key), client_authority=authority
    ) as host:
        one.tag("small", f"{host}/mutual:1")
        trust(one, host, authority)
        with pytest.raises(RegistryError, match="certificate"):
            one.push(f"{host}/mutual:1")
        place = Path(one.paths.certificates, host)
        (place / "me.cert").write_bytes(certificate.read_bytes())
        with pytest.raises(RegistryError, match=r"me\.cert"):
            one.push(f"{host}/mutual:1")
        (place / "me.key").write_bytes(key.read_bytes())

        one.push(f"{host}/mutual:1")


def test_a_mirror_is_asked_first_and_never_gets_the_login(
    engine: Callable[[str], Engine],
    plain: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = engine("one"), engine("two")
    parts = loaded(one, tmp_path)
    name = f"{plain}/mirrored:1"
    one.tag("small", name)
    one.push(name)
    Keyring().store(plain, Login(user=registries.USER, password=registries.PASSWORD))
    with (
        registries.docker_registry(folder / "mirror", mirror_of=plain) as mirror,
        registries.serving(registries.Forward(mirror)) as front,
    ):
        monkeypatch.setenv("SANDBOX_REGISTRY_MIRRORS", f"{plain}=http://{front.host}/")

        assert two.pull(name).image_id == parts.image_id

        assert front.asked(f"/manifests/{name.rpartition(':')[2]}")
        assert {each.path.rpartition("/")[2] for each in front.asked("/blobs/")} == {
            registries.digest(each) for each in (parts.config, *parts.layers)
        }
        assert all(not each.authorization for each in front.requests)
        assert two.image(name).names == (name,)


@pytest.mark.parametrize("fault", ["gone", "empty", "spoilt"])
def test_what_a_mirror_does_wrong_the_registry_makes_good(
    engine: Callable[[str], Engine],
    plain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    one, two = engine("one"), engine("two")
    parts = loaded(one, tmp_path)
    name = f"{plain}/backed:1"
    one.tag("small", name)
    one.push(name)
    fake = registries.Fake(parts if fault == "spoilt" else archives.many_layers(1))
    spoilt = f"/blobs/{registries.digest(parts.layers[0])}"
    fake.faults = {spoilt: registries.instead(lambda content: content[:-1] + b"x")}
    said: list[str] = []
    with registries.serving(fake) as server:
        host = f"127.0.0.1:{registries.free_port()}" if fault == "gone" else server.host
        if fault == "empty":
            fake.faults = {"/manifests/": registries.status(404, "MANIFEST_UNKNOWN", "unknown")}
        monkeypatch.setenv("SANDBOX_REGISTRY_MIRRORS", f"{plain}={host}")

        pulled = two.pull(name, progress=lambda who, what, *_: said.append(f"{who}: {what}"))

    assert pulled.image_id == parts.image_id
    assert [each for each in said if each.startswith(f"{host}: Mirror skipped: ")]


@pytest.mark.parametrize("needs_login", [False, True])
def test_tokens_are_fetched_and_renewed(
    engine: Callable[[str], Engine], plain: str, tmp_path: Path, needs_login: bool
) -> None:
    one, two = engine("one"), engine("two")
    parts = loaded(one, tmp_path)
    tokens = registries.Tokens(login=needs_login)
    front = registries.Guarded(registries.Forward(plain), tokens, uses_of_a_token=4)
    with registries.serving(tokens) as server, registries.serving(front) as guard:
        front.realm = f"http://{server.host}/token"
        name = f"{guard.host}/tokens/{needs_login}:1".lower()
        one.tag("small", name)
        if needs_login:
            with pytest.raises(AccessDenied):
                one.push(name)
            login = Login(user=registries.USER, password=registries.PASSWORD)
            log_in(one.remote, guard.host, login)

        one.push(name)
        if needs_login:
            # Another port is another origin; only the engine that logged in knows this one.
            with pytest.raises(AccessDenied, match="is not given to"):
                two.pull(name)
            log_in(two.remote, guard.host, login)
        assert two.pull(name).image_id == parts.image_id

        scopes = registries.query(server.requests[-1])["scope"]
        assert scopes == [f"repository:tokens/{needs_login}:pull".lower()]
        assert registries.query(server.requests[-1])["service"] == ["test, of tests"]
        assert all(not r.authorization.startswith("Basic") for r in guard.requests)


def test_the_library_names_its_errors() -> None:
    assert issubclass(sandbox.AccessDenied, sandbox.RegistryError)
