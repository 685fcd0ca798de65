"""``cp`` and ``export``: docker's rules both ways, in every state, and against hostile roots."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store, program_path

pytestmark = [requires.root, requires.overlay]


@pytest.fixture(params=["running", "stopped", "created"])
def box(request: pytest.FixtureRequest, busybox: Store, tmp_path: Path) -> Iterator[Store]:
    """A store with the container ``box`` in one of its states, and a bound folder at /vol."""
    (tmp_path / "vol").mkdir()
    (tmp_path / "ro").mkdir()
    (tmp_path / "ro" / "kept").write_text("kept")
    volumes = ("-v", f"{tmp_path}/vol:/vol", "-v", f"{tmp_path}/ro:/ro:ro")
    command = ("busybox", "sleep", "1000") if request.param == "running" else ("busybox", "true")
    if request.param == "created":
        done = busybox.program("create", "--name", "box", *volumes, *command)
    else:
        detach = ("-d",) if request.param == "running" else ()
        done = busybox.program("run", *detach, "--name", "box", *volumes, *command)
    assert done.returncode == 0, done.stderr
    yield busybox
    busybox.program("rm", "-f", "box")


@pytest.fixture
def running(busybox: Store) -> Iterator[Store]:
    """A store with the running container ``box``."""
    done = busybox.program(
        *("run", "-d", "--name", "box", "--tmpfs", "/scratch", "busybox", "sleep", "1000")
    )
    assert done.returncode == 0, done.stderr
    yield busybox
    busybox.program("rm", "-f", "box")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a file, a link and a folder in it."""
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("content")
    (folder / "sub" / "deep").write_text("deep")
    (folder / "link").symlink_to("file")
    (folder / "file").chmod(0o640)
    return folder


