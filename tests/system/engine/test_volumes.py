"""Volumes: shared, kept, filled from the image, and gone when they should be."""

from __future__ import annotations

import io
import json
import os
import random
import stat
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path
from kit.archives import Parts, tar_of

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def said(store: Store, *arguments: str) -> str:
    done = store.program(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def volumes(store: Store) -> list[str]:
    return said(store, "volume", "ls", "-q").split()


def data(store: Store, name: str) -> Path:
    return store.root / "volumes" / name / "_data"


def image_of(store: Store, name: str, *members: tarfile.TarInfo, changes: str = "") -> None:
    """An image of one layer: the files have their names as content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            content = member.name.encode() if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    options = ["-c", changes] if changes else []
    done = store.program("import", "-c", 'CMD ["/x"]', *options, "-", name, stdin=stream.getvalue())
    assert done.returncode == 0, done.stderr.decode()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def test_two_containers_share_a_volume_and_it_outlives_them(busybox: Store) -> None:
    said(busybox, "run", "--rm", "-v", "shared:/a", "busybox", "sh", "-c", "echo hi >/a/file")
    said(busybox, "run", "-d", "--name", "one", "-v", "shared:/b", "busybox", "sleep", "1000")

    assert said(busybox, "run", "--rm", "-v", "shared:/c", "busybox", "cat", "/c/file") == "hi\n"
    said(busybox, "run", "--rm", "-v", "shared:/c", "busybox", "touch", "/c/later")
    assert said(busybox, "exec", "one", "ls", "/b") == "file\nlater\n"
    said(busybox, "rm", "-f", "-v", "one")
    assert volumes(busybox) == ["shared"]


def test_a_volume_is_writable_below_a_read_only_root_and_read_only_when_asked(
    busybox: Store,
) -> None:
    write = ("busybox", "touch", "/a/x")
    said(busybox, "run", "--rm", "--read-only", "-v", "one:/a", *write)
    refused = [
        busybox.program("run", "--rm", "-v", "one:/a:ro", *write),
        busybox.program("run", "--rm", "--mount", "source=one,target=/a,readonly", *write),
    ]

    assert [each.returncode for each in refused] == [1, 1]
    assert all(b"Read-only file system" in each.stderr for each in refused)


def test_an_empty_volume_gets_what_the_image_has_there(busybox: Store) -> None:
    image_of(
        busybox,
        "full",
        entry("srv", tarfile.DIRTYPE, uid=12, gid=13, mode=0o2750, mtime=1000),
        entry("srv/kept", mode=0o4711, uid=5, mtime=2000),
        entry("srv/again", tarfile.LNKTYPE, linkname="srv/kept"),
        entry("srv/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry("srv/pax", pax_headers={"SCHILY.xattr.user.note": "here"}),
        changes="VOLUME /srv",
    )

    said(busybox, "create", "-v", "given:/srv", "full")
    said(busybox, "create", "full")
    said(busybox, "volume", "create", "made")
    said(busybox, "create", "--mount", "src=made,dst=/srv", "full")

    names = volumes(busybox)
    assert len(names) == 3
    for name in names:
        folder = data(busybox, name)
        top, kept = folder.stat(), (folder / "kept").stat()
        assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (12, 13, 0o2750)
        assert (kept.st_uid, stat.S_IMODE(kept.st_mode), kept.st_mtime) == (5, 0o4711, 2000)
        assert (folder / "again").stat().st_ino == kept.st_ino
        assert os.readlink(folder / "link") == "/etc/passwd"
        assert os.getxattr(folder / "pax", "user.note") == b"here"
        assert (folder / "kept").read_text() == "srv/kept"
        assert top.st_mtime == 1000


def test_a_volume_is_filled_once_and_not_when_told_not_to(busybox: Store) -> None:
    image_of(busybox, "full", entry("srv", tarfile.DIRTYPE), entry("srv/file"))
    said(busybox, "run", "--rm", "-v", "used:/a", "busybox", "touch", "/a/mine")

    said(busybox, "create", "-v", "used:/srv", "full")
    said(busybox, "create", "-v", "bare:/srv:nocopy", "full")
    said(busybox, "create", "--mount", "src=bare2,dst=/srv,volume-nocopy", "full")
    said(busybox, "create", "-v", "elsewhere:/nothing/there", "full")
    said(busybox, "create", "-v", "onfile:/srv/file", "full")

    assert os.listdir(data(busybox, "used")) == ["mine"]
    for name in ("bare", "bare2", "elsewhere", "onfile"):
        assert os.listdir(data(busybox, name)) == []
    (data(busybox, "used") / "mine").unlink()
    said(busybox, "create", "-v", "used:/srv", "full")
    assert os.listdir(data(busybox, "used")) == ["file"]


def test_what_an_upper_layer_took_away_is_not_in_the_volume(busybox: Store) -> None:
    below = tar_of({"srv/gone": b"1", "srv/kept": b"2", "srv/old/x": b"3", "srv/dir/a": b"4"})
    above = tar_of(
        {"srv/.wh.gone": b"", "srv/old/.wh..wh..opq": b"", "srv/old/y": b"", "srv/new": b""}
    )
    archive = Parts([below, above]).oci_archive()
    assert busybox.program("load", stdin=archive).returncode == 0

    said(busybox, "create", "-v", "merged:/srv", "small")

    folder = data(busybox, "merged")
    assert sorted(os.listdir(folder)) == ["dir", "kept", "new", "old"]
    assert os.listdir(folder / "old") == ["y"]


@pytest.mark.parametrize(
    "link", ["/etc", "../../../../../../etc", "/proc/1/root/etc", "/proc/self/root"]
)
def test_a_link_in_the_place_of_a_volume_leads_nowhere_outside(busybox: Store, link: str) -> None:
    image_of(
        busybox,
        "evil",
        entry("srv", tarfile.SYMTYPE, linkname=link),
        entry("etc", tarfile.DIRTYPE),
        entry("etc/of-the-image"),
        changes="VOLUME /srv",
    )

    busybox.program("create", "-v", "taken:/srv/", "evil")
    busybox.program("create", "evil")

    for name in volumes(busybox):
        inside = set(os.listdir(data(busybox, name)))
        assert inside <= {"of-the-image", "hosts", "hostname", "resolv.conf"}


def test_devices_and_links_in_an_image_do_no_harm(busybox: Store) -> None:
    image_of(
        busybox,
        "evil",
        entry("srv", tarfile.DIRTYPE),
        entry("srv/mem", tarfile.CHRTYPE, devmajor=1, devminor=1),
        entry("srv/disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("srv/out", tarfile.SYMTYPE, linkname="/"),
        entry("srv/pipe", tarfile.FIFOTYPE),
        entry("srv/file"),
    )

    said(busybox, "create", "-v", "taken:/srv", "evil")

    folder = data(busybox, "taken")
    assert sorted(os.listdir(folder)) == ["file", "out", "pipe"]
    assert os.readlink(folder / "out") == "/"
    said(busybox, "rm", *said(busybox, "ps", "-aq").split())
    said(busybox, "volume", "rm", "taken")
    assert os.path.isdir("/etc")


@pytest.mark.parametrize("path", ["/", "/..", "/proc", "//proc/./"])
def test_an_image_cannot_have_a_volume_anywhere(busybox: Store, path: str) -> None:
    image_of(busybox, "evil", entry("x", mode=0o755), changes=f"VOLUME {path}")

    done = busybox.program("create", "evil")

    assert done.returncode == 125
    assert len(done.stderr.splitlines()) <= 4
    assert b"internal error" not in done.stderr
    assert volumes(busybox) == []


def test_volumes_of_an_image_are_left_out_where_something_else_is(busybox: Store) -> None:
    image_of(busybox, "four", changes="VOLUME /a /b/ /c d")

    said(busybox, "create", "--name", "xx", "-v", "mine:/a", "--tmpfs", "/c", "four")

    mounts = json.loads(said(busybox, "inspect", "xx"))[0]["Mounts"]
    found = {each["Destination"]: each["Name"] for each in mounts}
    assert found.pop("/a") == "mine"
    assert sorted(found) == ["/b", "/d"]
    assert [*sorted(found.values()), "mine"] == volumes(busybox)


def test_volumes_without_a_name_go_with_rm_v_and_with_rm_alone(busybox: Store) -> None:
    said(busybox, "run", "--name", "plain", "-v", "/a", "-v", "named:/b", "busybox", "true")
    said(busybox, "run", "--name", "other", "-v", "/a", "busybox", "true")
    said(busybox, "run", "--rm", "-v", "/a", "-v", "named:/b", "busybox", "true")
    assert len(volumes(busybox)) == 3

    said(busybox, "rm", "plain")
    assert len(volumes(busybox)) == 3
    said(busybox, "rm", "-v", "other")
    assert len(volumes(busybox)) == 2
    said(busybox, "volume", "prune", "-f")
    assert volumes(busybox) == ["named"]


def test_a_detached_rm_container_takes_its_volume_along(busybox: Store) -> None:
    said(busybox, "run", "-d", "--rm", "--name", "dd", "-v", "/a", "busybox", "sleep", "1000")
    assert len(volumes(busybox)) == 1

    busybox.program("kill", "dd")
    deadline = time.monotonic() + 20
    while os.listdir(busybox.root / "volumes") and time.monotonic() < deadline:
        time.sleep(0.02)

    assert os.listdir(busybox.root / "volumes") == []


def test_a_container_that_cannot_start_leaves_no_volume(busybox: Store) -> None:
    done = busybox.program("run", "--rm", "-v", "/a", "busybox", "nosuch")

    assert done.returncode == 127
    assert volumes(busybox) == []


def test_volumes_from_brings_all_mounts_of_a_stopped_container(
    busybox: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("bound")
    said(
        *(busybox, "run", "--name", "first", "-v", "/anon", "-v", "named:/named"),
        *("-v", f"{tmp_path}:/bound:ro", "--tmpfs", "/own", "busybox"),
        *("sh", "-c", "echo 1 >/anon/x; echo 2 >/named/x"),
    )
    from_first = ("run", "--rm", "--volumes-from", "first")

    show = ("busybox", "cat", "/anon/x", "/named/x", "/bound/file")
    assert said(busybox, *from_first, *show) == "1\n2\nbound"
    assert busybox.program(*from_first, "busybox", "ls", "/own").returncode == 1
    readonly = ("run", "--rm", "--volumes-from", "first:ro", "busybox", "touch", "/named/y")
    assert busybox.program(*readonly).returncode == 1
    over = ("-v", "other:/named", "busybox", "ls", "/named", "/anon")
    assert said(busybox, *from_first, *over) == "/anon:\nx\n\n/named:\n"
    # The run that had them all with --rm removed none of the first one's.
    assert len(volumes(busybox)) == 3

    said(busybox, "create", "--name", "second", "--volumes-from", "first", "busybox")
    said(busybox, "rm", "-v", "first")
    assert len(volumes(busybox)) == 3
    said(busybox, "rm", "-v", "second")
    assert volumes(busybox) == ["named", "other"]
    missing = busybox.program("run", "--rm", "--volumes-from", "first", "busybox", "true")
    assert missing.returncode == 125
    assert b"No such container: first" in missing.stderr


def test_a_user_namespace_sees_the_owners_of_the_image(busybox: Store) -> None:
    show = "stat -c '%u:%g' /etc /etc/passwd; touch /etc/new; stat -c %u /etc/new"
    for options in (["--userns", "auto"], ["--uidmap", "0:200000:65536"], []):
        done = said(
            busybox, "run", "--rm", *options, "-v", "mapped:/etc", "busybox", "sh", "-c", show
        )
        assert done.split() == ["0:0", "0:0", "0"]
    assert (data(busybox, "mapped") / "new").stat().st_uid == 0


def test_a_volume_can_be_a_name_for_a_folder(busybox: Store, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("mine")
    options = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}"]
    said(busybox, "volume", "create", *options, "host")

    assert said(busybox, "run", "--rm", "-v", "host:/a", "busybox", "cat", "/a/here") == "mine"
    mount = (
        f'src=two,dst=/a,volume-opt=type=none,"volume-opt=o=bind,ro",volume-opt=device={tmp_path}'
    )
    run = ("run", "--rm", "--mount", mount, "busybox")
    assert said(busybox, *run, "cat", "/a/here") == "mine"
    assert busybox.program(*run, "touch", "/a/x").returncode == 1
    said(busybox, "volume", "rm", "host", "two")
    assert (tmp_path / "here").read_text() == "mine"


def test_a_volume_of_an_earlier_version_is_one(busybox: Store) -> None:
    folder = busybox.root / "volumes" / "early" / "_data"
    folder.mkdir(parents=True)
    (folder / "file").write_text("old")

    assert volumes(busybox) == ["early"]
    assert json.loads(said(busybox, "volume", "inspect", "early"))[0]["Name"] == "early"
    assert said(busybox, "run", "--rm", "-v", "early:/a", "busybox", "cat", "/a/file") == "old"
    said(busybox, "volume", "rm", "early")
    assert volumes(busybox) == []


def test_a_damaged_document_is_about_its_own_volume_only(busybox: Store) -> None:
    for name in ("good", "bad"):
        said(busybox, "volume", "create", name)
    (busybox.root / "volumes/bad/volume.json").write_text("{")

    listed = busybox.program("volume", "ls", "-q")

    assert listed.stdout == b"good\n"
    assert b"bad/volume.json" in listed.stderr
    said(busybox, "run", "--rm", "-v", "good:/a", "busybox", "true")
    said(busybox, "volume", "rm", "bad", "good")


def test_a_container_with_a_damaged_document_keeps_its_volumes(busybox: Store) -> None:
    said(busybox, "create", "-v", "held:/a", "busybox")
    said(busybox, "volume", "create", "free")
    (container,) = (busybox.root / "containers").iterdir()
    document = container / "container.json"
    document.write_text(document.read_text()[:-1])

    said(busybox, "volume", "rm", "free")
    assert busybox.program("volume", "rm", "held").returncode == 1
    said(busybox, "rm", "-f", container.name)
    said(busybox, "volume", "rm", "held")


def test_a_volume_whose_filling_was_broken_off_is_filled(busybox: Store) -> None:
    said(busybox, "volume", "create", "half")
    folder = busybox.root / "volumes" / "half"
    (folder / "fill").mkdir(mode=0o711)
    (folder / "fill" / "second").write_text("2")
    (folder / "_data" / "first").write_text("1")

    shown = said(busybox, "run", "--rm", "-v", "half:/a", "busybox", "ls", "/a")

    assert shown == "first\nsecond\n"
    assert stat.S_IMODE((folder / "_data").stat().st_mode) == 0o711
    assert not (folder / "fill").exists()


def test_sixteen_makers_of_one_volume_have_one_volume(busybox: Store) -> None:
    def make(number: int) -> str:
        volume = sandbox.Engine().create_volume("wanted", labels={"by": str(number)})
        return dict(volume.labels)["by"]

    with ThreadPoolExecutor(16) as pool:
        winners = set(pool.map(make, range(16)))

    assert len(winners) == 1
    assert volumes(busybox) == ["wanted"]
    assert os.listdir(busybox.root / "staging") == []


def test_sixteen_containers_fill_one_volume_once(busybox: Store) -> None:
    def make(_number: int) -> sandbox.Container:
        return sandbox.Engine().create("busybox", ["true"], volumes="etc:/etc")

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(make, range(16)))

    assert {"passwd", "group"} <= set(os.listdir(data(busybox, "etc")))
    assert os.listdir(busybox.root / "staging") == []
    assert sorted(sandbox.Engine().volume("etc").users()) == sorted(each.id for each in made)


def test_makers_and_removers_of_one_volume_never_part_it_from_its_container(
    busybox: Store,
) -> None:
    engine = sandbox.Engine()

    def make(_number: int) -> bool:
        container = sandbox.Engine().create("busybox", ["true"], volumes="both:/etc")
        is_there = data(busybox, "both").is_dir()
        container.remove()
        return is_there

    def remove(_number: int) -> bool:
        try:
            sandbox.Engine().remove_volume("both", force=True)
        except sandbox.ObjectInUse:
            pass
        return True

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(each, n) for n in range(40) for each in (make, remove)]
        assert all(answer.result() for answer in answers)

    engine.remove_volume("both", force=True)
    assert os.listdir(busybox.root / "staging") == []


def test_the_library_has_volumes(busybox: Store) -> None:
    engine = sandbox.Engine()
    volume = engine.create_volume("lib", labels={"a": "b"})

    sandbox.run("busybox", ["sh", "-c", "echo hi >/v/x"], volumes={"lib": "/v"}, check=True)
    container = engine.create("busybox", ["true"], volumes=["lib:/v", "/w"])

    assert volume.size() == 3
    assert [each.name for each in engine.volumes() if not each.is_anonymous] == ["lib"]
    assert volume.users() == (container.id,)
    with pytest.raises(sandbox.ObjectInUse, match="volume is in use") as raised:
        volume.remove()
    assert raised.value.users == (container.id,)
    container.remove(volumes=True)
    assert [each.name for each in engine.volumes()] == ["lib"]
    assert engine.prune_volumes(all=True, labels=["a=c"]) == ((), 0)
    assert engine.prune_volumes(all=True, labels=["a=b"]) == (("lib",), 3)
    with pytest.raises(sandbox.VolumeNotFound, match="get lib: no such volume"):
        engine.volume("lib")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_killed_at_random_leave_at_most_a_dangling_volume(busybox: Store) -> None:
    image_of(
        busybox,
        "full",
        entry("srv", tarfile.DIRTYPE),
        *(entry(f"srv/{number}") for number in range(2000)),
        changes="VOLUME /srv",
    )
    chance = random.Random(815)
    for number in range(60):
        name = f"k{number % 3}x"
        command = chance.choice(
            [
                ["run", "--rm", "--name", name, "-v", "/a", "busybox", "sleep", "0.02"],
                ["create", "--name", name, "full"],
                ["create", "--name", name, "-v", "named:/srv", "full"],
                ["rm", "-f", "-v", name],
                ["volume", "rm", "named"],
                ["volume", "prune", "-f"],
            ]
        )
        process = subprocess.Popen(
            [program_path(), *command],
            env=busybox.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        process.wait()
        for volume in volumes(busybox):
            # Empty or whole, once nobody is in the middle of moving it.
            folder = data(busybox, volume)
            if folder.is_dir() and not (folder.parent / "fill").exists():
                assert len(os.listdir(folder)) in (0, 2000)

    deadline = time.monotonic() + 20
    while os.listdir(busybox.run / "containers") and time.monotonic() < deadline:
        sandbox.Engine().sweep()
        time.sleep(0.05)
    for container in sandbox.Engine().containers(all=True):
        container.remove(force=True, volumes=True)
    dangling = set(said(busybox, "volume", "ls", "-q", "-f", "dangling=true").split())
    assert set(os.listdir(busybox.root / "volumes")) == dangling
    said(busybox, "volume", "prune", "-af")
    sandbox.Engine().sweep()
    assert os.listdir(busybox.root / "volumes") == []
    assert os.listdir(busybox.root / "staging") == []
    assert os.listdir(busybox.root / "names") == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(busybox: Store, tmp_path: Path) -> None:
    image_of(busybox, "full", entry("srv", tarfile.DIRTYPE), entry("srv/file"))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], check=True)
    try:
        environ = {"SANDBOX_ROOT": str(small / "store")}
        archive = Parts(
            [tar_of({"srv/big": bytes(range(256)) * 28672})]
        )  # 7 MiB: twice is too much
        load = busybox.program("load", stdin=archive.oci_archive(), **environ)
        assert load.returncode == 0, load.stderr.decode()
        (small / "filler").write_bytes(b"x" * (3 << 20))

        done = busybox.program(
            "create", "-v", "big:/srv", "-v", "/srv/too", "small", "x", **environ
        )

        assert done.returncode == 125
        assert b"no space left on device" in done.stderr
        assert len(done.stderr.splitlines()) <= 4
        assert b"Traceback" not in done.stderr
        assert os.listdir(small / "store/containers") == []
        assert os.listdir(small / "store/staging") == []
        left = busybox.program("volume", "ls", "-q", **environ).stdout.split()
        assert left in ([], [b"big"])
        if left:
            assert os.listdir(small / "store/volumes/big/_data") == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
