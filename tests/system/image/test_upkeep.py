"""image prune and image fsck as programs."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
import requires
from conftest import Store
from kit import archives

import sandbox

pytestmark = [requires.root]


def ran(store: Store, *arguments: str, code: int = 0, stdin: bytes = b"") -> str:
    done = store.program(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture
def small(store: Store, tmp_path: Path) -> Store:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(store, "load", "-i", str(tmp_path / "small.tar"))
    return store


def test_a_prune_takes_images_without_a_name_alone(small: Store, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(archives.small().tars[0])
    dangling = ran(small, "import", str(tmp_path / "root.tar")).strip()
    engine = sandbox.Engine()

    out = ran(small, "image", "prune", "-f")

    assert f"deleted: {dangling}\n" in out
    assert out.splitlines()[-1].startswith("Total reclaimed space: ")
    assert [image.names for image in engine.images()] == [("small:latest",)]
    assert ran(small, "image", "prune", "-f") == "Total reclaimed space: 0B\n"


def test_images_are_chosen_by_their_times_and_not_by_how_these_are_written(
    store: Store, tmp_path: Path
) -> None:
    times = ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5Z", "2024-01-02T05:04:06+02:00")
    for number, created in enumerate(times):
        parts = archives.small()
        parts.changes, parts.name = {"created": created}, f"docker.io/library/at:{number}"
        (tmp_path / "at.tar").write_bytes(parts.oci_archive())
        ran(store, "load", "-i", str(tmp_path / "at.tar"))

    def found(*filters: str) -> list[str]:
        flags = [word for each in filters for word in ("-f", each)]
        return sorted(ran(store, "images", "--format", "{{.Tag}}", *flags).split())

    assert found("before=at:1") == ["0"]
    assert found("since=at:1") == ["2"]
    assert found("since=at:0", "before=at:2") == ["1"]
    assert found("until=1h") == found("until=2024-01-03") == ["0", "1", "2"]
    assert found("until=2024-01-01") == found("label=x") == []
    assert found("label=a=b", "reference=a?:[12]", "dangling=false") == ["1", "2"]
    for arguments in (("images",), ("image", "prune", "-f")):
        done = store.program(*arguments, "--filter", "dangling=maybe")
        assert (done.returncode, done.stderr) == (1, b"invalid filter 'dangling=maybe'\n")


def test_a_prune_of_all_spares_what_a_container_uses(busybox: Store, tmp_path: Path) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(busybox, "load", "-i", str(tmp_path / "small.tar"))
    ran(busybox, "create", "--name", "user", "busybox", "true")

    out = ran(busybox, "image", "prune", "-a", "-f")

    assert "untagged: small:latest\n" in out
    assert [image.names for image in sandbox.Engine().images()] == [("busybox:latest",)]
    ran(busybox, "rm", "user")


def test_a_prune_asks_and_takes_no_answer_for_a_no(small: Store) -> None:
    out = ran(small, "image", "prune", "-a")

    assert out.startswith("WARNING! This will remove all images without at least one container")
    assert len(sandbox.Engine().images()) == 1


def test_a_whole_store_has_no_problem(small: Store) -> None:
    assert ran(small, "image", "fsck").endswith(": no problems\n")


def test_a_flipped_byte_of_any_blob_is_found(small: Store) -> None:
    chance = random.Random(20)
    for blob in sorted((small.root / "blobs" / "sha256").iterdir()):
        whole = blob.read_bytes()
        place = chance.randrange(len(whole))
        blob.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])

        out = ran(small, "image", "fsck", code=1)

        assert out.startswith(f"{blob}: its bytes have the digest sha256:")
        blob.write_bytes(whole)
    assert ran(small, "image", "fsck").endswith(": no problems\n")


def test_a_missing_blob_is_found(small: Store) -> None:
    blob = max((small.root / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.unlink()

    found = json.loads(ran(small, "image", "fsck", "--format", "json", code=1))

    assert [(each["What"], each["Problem"]) for each in found["Problems"]] == [
        (str(blob), "is missing")
    ]
    assert found["Problems"][0]["Images"] == [sandbox.Engine().image("small").id]


@pytest.mark.parametrize("how", ["content", "mode", "time", "more", "less"])
def test_a_tree_that_is_not_what_its_blob_holds_is_found(small: Store, how: str) -> None:
    tree = Path(sandbox.Engine().image("small").layers[0])
    file = next(path for path in sorted(tree.rglob("*")) if path.is_file() and path.stat().st_size)
    status = file.stat()
    if how == "content":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "mode":
        file.chmod(status.st_mode ^ 0o001)
    elif how == "time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif how == "more":
        (file.parent / "zzz").touch()
    else:
        file.unlink()

    out = ran(small, "image", "fsck", code=1)

    assert out.startswith(f"{tree}: is not what its blob holds: /")
    assert os.listdir(small.root / "staging") == []


def test_the_disk_usage_is_what_du_counts(busybox: Store, tmp_path: Path) -> None:
    parts = archives.small()
    (tmp_path / "small.tar").write_bytes(parts.oci_archive())
    ran(busybox, "load", "-i", str(tmp_path / "small.tar"))
    ran(
        busybox,
        "run",
        "--name",
        "one",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/big",
        "bs=64k",
        "count=9",
    )
    ran(busybox, "create", "-v", "data:/data", "--name", "two", "busybox", "true")
    (busybox.root / "volumes" / "data" / "_data" / "file").write_bytes(bytes(100_000))

    usage = sandbox.Engine().usage()

    assert _close(usage.image_bytes, _du(busybox.root / "layers") + _du(busybox.root / "blobs"))
    for each in usage.containers:
        assert _close(each.bytes, _du(Path(each.container.folder)))
    assert _close(usage.volumes[0].bytes, _du(busybox.root / "volumes" / "data" / "_data"))
    assert usage.volumes[0].links == 1
    by_name = {each.image.names[0]: each for each in usage.images}
    assert by_name["busybox:latest"].containers == 2
    assert usage.reclaimable_image_bytes == by_name["small:latest"].unique_bytes
    assert sum(each.unique_bytes for each in usage.images) == usage.image_bytes
    ran(busybox, "rm", "-v", "one", "two")


def test_shared_layers_are_shared_bytes(small: Store) -> None:
    ran(small, "tag", "small", "other")
    before = sandbox.Engine().usage()

    assert [each.shared_bytes for each in before.images] == [0]
    out = ran(small, "system", "df")
    assert out.splitlines()[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split("  ")[0] for line in out.splitlines()[1:]] == [
        *("Images", "Containers", "Local Volumes", "Build Cache")
    ]
    assert out.splitlines()[1].endswith("(100%)")


def test_a_prune_of_the_system_makes_no_network(store: Store) -> None:
    before = set(os.listdir("/sys/class/net"))

    ran(store, "system", "prune", "-f")

    assert not (store.root / "networks" / "bridge").exists()
    assert not {x for x in set(os.listdir("/sys/class/net")) - before if _is_ours(x, store)}


def _is_ours(link: str, store: Store) -> bool:
    documents = (store.root / "networks").glob("*/network.json")
    return any(link.removeprefix("sb-") in document.read_text() for document in documents)


def test_a_prune_of_the_system_takes_all_that_nothing_uses(busybox: Store, tmp_path: Path) -> None:
    (tmp_path / "small.tar").write_bytes(archives.small().oci_archive())
    ran(busybox, "load", "-i", str(tmp_path / "small.tar"))
    ran(busybox, "run", "-v", "/anonymous", "--name", "done", "busybox", "true")
    ran(busybox, "run", "-d", "--name", "runs", "busybox", "sleep", "1000")

    out = ran(busybox, "system", "prune", "-a", "-f", "--volumes")

    assert out.startswith("Deleted Containers:\n")
    assert "\nDeleted Volumes:\n" in out
    assert "untagged: small:latest\n" in out
    engine = sandbox.Engine()
    assert [each.name for each in engine.containers(all=True)] == ["runs"]
    assert [image.names for image in engine.images()] == [("busybox:latest",)]
    assert engine.volumes() == ()
    ran(busybox, "rm", "-f", "runs")


def _du(path: Path) -> int:
    done = subprocess.run(["du", "-s", "-B1", path], stdout=subprocess.PIPE, check=True)
    return int(done.stdout.split()[0])


def _close(found: int, expected: int) -> bool:
    # The folder of folders itself, which no thing takes, and no more.
    return abs(found - expected) <= max(0.01 * expected, 3 * 4096)
