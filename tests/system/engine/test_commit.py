"""A container becomes an image, and the image the same tree again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path
from kit import trees

import sandbox
from sandbox.engine import disk
from sandbox.oci.imageconfig import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Store

pytestmark = [requires.root, requires.overlay]

# One of everything that a layer can say; setcap has no program in this image.
CHANGES = """
set -e
echo new > /new; chown 12:34 /new; chmod 4755 /new; ln /new /hard; mkdir -p /a/b/c
ln /new /a/b/hard; ln -s /etc/passwd /a/link; mkfifo -m 640 /a/fifo; mknod -m 666 /a/null c 1 3
rm /etc/passwd; rm -r /var; mkdir /var; echo only > /var/only
rm -r /usr; echo file > /usr
rm /linuxrc; mkdir /linuxrc; touch /linuxrc/inside
chmod 700 /tmp; chown 5:6 /root; rm -r /sbin; touch -d @1234567890 /a/b/c
echo more >> /etc/group; touch "/a/with space"; : > "/a/$(printf 'new\\nline')"
chmod 711 /
"""


@pytest.fixture
def engine(busybox: Store) -> Iterator[sandbox.Engine]:
    engine = sandbox.Engine()
    yield engine
    for each in engine.containers(all=True):
        each.remove(force=True)


def ran(engine: sandbox.Engine, image: str, script: str, **options: object) -> sandbox.Container:
    attachment = engine.start_new(image, ["sh", "-c", script], **options)
    with attachment:
        record = attachment.container.wait()
    assert record.exit_code == 0, list(attachment.container.logs())
    attachment.container.rest()
    return attachment.container


def merged(lowers: list[str], where: Path) -> dict[str, trees.Entry]:
    """What a container of these layers sees, top first."""
    where.mkdir(exist_ok=True)
    listed = ":".join(lowers)
    options = f"lowerdir={listed},ro"
    subprocess.run(["mount", "-t", "overlay", "x", "-o", options, where], check=True)
    try:
        found = trees.picture(where)
    finally:
        subprocess.run(["umount", where], check=True)
    # The root's time is not kept: it is that of whatever was last done there.
    found["."] = found["."][:3]
    return found


def tree_of(engine: sandbox.Engine, image: str, where: Path) -> dict[str, trees.Entry]:
    # At least two, or overlayfs refuses.
    empty = where.with_name("empty")
    empty.mkdir(exist_ok=True)
    return merged([*reversed(engine.image(image).layers), str(empty)], where)


def tree_in(container: sandbox.Container, where: Path) -> dict[str, trees.Entry]:
    layers = container._engine.image(container.image_id).layers
    return merged([f"{container.folder}/upper", *reversed(layers)], where)


def mark(container: sandbox.Container) -> None:
    """What busybox has no program for."""
    file = f"{container.folder}/upper/new"
    os.setxattr(file, "user.note", b"\0value\n")
    os.setxattr(file, "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    os.utime(f"{container.folder}/upper/a", ns=(0, 1_700_000_000_123_456_789))


def test_a_commit_is_the_tree_of_its_container(engine: sandbox.Engine, tmp_path: Path) -> None:
    container = ran(engine, "busybox", CHANGES)
    mark(container)
    before = tree_in(container, tmp_path / "view")

    image_id = container.commit("made:1")

    assert engine.image("made:1").id == image_id
    assert trees.differences(before, tree_of(engine, "made:1", tmp_path / "view")) == []
    assert before["new"][0] == "-rwsr-xr-x"
    seen = engine.run("made:1", ["sh", "-c", "cat /var/* /usr; stat -c %a / /tmp"])
    assert seen.stdout.split() == [b"only", b"file", b"711", b"700"]


def test_a_commit_of_a_commit_is_again_the_tree(engine: sandbox.Engine, tmp_path: Path) -> None:
    ran(engine, "busybox", CHANGES, name="one").commit("one")
    second = ran(engine, "one", "rm -r /a /new; mkdir /a /usr2; echo x > /a/x; rm /usr; mkdir /usr")
    before = tree_in(second, tmp_path / "view")

    second.commit("two")

    assert trees.differences(before, tree_of(engine, "two", tmp_path / "view")) == []
    assert engine.image("two").layers[:-1] == engine.image("one").layers
    seen = engine.run("two", ["sh", "-c", "ls -A /a /usr"])
    assert seen.stdout == b"/a:\nx\n\n/usr:\n"


def test_one_state_gives_one_layer(engine: sandbox.Engine) -> None:
    container = ran(engine, "busybox", CHANGES)

    first, second = container.commit("first"), container.commit("second", message="other")

    one, two = engine.image(first).layer_records, engine.image(second).layer_records
    assert first != second
    assert one == two
    assert one[:-1] == engine.image("busybox").layer_records


def test_the_layers_blob_is_a_tar_that_others_read(
    engine: sandbox.Engine, busybox: Store, tmp_path: Path
) -> None:
    container = ran(engine, "busybox", "mkdir /d; echo x > /d/f; ln /d/f /d/g; rm /etc/passwd")
    layer = engine.image(container.commit("made")).layer_records[-1]
    blob = engine.store.blob_path(layer.digest)

    listed = subprocess.run(["tar", "-tzf", blob], capture_output=True, check=True).stdout
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xzpf", blob, "-C", out], check=True)

    assert listed.split() == [b"d/", b"d/f", b"d/g", b"etc/", b"etc/.wh.passwd"]
    assert (out / "d/f").read_text() == "x\n"
    assert (out / "d/f").stat().st_ino == (out / "d/g").stat().st_ino
    with open(blob, "rb") as file:
        assert file.read(10) == b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    with tarfile.open(blob) as tar:
        assert {(member.uname, member.gname) for member in tar} == {("", "")}


def test_the_config_is_the_containers(engine: sandbox.Engine) -> None:
    container = ran(
        engine,
        "busybox",
        "true",
        env={"A": "1", "B": "2"},
        workdir="/tmp",
        user="7:8",
        label={"l": "v"},
        stop_signal="USR1",
        volume=["/unnamed"],
        health_cmd=["true", "x"],
        health_interval="2s",
        entrypoint="env",
    )

    image_id = container.commit(
        "made",
        author="me",
        message="why",
        changes=['CMD ["x"]', "ENV B=3", "EXPOSE 80", "VOLUME /v"],
    )

    made = engine.image("made")
    config = made.config
    assert config.env[-2:] == ("A=1", "B=3")
    assert (config.entrypoint, config.cmd) == (("env",), ("x",))
    assert (config.working_dir, config.user, config.stop_signal) == ("/tmp", "7:8", "USR1")
    assert config.healthcheck == Healthcheck(test=("CMD", "true", "x"), interval_ns=2 * 10**9)
    assert dict(config.labels)["l"] == "v"
    assert (config.exposed_ports, config.volumes) == (("80/tcp",), ("/unnamed", "/v"))
    document = json.loads(engine.store.read_blob(image_id))
    parent = json.loads(engine.store.read_blob(engine.image("busybox").id))
    step = document["history"][-1]
    assert document["author"] == "me"
    assert document["history"][:-1] == parent["history"]
    assert (step["author"], step["comment"]) == ("me", "why")
    assert step["created_by"] == "env sh -c true"
    assert document["created"] == step["created"]


def test_nothing_changed_makes_no_layer(engine: sandbox.Engine) -> None:
    container = engine.create("busybox", ["true"])

    made = engine.image(container.commit())

    assert made.layers == engine.image("busybox").layers
    assert json.loads(engine.store.read_blob(made.id))["history"][-1]["empty_layer"]
    assert made.names == ()


def test_containers_of_a_user_namespace_commit_their_own_ids(engine: sandbox.Engine) -> None:
    script = "echo x > /mine; chown 5:6 /mine; rm -r /var; mkdir /var; touch /var/y"
    container = ran(engine, "busybox", script, userns="private")

    container.commit("made")

    seen = engine.run("made", ["sh", "-c", "stat -c %u:%g /mine /var/y; ls /var"])
    assert seen.stdout.split() == [b"5:6", b"0:0", b"y"]


def test_what_a_layer_hides_stays_hidden_in_a_user_namespace(engine: sandbox.Engine) -> None:
    """trusted.overlay.opaque is not seen there: the files of a replaced folder showed again."""
    ran(engine, "busybox", "mkdir -p /a/b /c; touch /a/old /a/b/old /c/old").commit("lower")
    ran(engine, "lower", "rm -r /a /c; mkdir -p /a/b /c; touch /a/b/new; rm /bin/sleep").commit(
        "upper"
    )
    look = ["sh", "-c", "ls -A /a /a/b /c; ls /bin/sleep; true"]
    plain = engine.run("upper", look).stdout

    for options in ({"userns": "private"}, {"uidmap": "0:200000:65536"}):
        assert engine.run("upper", look, **options).stdout == plain
    made = engine.create("upper", ["true"], userns="private")
    exported = engine.store.paths.root + "/exported.tar"
    with open(exported, "wb") as out:
        made.export(out.fileno())
    with tarfile.open(exported) as archive:
        names = set(archive.getnames())
    changed = ran(engine, "upper", "rm -r /a/b; mkdir /a/b; touch /a/b/mine", userns="private")
    assert [f"{each.kind} {each.path}" for each in changed.diff()] == [
        *("C /a", "C /a/b", "A /a/b/mine", "D /a/b/new")
    ]
    changed.commit("again")
    seen = engine.run("again", look).stdout

    assert b"old" not in plain
    assert b"new" in plain
    assert {"a/b/new", "c"} <= names
    assert not names & {"a/old", "a/b/old", "c/old", "bin/sleep"}
    assert seen == plain.replace(b"new", b"mine")
    assert engine.check_images().problems == ()


def test_a_running_container_is_paused_for_the_moment(engine: sandbox.Engine) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /one; echo $i > /two; done"
    with engine.start_new("busybox", ["sh", "-c", script]) as attachment:
        container = attachment.container
        while {"/one", "/two"} - {change.path for change in container.diff()}:
            time.sleep(0.01)
        for number in range(5):
            container.commit(f"made:{number}")
            assert container.status().word == "running"
            seen = engine.run(f"made:{number}", ["cat", "/one", "/two"]).stdout.split()
            # Written one after the other; a file may be open and empty at that moment.
            assert len({int(word) for word in seen}) <= 2
            assert max(map(int, seen)) - min(map(int, seen)) <= 1
        container.commit("unpaused", pause=False)
        container.kill()
        container.wait()
        container.rest()


def test_a_paused_container_is_committed_and_stays_paused(engine: sandbox.Engine) -> None:
    with engine.start_new("busybox", ["sleep", "1000"]) as attachment:
        container = attachment.container
        container.pause()

        container.commit("made")

        assert container.status().word == "paused"
        container.kill()
        container.wait()
        container.rest()


def test_a_container_that_writes_without_a_pause_still_gives_an_image(
    engine: sandbox.Engine,
) -> None:
    script = """
    while :; do
        for i in 1 2 3 4 5 6 7 8; do
            mkdir -p /w/$i; head -c ${i}0000 /dev/zero > /w/$i/f; : > /w/$i/f; rm -r /w/$i
        done
    done
    """
    with engine.start_new("busybox", ["sh", "-c", script]) as attachment:
        container = attachment.container
        for number in range(20):
            container.commit(f"made:{number}", pause=False)
            assert engine.run(f"made:{number}", ["true"]).ok
        container.kill()
        container.wait()
        container.rest()


def test_an_error_lets_the_container_go_on_and_leaves_nothing(
    engine: sandbox.Engine, busybox: Store
) -> None:
    script = "touch /.wh.passwd; sleep 1000"
    with engine.start_new("busybox", ["sh", "-c", script]) as attachment:
        container = attachment.container
        while not container.diff():
            time.sleep(0.01)

        with pytest.raises(sandbox.ImageError, match=r"'\.wh\.passwd'.*begins with \.wh\."):
            container.commit("made")

        assert container.status().word == "running"
        container.kill()
        container.wait()
        container.rest()
    assert os.listdir(busybox.root / "staging") == []
    assert [image.names for image in engine.images()] == [("busybox:latest",)]


@pytest.mark.slow
def test_a_commit_that_is_killed_leaves_nothing_and_nobody_paused(
    engine: sandbox.Engine, busybox: Store
) -> None:
    numbers = random.Random(1)
    script = "head -c 30000000 /dev/urandom > /big; rm /etc/passwd; touch /ready; sleep 1000"
    with engine.start_new("busybox", ["sh", "-c", script]) as attachment:
        container = attachment.container
        while "/ready" not in {change.path for change in container.diff()}:
            time.sleep(0.05)
        images = len(engine.images())
        frozen = 0
        for number in range(30):
            program = subprocess.Popen(
                [program_path(), "commit", container.id, f"made:{number}"],
                env=busybox.environ,
                stdout=subprocess.DEVNULL,
            )
            if number % 3 == 0:
                # At the moment that matters most.
                while container.status().word != "paused" and program.poll() is None:
                    pass
            else:
                time.sleep(numbers.uniform(0, 1.5))
            program.kill()
            program.wait()
            frozen += container.status().word == "paused"
            if number % 2:
                assert busybox.program("unpause", container.id).returncode == 1
            else:
                busybox.program("ps", "-q")
            assert container.status().word == "running"
            engine.sweep()
            assert os.listdir(busybox.root / "staging") == []
        assert frozen > 0
        made = len(engine.images()) - images
        blobs = set(os.listdir(busybox.root / "blobs/sha256"))
        assert engine.store.collect() == ()
        assert blobs == set(os.listdir(busybox.root / "blobs/sha256"))
        assert made <= 30
        assert container.exec_run(["true"]).ok
        container.kill()
        container.wait()
        container.rest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_commit_that_is_asked_to_end_lets_the_container_go_on(
    engine: sandbox.Engine, busybox: Store, number: int
) -> None:
    script = "head -c 100000000 /dev/zero > /big; touch /ready; sleep 1000"
    with engine.start_new("busybox", ["sh", "-c", script]) as attachment:
        container = attachment.container
        while "/ready" not in {change.path for change in container.diff()}:
            time.sleep(0.05)
        program = subprocess.Popen(
            [program_path(), "commit", container.id, "made"],
            env=busybox.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while container.status().word != "paused":
            assert program.poll() is None
        program.send_signal(number)
        _, said = program.communicate()
        word = container.status().word
        container.kill()
        container.wait()
        container.rest()

    assert (program.returncode, said) == (130, b"")
    assert word == "running"
    assert os.listdir(busybox.root / "staging") == []


def test_a_user_who_pauses_in_between_is_not_undone(engine: sandbox.Engine) -> None:
    with engine.start_new("busybox", ["sleep", "1000"]) as attachment:
        container = attachment.container
        threads = [
            threading.Thread(target=container.commit, args=(f"made:{number}",))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        container.pause()
        for thread in threads:
            thread.join()
        engine.sweep()

        assert container.status().word == "paused"
        container.kill()
        container.wait()
        container.rest()


def test_what_has_no_image_or_a_disk_of_its_own_is_refused(
    engine: sandbox.Engine, busybox: Store, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    folder = engine.create(str(tmp_path / "root"), ["true"], rootfs=True)
    host = engine.create("host", ["true"])

    for container in (folder, host):
        with pytest.raises(sandbox.UsageError, match="was not made of an image"):
            container.commit("made")
        assert container.diff() == ()


@requires.program("mkfs.ext4")
@pytest.mark.parametrize("userns", ["host", "private"])
def test_a_layer_on_a_disk_of_its_own_is_like_any_other(
    engine: sandbox.Engine, userns: str
) -> None:
    script = "rm -r /var; mkdir /var; echo x > /var/x; chown 5:6 /var/x; rm /linuxrc; sleep 1000"
    container = engine.create(
        "busybox", ["sh", "-c", script], storage_opt=["size=20m"], userns=userns
    )
    assert container.diff() == ()
    changed = {"C /var", "A /var/x", "D /linuxrc"}

    for is_running in (True, False):
        if is_running:
            container.start().close()
        else:
            container.kill()
            container.wait()
            container.rest()
        while not changed <= {f"{each.kind} {each.path}" for each in container.diff()}:
            time.sleep(0.05)
        container.commit("made")
        look = ["sh", "-c", "ls -A /var; stat -c %u:%g /var/x; ls /linuxrc; true"]
        assert engine.run("made", look).stdout == b"x\n5:6\n"
    assert container.read_bytes("/var/x") == b"x\n"
    container.write_bytes("/var/y", b"y")
    assert "A /var/y" in {f"{each.kind} {each.path}" for each in container.diff()}


@requires.program("mkfs.ext4")
def test_a_disk_is_mounted_once_whoever_looks(engine: sandbox.Engine, busybox: Store) -> None:
    """Two file systems on one file destroy it: all share the one, a restarted container too."""
    loops = "/sys/block/loop%d/loop/backing_file"
    options = ("--name", "box", "--storage-opt", "size=20m", "--restart", "always")
    busybox.program("run", "-d", *options, "busybox", "sleep", "1000")
    container = engine.container("box")
    image = f"{container.folder}/disk.img"

    with container._lock():
        fd = disk.mount(container)
        try:
            os.mkdir("upper/mine", dir_fd=fd)
            before = container.status().pid
            os.kill(before, signal.SIGKILL)
            while container.status().pid in (0, before):
                time.sleep(0.01)
            places = [loops % number for number in range(256) if os.path.exists(loops % number)]
            backing = [Path(place).read_text().strip() for place in places]
            seen = container.exec_run(["ls", "-d", "/mine"]).stdout
        finally:
            os.close(fd)

    assert backing.count(image) == 1
    assert seen == b"/mine\n"


def test_the_program_prints_what_docker_prints(engine: sandbox.Engine, busybox: Store) -> None:
    ran(engine, "busybox", "touch /new; rm /etc/passwd; echo > /etc/group", name="a1")

    changed = busybox.program("diff", "a1")
    made = busybox.program("commit", "-a", "me", "-m", "why", "-c", "USER 5", "a1", "comm:1")
    dangling = busybox.program("container", "commit", "--pause=false", "a1")
    images = busybox.program("images", "--format", "{{.Repository}}:{{.Tag}}")

    assert changed.stdout == b"C /etc\nC /etc/group\nD /etc/passwd\nA /new\n"
    assert made.stdout == engine.image("comm:1").id.encode() + b"\n"
    assert dangling.stdout.startswith(b"sha256:")
    assert sorted(images.stdout.split()) == [b"<none>:<none>", b"busybox:latest", b"comm:1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diff", "nosuch"], "No such container: nosuch"),
        (["commit", "nosuch"], "No such container: nosuch"),
        (
            ["commit", "a1", "Bad:1"],
            "invalid reference format: repository name (library/Bad) must be lowercase",
        ),
        (
            ["commit", "nosuch", "Bad:1"],
            "invalid reference format: repository name (library/Bad) must be lowercase",
        ),
        (["commit", "-c", "RUN x", "a1"], "RUN is not a valid change command"),
    ],
)
def test_errors_are_dockers(
    engine: sandbox.Engine, busybox: Store, arguments: list[str], said: str
) -> None:
    engine.create("busybox", ["true"], name="a1")

    done = busybox.program(*arguments)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines()[0] == said


@pytest.mark.parametrize("userns", ["host", "private"])
def test_a_folder_that_was_moved_is_whole_in_the_commit(
    engine: sandbox.Engine, userns: str
) -> None:
    container = ran(engine, "busybox", "mv /var /moved; mv /moved/www /var", userns=userns)

    container.commit("made")

    seen = engine.run("made", ["sh", "-c", "ls -d /moved /moved/* /var"])
    assert seen.stdout.split() == [b"/moved", b"/moved/tmp", b"/var"]
