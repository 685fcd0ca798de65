"""pull, push, login and logout as programs, and the pull of a run's image."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store, program_path
from kit import archives, registries

pytestmark = [requires.program("docker-registry")]


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Before the store, which takes the environment as it is.
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def ran(store: Store, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
    done = store.program(*arguments, stdin=stdin)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, err
    return out, err


def test_push_and_pull_print_dockers_lines(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    parts = archives.small()
    (tmp_path / "small.tar").write_bytes(parts.oci_archive())
    name = f"{registry}/lines"
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    ran(store, "tag", "small", name)
    digest = registries.digest(parts.manifest)
    size = len(parts.manifest)

    out, err = ran(store, "push", name)

    lines = out.splitlines()
    assert lines[:2] == ["Using default tag: latest", f"The push refers to repository [{name}]"]
    assert lines[-1] == f"latest: digest: {digest} size: {size}"
    pushed = {registries.digest(tar)[7:19] for tar in parts.tars}
    assert {line for line in lines if line.endswith(": Pushed")} == {f"{x}: Pushed" for x in pushed}
    assert err == ""

    ran(store, "rmi", "small", name)
    out, err = ran(store, "pull", name)

    lines = out.splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from lines"]
    assert lines[-3:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}:latest",
        f"{name}:latest",
    ]
    short = registries.digest(parts.layers[0])[7:19]
    assert [line for line in lines if short in line] == [
        f"{short}: Pulling fs layer",
        f"{short}: Download complete",
        f"{short}: Pull complete",
    ]
    assert err == ""
    out, _ = ran(store, "pull", f"{name}:latest")
    assert f"Status: Image is up to date for {name}:latest" in out
    assert ran(store, "pull", "-q", name)[0] == f"{name}:latest\n"
    assert ran(store, "pull", "-q", "-a", name)[0] == f"{name}\n"
    assert ran(store, "push", "-q", "-a", name)[0] == f"{name}\n"


def test_what_is_missing_is_said_in_dockers_words(
    own_configuration: None, store: Store, registry: str
) -> None:
    port = registries.free_port()

    assert ran(store, "pull", f"{registry}/nosuch:1", code=1) == (
        "",
        f"manifest for {registry}/nosuch:1 not found: manifest unknown: manifest unknown\n",
    )
    assert ran(store, "pull", f"127.0.0.1:{port}/x", code=1) == (
        "Using default tag: latest\n",
        f'Get "http://127.0.0.1:{port}/v2/": dial tcp 127.0.0.1:{port}: '
        "connect: connection refused\n",
    )
    out, err = ran(store, "push", "nosuch/image", code=1)
    assert out == (
        "Using default tag: latest\nThe push refers to repository [docker.io/nosuch/image]\n"
    )
    assert err.startswith("An image does not exist locally with the tag: nosuch/image\n")
    assert ran(store, "run", f"{registry}/nosuch:1", "true", code=125) == (
        "",
        f"Unable to find image '{registry}/nosuch:1' locally\n"
        f"sandbox: manifest for {registry}/nosuch:1 not found: "
        "manifest unknown: manifest unknown\n\nRun 'sandbox run --help' for more information\n",
    )


@requires.root
@requires.overlay
def test_run_brings_the_image_that_is_missing(
    own_configuration: None, busybox: Store, registry: str
) -> None:
    name = f"{registry}/box:1"
    ran(busybox, "tag", "busybox", name)
    ran(busybox, "push", "-q", name)
    ran(busybox, "rmi", "busybox", name)

    assert "No such image" in ran(busybox, "run", "--pull", "never", name, "true", code=125)[1]
    out, err = ran(busybox, "run", "--rm", name, "echo", "hello")

    assert out == "hello\n"
    assert err.startswith(f"Unable to find image '{name}' locally\n1: Pulling from box\n")
    assert ran(busybox, "run", "--rm", name, "echo", "again") == ("again\n", "")
    out, err = ran(busybox, "run", "--rm", "--pull", "always", name, "echo", "always")
    assert out == "always\n"
    assert f"Status: Image is up to date for {name}" in err
    ran(busybox, "rmi", name)
    assert len(ran(busybox, "create", "-q", name, "true")[0].strip()) == 64


def test_login_and_logout(own_configuration: None, store: Store, tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(registries.HTPASSWD)
    with registries.docker_registry(tmp_path / "locked", htpasswd=passwords) as host:
        login = ("login", "-u", registries.USER, "--password-stdin", host)

        assert "unauthorized" in ran(store, *login, code=1, stdin=b"wrong\n")[1]
        out, err = ran(store, *login, stdin=f"{registries.PASSWORD}\n".encode())
        assert out == "Login Succeeded\n"
        assert "stored unencrypted" in err
        assert "not found" in ran(store, "pull", f"{host}/x:1", code=1)[1]
        assert ran(store, "logout", host)[0] == f"Removing login credentials for {host}\n"
        assert ran(store, "logout", host)[0] == f"Not logged in to {host}\n"
        assert "pull access denied" in ran(store, "pull", f"{host}/x:1", code=1)[1]

    err = ran(store, "login", "--password-stdin", host, code=1)[1]
    assert err == "Must provide --username with --password-stdin\n"


@pytest.mark.parametrize("fault", ["stall", "silent", "dropped"])
def test_an_interrupted_pull_ends_at_once_and_leaves_nothing(
    own_configuration: None, store: Store, fault: str
) -> None:
    fake = registries.Fake(archives.small(filler=3_000_000))
    layer = f"/blobs/{registries.digest(fake.parts.layers[0])}"
    with registries.serving(fake) as server, registries.dropping() as nobody:
        fake.faults = {
            layer: {
                "stall": registries.stall,
                "silent": registries.silent,
                "dropped": registries.redirect(lambda request: f"http://{nobody}{request.path}"),
            }[fault]
        }
        process = subprocess.Popen(
            [program_path(), "pull", "-q", f"{server.host}/image:1"], env=store.environ
        )
        while not server.asked(layer):
            time.sleep(0.02)
        time.sleep(0.2)  # it is on its way to nobody

        process.send_signal(signal.SIGINT)

        # Long before the 60 s without a byte are over.
        assert process.wait(timeout=30) == 130
    assert list(store.root.glob("staging/*")) == []
    assert list(store.root.glob("blobs/sha256/*")) == []


def test_an_interrupted_pull_from_nobody_ends_at_once(
    own_configuration: None, store: Store
) -> None:
    with registries.dropping() as nobody:
        process = subprocess.Popen([program_path(), "pull", f"{nobody}/x:1"], env=store.environ)
        time.sleep(1)
        assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=30) == 130


def test_all_tags_are_pushed_and_pulled(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    name = f"{registry}/all/tags"
    for tag in ("1", "2"):
        ran(store, "tag", "small", f"{name}:{tag}")

    out, _err = ran(store, "push", "-a", name)
    assert [x.partition(":")[0] for x in out.splitlines() if ": digest: " in x] == ["1", "2"]
    assert "tag can't be used" in ran(store, "push", "-a", f"{name}:1", code=1)[1]
    ran(store, "image", "prune", "-a", "-f")
    out, _err = ran(store, "pull", "-a", name)

    assert out.splitlines()[-1] == name
    out, _err = ran(store, "images", "--format", "{{.Repository}}:{{.Tag}}")
    assert out.split() == [f"{name}:1", f"{name}:2"]


def test_an_image_pulled_by_its_digest_has_a_row_without_a_tag(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    parts = archives.small()
    (tmp_path / "small.tar").write_bytes(parts.oci_archive())
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    name, digest = f"{registry}/digests", registries.digest(parts.manifest)
    ran(store, "tag", "small", f"{name}:1")
    ran(store, "push", "-q", f"{name}:1")
    fields = ("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
    assert sorted(ran(store, *fields)[0].splitlines()) == [
        f"{name} 1 {digest}",
        "small latest <none>",
    ]
    ran(store, "image", "prune", "-a", "-f")

    ran(store, "pull", "-q", f"{name}@{digest}")

    assert ran(store, *fields)[0] == f"{name} <none> {digest}\n"
    heads = ran(store, "images", "--digests")[0].splitlines()[0].split()
    assert heads == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert len(ran(store, "images", "-q", "-f", "dangling=true")[0].split()) == 1
    ran(store, "run", "--pull", "never", "--rm", "--entrypoint", "x", name, code=125)
    assert "Deleted: sha256:" in ran(store, "rmi", f"{name}@{digest}")[0]


def test_a_registry_without_a_search_is_searched_by_its_list(
    own_configuration: None, store: Store, registry: str, tmp_path: Path
) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    for name in ("apple/pie", "apple/tart", "pear"):
        ran(store, "tag", "small", f"{registry}/search/{name}")
        ran(store, "push", "-q", f"{registry}/search/{name}")

    out, _err = ran(store, "search", f"{registry}/apple")

    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert [line.split() for line in lines[1:]] == [
        [f"{registry}/search/apple/{name}", "0"] for name in ("pie", "tart")
    ]
    first = ("search", "--limit", "1", "--format", "{{.Name}}", f"{registry}/apple")
    assert ran(store, *first)[0] == f"{registry}/search/apple/pie\n"
    _out, err = ran(store, "search", "--limit", "0", "x", code=1)
    assert "Limit 0 is outside the range of [1, 100]" in err
    assert "Invalid filter 'nosuch'" in ran(store, "search", "-f", "nosuch=1", "x", code=1)[1]


def test_a_search_shows_what_a_registry_says_of_itself(
    own_configuration: None, store: Store
) -> None:
    results = [
        {"name": "little", "description": "few\nlike \x1b[2Jit", "star_count": 3},
        {"name": "much", "description": "m" * 60, "star_count": 9, "is_official": True},
        {"description": "nameless"},
    ]

    def answer(handler: registries.Handler, request: registries.Request) -> None:
        if request.path == "/v2/":
            handler.say(200, b"{}")
        elif request.path == "/v1/search?q=it&n=25":
            handler.say(200, json.dumps({"results": results}).encode(), Content_Type="text/json")
        else:
            handler.refuse(404, "NOT_FOUND", "not found")

    with registries.serving(answer) as server:
        out, _err = ran(store, "search", f"{server.host}/it")

        lines = [line.split("   ") for line in out.splitlines()[1:]]
        cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
        assert cells == [
            [f"{server.host}/much", "m" * 44 + "…", "9", "[OK]"],
            [f"{server.host}/little", "few like  [2Jit", "3"],
        ]
        out, _err = ran(
            store, "search", "-f", "stars=4", "--format", "{{.Name}}", f"{server.host}/it"
        )
        assert out == f"{server.host}/much\n"
        err = ran(store, "search", f"{server.host}/else", code=1)[1]
        assert "offers no search and no list of its repositories" in err
