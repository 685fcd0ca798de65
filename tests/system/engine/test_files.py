"""Files of a container through the library: tar streams and bytes, in every state."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator

import pytest
import requires
from conftest import Store

from sandbox.engine.container import Container
from sandbox.engine.engine import Engine
from sandbox.errors import NotFound, PathConflict, SandboxError, UsageError

pytestmark = [requires.root, requires.overlay]


@pytest.fixture(params=["running", "created"])
def box(request: pytest.FixtureRequest, busybox: Store) -> Iterator[Container]:
    """A container in one of its states."""
    made = Engine().create("busybox", ["sleep", "1000"], name="box")
    if request.param == "running":
        made.start().close()
    yield made
    remove(made)


def remove(box: Container) -> None:
    box.remove(force=True)
    # Its monitor is a child of this process.
    Engine().sweep()


def tar_of(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        member = tarfile.TarInfo(name)
        member.size, member.uid = len(content), 7
        made.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_what_is_put_is_what_is_got(box: Container) -> None:
    made = tar_of("file", b"content")

    box.put("/tmp", made)
    box.put("/var", [made[:100], made[100:]], owner=(1, 2))

    for folder, owner in (("/tmp", (7, 0)), ("/var", (1, 2))):
        data = b"".join(box.get(f"{folder}/file"))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            (member,) = archive.getmembers()
            assert (member.name, member.uid, member.gid) == ("file", *owner)


def test_a_stream_that_is_left_early_ends(box: Container) -> None:
    stream = box.get("/")
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator, which the signature does not say


def test_bytes_are_written_and_read(box: Container) -> None:
    content = os.urandom(3 << 20)

    box.write_bytes("/etc/made", content, mode=0o600, owner=(3, 4))
    box.write_bytes("/etc/made", content)
    box.write_bytes("/etc/" + "n" * 250, b"")

    assert box.read_bytes("/etc/made") == content
    assert box.read_bytes("etc/../etc/made", max_bytes=len(content)) == content
    assert box.read_bytes("/etc/" + "n" * 250) == b""


def test_what_cannot_be_read_or_written_is_refused(box: Container) -> None:
    box.write_bytes("/etc/made", b"four")

    with pytest.raises(UsageError, match="more than 3 bytes"):
        box.read_bytes("/etc/made", max_bytes=3)
    with pytest.raises(UsageError, match="not a regular file"):
        box.read_bytes("/etc")
    with pytest.raises(NotFound):
        box.read_bytes("/nosuch")
    with pytest.raises(NotFound):
        list(box.get("/nosuch"))
    with pytest.raises(NotFound):
        box.write_bytes("/nosuch/x", b"")
    with pytest.raises(PathConflict):
        box.write_bytes("/etc", b"")
    with pytest.raises(SandboxError):
        box.put("/tmp", b"no archive at all" * 100)


def test_a_fifo_is_not_waited_for(busybox: Store) -> None:
    box = Engine().create("busybox", ["sleep", "1000"], name="box")
    try:
        box.start().close()
        assert box.exec_run(["mkfifo", "/tmp/fifo"]).exit_code == 0

        with pytest.raises(UsageError, match="not a regular file"):
            box.read_bytes("/tmp/fifo")
        data = b"".join(box.get("/tmp/fifo"))
    finally:
        remove(box)

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmembers()[0].isfifo()


def test_a_plain_folder_and_this_machine_are_roots_too(busybox: Store, tmp_path: object) -> None:
    folder = os.path.join(str(tmp_path), "tree")
    os.makedirs(f"{folder}/etc")
    for image, keywords in ((folder, {"rootfs": True}), ("host", {})):
        box = Engine().create(image, ["true"], name="box", **keywords)
        try:
            box.write_bytes("/etc/made-in-a-test", b"made")
            assert box.read_bytes("/etc/made-in-a-test") == b"made"
        finally:
            remove(box)

    assert os.listdir(f"{folder}/etc") == []
    assert not os.path.exists("/etc/made-in-a-test")


def test_a_disk_of_its_own_is_reached_at_rest_and_while_it_runs(busybox: Store) -> None:
    box = Engine().create("busybox", ["sleep", "1000"], name="box", storage_opt=["size=32m"])
    try:
        passwd = box.read_bytes("/etc/passwd")
        box.write_bytes("/before", b"before")
        box.start().close()
        box.write_bytes("/made", b"made")
        assert box.read_bytes("/made") == b"made"
        assert box.read_bytes("/before") == b"before"
        assert box.read_bytes("/etc/passwd") == passwd
        box.kill()
        box.wait()
        assert box.read_bytes("/made") == b"made"
    finally:
        remove(box)
