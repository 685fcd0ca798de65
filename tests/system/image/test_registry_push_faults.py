"""Pushes to a registry that breaks off or says "later"."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from kit import archives, registries

from sandbox.errors import RegistryError
from sandbox.image.archive import load
from sandbox.image.credentials import Keyring, Realms
from sandbox.image.store import ImageStore
from sandbox.image.transfer import Remote, pull, push
from sandbox.image.web import Settings
from sandbox.oci.reference import parse, parse_name
from sandbox.paths import Paths

pytestmark = [requires.root, requires.program("docker-registry")]

Spoil = Callable[[registries.Handler], None]

SAID = r"slow down|too many|EOF|reset|broken pipe"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(
        settings=Settings(certificates=(), timeout_s=20, attempts=3, backoff_s=0.001),
        keyring=Keyring(str(tmp_path / "config.json")),
        realms=Realms(str(tmp_path / "realms.json")),
    )


def store(tmp_path: Path, name: str) -> ImageStore:
    return ImageStore(Paths(root=str(tmp_path / name), run=str(tmp_path / f"{name}-run")))


def broken(handler: registries.Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def later(handler: registries.Handler) -> None:
    handler.refuse(429, "TOOMANYREQUESTS", "slow down", Retry_After="0")


FAULTS = [
    ("HEAD", "/blobs/sha256", later),
    ("POST", "/blobs/uploads/", later),
    ("POST", "/blobs/uploads/", broken),
    ("POST", "mount=", later),
    ("PUT", "/blobs/uploads/", later),
    ("PUT", "/blobs/uploads/", broken),
    ("PUT", "/manifests/", later),
    ("PUT", "/manifests/", broken),
]


@pytest.mark.parametrize("is_for_good", [False, True])
def test_a_push_goes_on_after_a_fault_and_is_given_up_after_many(
    registry: str, remote: Remote, tmp_path: Path, is_for_good: bool
) -> None:
    one, two, parts = store(tmp_path, "one"), store(tmp_path, "two"), archives.small()
    (tmp_path / "small.tar").write_bytes(parts.oci_archive())
    load(one, str(tmp_path / "small.tar"))
    forward = registries.Forward(registry)
    for number, (method, part, spoil) in enumerate(FAULTS):
        left = [1 << 30 if is_for_good else 2]
        # One repository a case, as what is there already is not pushed.
        path = f"faults/{number}-{is_for_good}".lower()
        answer = spoilt(forward, path, method, part, spoil, left)
        with registries.serving(answer) as front:
            name = f"{front.host}/{path}:1"
            if part == "mount=":
                first = f"{front.host}/faults/first-{number}:1"
                one.tag(parts.image_id, first)
                push(one, remote, parse_name(first))
            one.tag(parts.image_id, name)

            # What cannot be taken over from another repository is sent.
            if is_for_good and part != "mount=":
                with pytest.raises(
                    RegistryError, match=r"slow down|too many|EOF|reset|broken pipe"
                ):
                    push(one, remote, parse_name(name))
                continue
            push(one, remote, parse_name(name))

            assert left[0] < 2 or is_for_good
            assert pull(two, remote, parse(name)).image_id == parts.image_id


def spoilt(
    inner: registries.Forward, path: str, method: str, part: str, spoil: Spoil, left: list[int]
) -> Callable[[registries.Handler, registries.Request], None]:
    """The same registry, but for some requests about one repository."""

    def answer(handler: registries.Handler, request: registries.Request) -> None:
        is_meant = f"/{path}/" in request.path and request.method == method
        if left[0] and is_meant and part in request.path:
            left[0] -= 1
            spoil(handler)
        else:
            inner(handler, request)

    return answer