def ok(store: Store, *arguments: str, stdin: bytes = b"") -> bytes:
    done = store.program(*arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def refused(store: Store, *arguments: str, stdin: bytes = b"") -> str:
    done = store.program(*arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode().rstrip("\n")


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {each.name: each for each in archive}


def inside(store: Store, path: str) -> set[str]:
    return set(members(ok(store, "cp", f"box:{path}", "-")))


SOURCE_NAMES = {"file", "link", "sub", "sub/deep"}


def below(name: str) -> set[str]:
    return {name, *(f"{name}/{each}" for each in SOURCE_NAMES)}


# Docker's table


def test_a_file_goes_to_a_new_name_over_a_file_and_into_a_folder(box: Store, source: Path) -> None:
    file = str(source / "file")

    ok(box, "cp", file, "box:/etc/new")
    ok(box, "cp", file, "box:/etc/passwd")
    ok(box, "cp", file, "box:etc")

    for name in ("new", "passwd", "file"):
        data = ok(box, "cp", f"box:/etc/{name}", "-")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            member = archive.getmember(name)
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == b"content"
            assert (member.mode, member.uid, member.gid) == (0o640, 0, 0)


def test_a_folder_becomes_a_new_name_and_goes_into_a_folder(box: Store, source: Path) -> None:
    ok(box, "cp", str(source), "box:/new")
    ok(box, "cp", f"{source}/.", "box:/content")
    ok(box, "cp", str(source), "box:/new2/")
    ok(box, "cp", str(source), "box:/etc")
    ok(box, "cp", f"{source}/.", "box:/new/sub")

    assert inside(box, "/content") == below("content")
    assert inside(box, "/new2") == below("new2")
    assert inside(box, "/etc/src") == below("src")
    assert inside(box, "/new") == below("new") | {f"new/sub/{each}" for each in SOURCE_NAMES}


def test_the_same_rules_hold_on_the_way_out(box: Store, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    ok(box, "cp", str(source), "box:/src")

    ok(box, "cp", "box:/src/file", f"{out}/old")
    ok(box, "cp", "box:/src/file", f"{out}/new")
    ok(box, "cp", "box:/src/file", f"{out}/")
    ok(box, "cp", "box:/src", f"{out}")
    ok(box, "cp", "box:/src/.", f"{out}/content")
    ok(box, "cp", "box:/src/.", f"{out}/src/sub")

    for name in ("old", "new", "file", "src/file", "content/file", "src/sub/file"):
        assert (out / name).read_text() == "content"
    assert os.readlink(out / "src" / "link") == "file"
    assert (out / "file").stat().st_mode & 0o7777 == 0o640


def test_what_docker_refuses_is_refused_in_its_words(
    box: Store, source: Path, tmp_path: Path
) -> None:
    file = str(source / "file")
    (tmp_path / "old").write_text("old")

    assert refused(box, "cp", file, "box:/nosuch/") == "no such directory"
    assert refused(box, "cp", file, "box:/nosuch/dir/") == "no such directory"
    assert refused(box, "cp", file, "box:/nosuch/x") == (
        "Could not find the file /nosuch in container box"
    )
    assert refused(box, "cp", str(source), "box:/etc/passwd") == "cannot copy directory"
    assert refused(box, "cp", "box:/nosuch", str(tmp_path)) == (
        "Could not find the file /nosuch in container box"
    )
    assert refused(box, "cp", "box:/etc", f"{tmp_path}/old") == "cannot copy directory"
    assert refused(box, "cp", "box:/etc/passwd", f"{tmp_path}/no/x") == (
        f'invalid output path: directory "{tmp_path}/no" does not exist'
    )
    assert refused(box, "cp", "box:/etc/passwd", f"{tmp_path}/no/") == ("no such directory")
    assert refused(box, "cp", "/nosuch", "box:/") == "lstat //nosuch: no such file or directory"
    assert refused(box, "cp", "box:/etc/passwd", "other:/x") == (
        "copying between containers is not supported"
    )
    assert refused(box, "cp", file, str(tmp_path)) == "must specify at least one container source"
    assert refused(box, "cp", file, "nosuch:/") == "No such container: nosuch"
    assert refused(box, "cp", "-", "box:/etc/passwd") == (
        'destination "box:/etc/passwd" must be a directory'
    )
    assert (tmp_path / "old").read_text() == "old"


def test_a_folder_never_replaces_a_file_below_nor_the_other_way_round(
    box: Store, source: Path
) -> None:
    ok(box, "cp", str(source), "box:/src")
    (source / "sub" / "deep").unlink()
    (source / "sub" / "deep").mkdir()
    assert refused(box, "cp", f"{source}/.", "box:/src") == (
        'cannot overwrite non-directory "/src/sub/deep" with directory "/src"'
    )

    (source / "sub" / "deep").rmdir()
    (source / "sub").rmdir()
    (source / "sub").write_text("a file now")
    assert refused(box, "cp", f"{source}/.", "box:/src") == (
        'cannot overwrite directory "/src/sub" with non-directory "/src"'
    )


def test_a_link_is_itself_or_what_it_leads_to(box: Store, source: Path, tmp_path: Path) -> None:
    ok(box, "cp", f"{source}/link", "box:/")
    ok(box, "cp", "-L", f"{source}/link", "box:/followed")
    ok(box, "cp", str(source), "box:/src")
    ok(box, "cp", "box:/src/link", f"{tmp_path}/itself")
    ok(box, "cp", "-L", "box:/src/link", f"{tmp_path}/what")

    assert members(ok(box, "cp", "box:/link", "-"))["link"].issym()
    assert members(ok(box, "cp", "box:/followed", "-"))["followed"].isreg()
    assert os.readlink(tmp_path / "itself") == "file"
    assert (tmp_path / "what").read_text() == "content"


def test_a_link_as_the_destination_is_followed_inside(box: Store, source: Path) -> None:
    ok(box, "cp", "-", "box:/", stdin=links({"into": "/etc", "onto": "/tmp/made"}))

    ok(box, "cp", f"{source}/file", "box:/into")
    ok(box, "cp", f"{source}/file", "box:/onto")

    assert "file" in inside(box, "/etc/file")
    assert "made" in inside(box, "/tmp/made")


def test_volumes_are_reached_where_they_are_mounted(
    box: Store, source: Path, tmp_path: Path
) -> None:
    ok(box, "cp", f"{source}/file", "box:/vol/")
    ok(box, "cp", "-", "box:/", stdin=links({"way": "vol"}))
    ok(box, "cp", f"{source}/sub", "box:/way/")
    (tmp_path / "vol" / "mine").write_text("mine")
    ok(box, "cp", "box:/vol/mine", f"{tmp_path}/got")

    assert (tmp_path / "vol" / "file").read_text() == "content"
    assert (tmp_path / "vol" / "sub" / "deep").read_text() == "deep"
    assert (tmp_path / "got").read_text() == "mine"


def test_a_read_only_volume_is_read_and_not_written(
    box: Store, source: Path, tmp_path: Path
) -> None:
    assert refused(box, "cp", f"{source}/file", "box:/ro/x") == (
        "mounted volume is marked read-only"
    )
    ok(box, "cp", "box:/ro/kept", f"{tmp_path}/got")

    assert os.listdir(tmp_path / "ro") == ["kept"]
    assert (tmp_path / "got").read_text() == "kept"


def test_an_archive_goes_in_and_out_with_its_owners_and_modes(box: Store) -> None:
    made = archive(
        ("d", tarfile.DIRTYPE, 0o2711, 7, 8), ("d/f", tarfile.REGTYPE, 0o4755, 1000, 1001)
    )

    ok(box, "cp", "-", "box:/tmp", stdin=made)
    out = members(ok(box, "cp", "box:/tmp/d", "-"))

    assert {name: (each.mode, each.uid, each.gid) for name, each in out.items()} == {
        "d": (0o2711, 7, 8),
        "d/f": (0o4755, 1000, 1001),
    }


def test_a_folder_that_was_there_keeps_what_is_in_it_and_a_root_its_mode(
    box: Store, source: Path
) -> None:
    ok(box, "cp", f"{source}/.", "box:/tmp")

    assert members(ok(box, "cp", "box:/tmp", "-"))["tmp"].mode == 0o1777


# What is kept


def test_archive_mode_keeps_owners_and_attributes(box: Store, source: Path, tmp_path: Path) -> None:
    file = source / "file"
    os.chown(file, 12, 34)
    os.setxattr(file, "user.note", b"kept")
    file.chmod(0o4755)

    ok(box, "cp", "-a", str(source), "box:/with")
    ok(box, "cp", str(source), "box:/without")
    ok(box, "cp", "-a", "box:/with", f"{tmp_path}/with")
    ok(box, "cp", "box:/with", f"{tmp_path}/without")

    assert members(ok(box, "cp", "box:/with", "-"))["with/file"].uid == 12
    assert members(ok(box, "cp", "box:/without", "-"))["without/file"].uid == 0
    kept, plain = tmp_path / "with" / "file", tmp_path / "without" / "file"
    assert (kept.stat().st_uid, kept.stat().st_gid, kept.stat().st_mode & 0o7777) == (
        12,
        34,
        0o4755,
    )
    assert os.getxattr(kept, "user.note") == b"kept"
    assert (plain.stat().st_uid, plain.stat().st_mode & 0o7777) == (0, 0o755)
    assert os.listxattr(plain) == []


def test_devices_stay_in_the_container_unless_they_are_asked_for(
    running: Store, tmp_path: Path
) -> None:
    assert running.program("exec", "box", "mknod", "/tmp/null", "c", "1", "3").returncode == 0

    done = running.program("cp", "box:/tmp/.", f"{tmp_path}/plain")
    ok(running, "cp", "-a", "box:/tmp/.", f"{tmp_path}/all")

    assert done.returncode == 0
    assert done.stderr == b"left out: 1 devices, sockets or attributes; -a copies devices\n"
    assert os.listdir(tmp_path / "plain") == []
    assert os.listdir(tmp_path / "all") == ["null"]


def test_huge_sparse_files_stay_sparse(box: Store, tmp_path: Path) -> None:
    size = 1 << 40
    with open(tmp_path / "sparse", "wb") as file:
        for offset in range(0, 1 << 30, 1 << 20):
            file.seek(offset)
            file.write(b"piece")
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)

    ok(box, "cp", f"{tmp_path}/sparse", "box:/vol/there")
    ok(box, "cp", "box:/vol/there", f"{tmp_path}/back")

    back = os.stat(tmp_path / "back")
    assert back.st_size == size
    assert back.st_blocks < 100_000
    with open(tmp_path / "back", "rb") as file:
        file.seek(size // 2)
        assert file.read(6) == b"middle"


def test_long_and_strange_names_are_kept(box: Store, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    deep = folder / ("d" * 250) / ("e" * 250)
    deep.mkdir(parents=True)
    names = {b"f" * 255, b"\xff\xfe", b"new\nline", b".wh.gone", b" ", b"-"}
    for name in names:
        with open(os.fsencode(deep) + b"/" + name, "wb"):
            continue

    ok(box, "cp", str(folder), "box:/names")
    ok(box, "cp", "box:/names", f"{tmp_path}/back")

    back = tmp_path / "back" / ("d" * 250) / ("e" * 250)
    assert set(os.listdir(os.fsencode(back))) == names


def test_tmpfs_of_a_running_container_is_what_it_sees(
    running: Store, source: Path, tmp_path: Path
) -> None:
    ok(running, "cp", f"{source}/file", "box:/scratch/")
    ok(running, "exec", "box", "sh", "-c", "echo made >/scratch/made")
    ok(running, "cp", "box:/scratch/made", f"{tmp_path}/made")

    assert ok(running, "exec", "box", "cat", "/scratch/file") == b"content"
    assert (tmp_path / "made").read_text() == "made\n"


def test_the_root_comes_without_what_the_kernel_makes_up(running: Store) -> None:
    names = inside(running, "/")

    assert {"bin/busybox", "etc/hostname", "proc"} <= names
    assert not [name for name in names if name.startswith(("proc/", "sys/"))]


def test_a_read_only_root_is_refused(busybox: Store, source: Path) -> None:
    busybox.program("create", "--name", "box", "--read-only", "busybox", "true")

    words = refused(busybox, "cp", f"{source}/file", "box:/x")
    busybox.program("rm", "box")

    assert words == "container rootfs is marked read-only"


def test_it_says_what_was_copied_only_on_a_terminal(running: Store, tmp_path: Path) -> None:
    command = [program_path(), "cp", "box:/etc/passwd", f"{tmp_path}/x"]
    leader, follower = os.openpty()
    try:
        for more, expected in (([], f"to {tmp_path}/x\n"), (["-q"], "")):
            done = subprocess.run(
                [*command[:2], *more, *command[2:]],
                stdout=follower,
                stderr=subprocess.PIPE,
                env=running.environ,
                check=True,
            )
            said = done.stderr.decode()
            assert said.endswith(expected)
            assert bool(expected) == said.startswith("Successfully copied ")
    finally:
        os.close(leader)
        os.close(follower)


# User namespaces


def test_ids_are_those_inside_a_user_namespace(
    busybox: Store, source: Path, tmp_path: Path
) -> None:
    os.chown(source / "file", 12, 34)
    for state in ("running", "stopped"):
        command = ("-d", "--name", "box", "--userns", "auto", "busybox", "sleep", "1000")
        if state == "running":
            assert busybox.program("run", *command).returncode == 0
            before = busybox.program("exec", "box", "stat", "-c", "%u:%g", "/etc/passwd").stdout
            assert before == b"0:0\n"
        ok(busybox, "cp", str(source), f"box:/{state}")
        ok(busybox, "cp", "-a", str(source), f"box:/{state}-a")
        plain = members(ok(busybox, "cp", f"box:/{state}", "-"))
        kept = members(ok(busybox, "cp", f"box:/{state}-a", "-"))
        assert {(each.uid, each.gid) for each in plain.values()} == {(0, 0)}
        assert (kept[f"{state}-a/file"].uid, kept[f"{state}-a/file"].gid) == (12, 34)
        if state == "running":
            seen = ok(
                busybox, "exec", "box", "stat", "-c", "%u:%g", "/running/file", "/running-a/file"
            )
            assert seen == b"0:0\n12:34\n"
            assert busybox.program("stop", "-t", "0", "box").returncode == 0
    busybox.program("rm", "-f", "box")


# Attacks


def links(wanted: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        for name, target in wanted.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            made.addfile(member)
    return data.getvalue()


def archive(*entries: tuple[str, bytes, int, int, int]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        for name, kind, mode, uid, gid in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid = kind, mode, uid, gid
            made.addfile(member)
    return data.getvalue()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of the host that no container may see or change."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


def is_untouched(canary: Path) -> bool:
    return os.listdir(canary) == ["secret"] and (canary / "secret").read_text() == "secret"


def test_links_out_of_the_root_lead_nowhere(
    box: Store, source: Path, canary: Path, tmp_path: Path
) -> None:
    up = "../" * 20
    ok(box, "cp", "-", "box:/", stdin=links({"abs": str(canary), "up": f"{up}{canary}"}))

    for link in ("abs", "up"):
        for done in (
            box.program("cp", f"{source}/file", f"box:/{link}/secret"),
            box.program("cp", f"box:/{link}/secret", f"{tmp_path}/stolen"),
            box.program("cp", "-L", f"box:/{link}", f"{tmp_path}/stolen"),
            box.program("cp", f"box:/{link}/", f"{tmp_path}/stolen"),
        ):
            assert done.returncode == 1
            assert b"Could not find the file" in done.stderr

    assert is_untouched(canary)
    assert not (tmp_path / "stolen").exists()


def test_a_hostile_archive_stays_in_the_folder_it_is_unpacked_into(
    box: Store, canary: Path
) -> None:
    outside = archive((f"{'../' * 20}{canary}/secret", tarfile.REGTYPE, 0o644, 0, 0))
    through = io.BytesIO()
    with tarfile.open(fileobj=through, mode="w") as made:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary)
        made.addfile(link)
        made.addfile(tarfile.TarInfo("way/secret"))

    assert refused(box, "cp", "-", "box:/tmp", stdin=outside)
    box.program("cp", "-", "box:/tmp", stdin=through.getvalue())

    assert is_untouched(canary)


def test_a_link_in_the_destination_is_not_followed_on_the_way_out(
    running: Store, canary: Path, tmp_path: Path
) -> None:
    ok(running, "exec", "box", "sh", "-c", "mkdir -p /t/way; echo bad >/t/way/secret")
    out = tmp_path / "out"
    out.mkdir()
    (out / "way").symlink_to(canary)

    assert refused(running, "cp", "box:/t/.", str(out)) == (
        f'cannot overwrite non-directory "{out}/way" with directory "{out}"'
    )

    assert is_untouched(canary)


def test_a_container_that_swaps_links_meanwhile_gets_nothing(
    running: Store, source: Path, canary: Path, tmp_path: Path
) -> None:
    swap = (
        f"mkdir -p /a/real; echo mine >/a/real/secret; ln -s {canary} /a/link;"
        " ln -s /a/real /a/now; cp -r /a/real /a/dir; while :; do"
        f" ln -sfn {canary} /a/now; ln -sfn /a/real /a/now;"
        " mv /a/dir /a/gone; mv /a/link /a/dir; mv /a/dir /a/link; mv /a/gone /a/dir; done"
    )
    swapper = subprocess.Popen(
        [program_path(), "exec", "box", "sh", "-c", swap], env=running.environ
    )
    out = tmp_path / "out"
    out.mkdir()
    (source / "secret").write_text("mine\n")
    environ = os.environ | running.environ
    driver = Path(__file__).with_name("cp_rounds.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(source), str(out), "200"],
        env=environ,
        capture_output=True,
        timeout=300,
        check=False,
    )
    swapper.kill()
    swapper.wait()

    assert done.returncode == 0, done.stderr
    assert is_untouched(canary)
    for folder, _, names in os.walk(out):
        for name in names:
            path = Path(folder, name)
            assert path.is_symlink() or "secret" not in path.read_text()


# Ends


def test_a_killed_copy_leaves_nothing_and_the_container_starts(
    busybox: Store, tmp_path: Path
) -> None:
    busybox.program("create", "--name", "box", "busybox", "true")
    with open(tmp_path / "big", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    for delay_s in (0.05, 0.1, 0.2):
        for arguments in (
            ["cp", f"{tmp_path}/big", "box:/big"],
            ["export", "-o", f"{tmp_path}/out.tar", "box"],
        ):
            process = subprocess.Popen([program_path(), *arguments], env=busybox.environ)
            time.sleep(delay_s)
            process.kill()
            process.wait()

    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]
    assert str(busybox.root) not in Path("/proc/self/mounts").read_text()
    assert busybox.program("start", "-a", "box").returncode == 0
    assert busybox.program("rm", "box").returncode == 0


def test_an_interrupt_ends_a_copy_that_waits_for_its_archive(running: Store) -> None:
    process = subprocess.Popen(
        [program_path(), "cp", "-", "box:/tmp"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=running.environ,
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)

    assert process.returncode != 0
    assert b"Traceback" not in said


def test_a_copy_in_waits_for_nobody_but_a_start_waits_for_it(
    busybox: Store, tmp_path: Path
) -> None:
    busybox.program("create", "--name", "box", "busybox", "cat", "/tmp/file")
    copy = subprocess.Popen(
        [program_path(), "cp", "-", "box:/tmp"], stdin=subprocess.PIPE, env=busybox.environ
    )
    assert copy.stdin is not None
    time.sleep(0.5)
    start = subprocess.Popen(
        [program_path(), "start", "-a", "box"], stdout=subprocess.PIPE, env=busybox.environ
    )
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        member = tarfile.TarInfo("file")
        member.size = 5
        made.addfile(member, io.BytesIO(b"there"))
    copy.stdin.write(data.getvalue())
    copy.stdin.close()
    copy.wait()
    out, _ = start.communicate(timeout=60)

    assert (copy.returncode, start.returncode, out) == (0, 0, b"there")
    busybox.program("rm", "box")


# export


def test_an_export_is_the_root_without_what_is_mounted(box: Store, tmp_path: Path) -> None:
    (tmp_path / "vol" / "volume-file").write_text("x")
    ok(box, "cp", "-", "box:/", stdin=archive(("mine", tarfile.REGTYPE, 0o600, 5, 6)))

    ok(box, "export", "-o", f"{tmp_path}/root.tar", "box")
    piped = ok(box, "export", "box")

    assert (tmp_path / "root.tar").stat().st_mode & 0o777 == 0o600
    names = members(piped)
    assert set(names) == set(members((tmp_path / "root.tar").read_bytes()))
    assert {"bin/busybox", "mine", "etc/passwd", "proc"} <= set(names)
    assert (names["mine"].mode, names["mine"].uid, names["mine"].gid) == (0o600, 5, 6)
    assert "vol/volume-file" not in names
    assert not [name for name in names if name.startswith(("proc/", "sys/", "dev/"))]


def test_what_is_exported_and_imported_is_the_same_tree(box: Store) -> None:
    ok(box, "cp", "-", "box:/", stdin=archive(("mine", tarfile.REGTYPE, 0o4711, 5, 6)))
    exported = ok(box, "export", "box")

    ok(box, "import", "-c", 'CMD ["sh"]', "-", "copy:1", stdin=exported)
    ok(box, "create", "--name", "second", "copy:1")
    again = ok(box, "export", "second")
    box.program("rm", "second")
    box.program("rmi", "copy:1")

    def facts(data: bytes) -> dict[str, tuple[object, ...]]:
        return {
            name: (each.type, each.mode, each.uid, each.gid, each.size, each.linkname, each.mtime)
            for name, each in members(data).items()
        }

    assert facts(again) == facts(exported)


def test_an_export_refuses_a_terminal_and_a_folder_that_is_not_there(
    running: Store, tmp_path: Path
) -> None:
    leader, follower = os.openpty()
    done = subprocess.run(
        [program_path(), "export", "box"],
        stdout=follower,
        stderr=subprocess.PIPE,
        env=running.environ,
        check=False,
    )
    os.close(leader)
    os.close(follower)

    assert (done.returncode, done.stderr) == (
        1,
        b"cowardly refusing to save to a terminal. Use the -o flag or redirect\n",
    )
    assert refused(running, "export", "-o", f"{tmp_path}/no/x", "box").startswith(
        "failed to export container: "
    )
    assert refused(running, "export", "nosuch") == "No such container: nosuch"
