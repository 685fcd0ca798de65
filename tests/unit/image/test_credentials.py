from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from sandbox.errors import RegistryError, UsageError
from sandbox.image.credentials import HUB_KEY, Keyring, Login, Realms, config_path
from sandbox.image.registry import challenges
from sandbox.image.transfer import parse_platform
from sandbox.image.web import Settings, is_loopback, origin_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def write(path: Path, value: object) -> Keyring:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return Keyring(str(path))


def test_a_login_belongs_to_one_host_and_port(path: Path) -> None:
    keyring = write(
        path, {"auths": {"https://here:5000/v1/": auth("me:a:b"), "there": auth("x:y")}}
    )

    assert keyring.find("here:5000") == Login(user="me", password="a:b")
    assert keyring.find("there") == keyring.find("there:443") == Login(user="x", password="y")
    for other in ("here", "here:5001", "here:443", "there:5000", "not.there", "docker.io"):
        assert keyring.find(other) is None


def test_storing_keeps_what_others_wrote(path: Path) -> None:
    keyring = write(path, {"HttpHeaders": {"a": "b"}, "auths": {"other": auth("x:y")}})

    keyring.store("docker.io", Login(user="me", password="secret"))

    value = json.loads(path.read_text())
    assert value["HttpHeaders"] == {"a": "b"}
    assert value["auths"] == {"other": auth("x:y"), HUB_KEY: auth("me:secret")}
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyring.find("docker.io") == Login(user="me", password="secret")
    assert keyring.erase("docker.io")
    assert not keyring.erase("docker.io")
    assert os.listdir(path.parent) == ["config.json"]


def test_no_configuration_is_no_login(path: Path) -> None:
    assert Keyring(str(path)).find("here") is None


def test_a_login_does_not_show_its_password() -> None:
    assert "secret" not in repr(Login(user="me", password="secret", identity_token="secret"))


@pytest.mark.parametrize("value", ["no base64!", base64.b64encode(b"no colon").decode()])
def test_a_damaged_entry_is_said(path: Path, value: str) -> None:
    keyring = write(path, {"auths": {"here": {"auth": value}}})

    with pytest.raises(UsageError, match="here: auth is not"):
        keyring.find("here")


def test_a_helper_is_asked(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        "#!/bin/sh\nread -r server\ncase $1-$server in\n"
        'get-here:1) echo \'{"Username":"me","Secret":"word"}\' ;;\n'
        'get-token:1) echo \'{"Username":"<token>","Secret":"word"}\' ;;\n'
        "get-broken:1) echo 'cannot' ; exit 1 ;;\n"
        "*) echo 'credentials not found in native keychain' ; exit 1 ;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    keyring = write(path, {"credsStore": "test", "credHelpers": {"other:1": "nosuch"}})

    assert keyring.find("here:1") == Login(user="me", password="word")
    assert keyring.find("token:1") == Login(identity_token="word")
    assert keyring.find("unknown:1") is None
    with pytest.raises(RegistryError, match="docker-credential-test: cannot"):
        keyring.find("broken:1")
    with pytest.raises(RegistryError, match="docker-credential-nosuch: no such file"):
        keyring.find("other:1")


def test_a_helper_is_a_name_and_no_path(path: Path) -> None:
    keyring = write(path, {"credsStore": "../../bin/sh"})

    with pytest.raises(UsageError, match="not the name of a credential helper"):
        keyring.find("here")


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("registry-1.docker.io:443", "auth.docker.io:443", True),
        ("registry.gitlab.com:443", "gitlab.com:443", True),
        ("ghcr.io:443", "ghcr.io:8443", True),
        ("registry-1.docker.io:443", "auth.docker.io.evil.net:443", False),
        ("shop.co.uk:443", "other.co.uk:443", False),
        ("example.com:443", "evil.com:443", False),
        ("10.0.0.1:443", "10.0.0.2:443", False),
    ],
)
def test_a_password_goes_to_neighbours_only(
    tmp_path: Path, registry: str, realm: str, allowed: bool
) -> None:
    realms = Realms(str(tmp_path / "realms.json"))

    def asked(*, is_https: bool = True) -> bool:
        return realms.allows(registry, realm, is_same_origin=False, is_https=is_https)

    assert asked() is allowed
    assert not asked(is_https=False)
    realms.pin(registry, realm)
    assert asked()


def test_challenges_are_read() -> None:
    found = challenges('Basic realm="a, \\"b\\"", Bearer realm="https://x/t",service=s,scope="a b"')

    assert [(each.kind, each.realm) for each in found] == [
        ("basic", 'a, "b"'),
        ("bearer", "https://x/t"),
    ]
    assert (found[1].service, found[1].scope) == ("s", "a b")
    for text in ("", ",", "Bearer", 'Bearer realm="', "=x", 'x="', "Bearer realm"):
        assert all(not each.realm for each in challenges(text))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_loopback_is_known_by_its_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.evil.net", "127.0.0.1.evil.net", "0.0.0.0", "10.0.0.1"]
)
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    assert not is_loopback(host)


def test_settings_come_from_the_environment() -> None:
    environ = {"SANDBOX_INSECURE_REGISTRIES": "a:1, B", "SANDBOX_REGISTRY_TIMEOUT": "2.5"}

    settings = Settings.choose("/certs", environ)

    assert settings.timeout_s == 2.5
    assert settings.may_be_plain(origin_of("http://a:1"))
    assert settings.may_be_plain(origin_of("http://b:99"))
    assert not settings.may_be_plain(origin_of("http://a:2"))
    with pytest.raises(UsageError, match="SANDBOX_REGISTRY_TIMEOUT"):
        Settings.choose("/certs", {"SANDBOX_REGISTRY_TIMEOUT": "soon"})


def test_the_configuration_is_where_docker_has_it() -> None:
    assert config_path({"HOME": "/home/me"}) == "/home/me/.docker/config.json"
    assert config_path({"DOCKER_CONFIG": "/x"}) == "/x/config.json"


def test_a_platform_is_read_as_docker_reads_it() -> None:
    assert str(parse_platform("linux/arm/v7")) == "linux/arm/v7"
    assert str(parse_platform("x86_64")) == "linux/amd64"
    for text in ("a/b/c/d", "linux/", ""):
        with pytest.raises(UsageError):
            parse_platform(text)
