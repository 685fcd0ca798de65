"""Containers of the default network in each other's hosts files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from netns import names
from netns.names import Named
from sandbox.engine import hosts
from sandbox.paths import Paths

IDS = [f"{number:064x}" for number in range(1, 9)]
OWN = "127.0.0.1\tlocalhost\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for container_id in IDS:
        (tmp_path / "containers" / container_id).mkdir(parents=True)
    (tmp_path / "net").mkdir()
    return Paths(root=str(tmp_path), run=str(tmp_path))


def join(paths: Paths, number: int, name: str = "", *, is_running: bool = False) -> None:
    container_id = IDS[number]
    found = (name, container_id[:12]) if name else (container_id[:12],)
    named = Named(owner=container_id, addresses=(f"172.17.0.{number + 2}",), names=found)
    names.write(f"{paths.root}/net/endpoints", named)
    hosts.join(paths, f"{paths.root}/net", container_id, OWN, is_running=is_running)


def leave(paths: Paths, number: int) -> None:
    hosts.leave(paths, f"{paths.root}/net", IDS[number])


def file(paths: Paths, number: int) -> Path:
    return Path(paths.container(IDS[number]), "hosts")


def test_those_with_names_are_found_by_all(paths: Paths) -> None:
    join(paths, 0, "web")
    join(paths, 1)
    join(paths, 2, "db")

    assert file(paths, 0).read_text() == f"{OWN}172.17.0.4\tdb\n"
    assert file(paths, 1).read_text() == f"{OWN}172.17.0.2\tweb\n172.17.0.4\tdb\n"
    assert file(paths, 2).read_text() == f"{OWN}172.17.0.2\tweb\n"


def test_who_leaves_is_taken_out_in_place_and_the_rest_stays(paths: Paths) -> None:
    join(paths, 0, "web")
    join(paths, 1)
    inode = file(paths, 1).stat().st_ino
    with file(paths, 1).open("a") as own:
        own.write("192.0.2.1\tmine")

    join(paths, 2, "db")
    leave(paths, 0)
    leave(paths, 0)

    assert file(paths, 1).read_text() == f"{OWN}192.0.2.1\tmine\n172.17.0.4\tdb\n"
    assert file(paths, 1).stat().st_ino == inode
    assert names.owners(f"{paths.root}/net/endpoints") == (IDS[1], IDS[2])


def test_a_container_that_starts_again_has_no_old_lines(paths: Paths) -> None:
    join(paths, 0, "web")
    join(paths, 1, "db")
    leave(paths, 1)
    leave(paths, 0)

    join(paths, 1, "db")

    assert file(paths, 1).read_text() == OWN


def test_a_running_one_has_its_file_written_in_place(paths: Paths) -> None:
    join(paths, 0, "web")
    file(paths, 0).write_text(OWN * 20)
    inode = file(paths, 0).stat().st_ino

    join(paths, 0, "web", is_running=True)

    assert file(paths, 0).read_text() == OWN
    assert file(paths, 0).stat().st_ino == inode


def test_what_a_container_made_of_its_file_harms_nobody(paths: Paths) -> None:
    for number in range(4):
        join(paths, number)
    file(paths, 0).unlink()
    file(paths, 0).symlink_to("/etc/hosts")
    file(paths, 1).unlink()
    file(paths, 2).write_bytes(b"\xff\0" * 100)
    with file(paths, 3).open("wb") as large:
        large.truncate(1 << 32)
    before = Path("/etc/hosts").read_bytes()

    join(paths, 4, "web")
    leave(paths, 4)

    assert Path("/etc/hosts").read_bytes() == before
    assert file(paths, 2).read_bytes() == b"\xff\0" * 100 + b"\n"
    assert file(paths, 3).stat().st_size == 1 << 32
    assert file(paths, 4).read_text() == OWN


def test_a_reader_never_sees_half_a_line(paths: Paths) -> None:
    join(paths, 0)
    over = threading.Event()
    wrong: set[bytes] = set()
    allowed = {b""} | {line.encode() for line in OWN.splitlines()}
    allowed |= {f"172.17.0.{n + 2}\tname-{n}".encode() for n in range(1, 8)}

    def look() -> None:
        fd = os.open(file(paths, 0), os.O_RDONLY)
        while not over.is_set():
            wrong.update(set(os.pread(fd, 65536, 0).split(b"\n")) - allowed)
        os.close(fd)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(40):
        for number in range(1, 8):
            join(paths, number, f"name-{number}")
        for number in range(1, 8):
            leave(paths, number)
    over.set()
    reader.join()

    assert wrong == set()
    assert file(paths, 0).read_text() == OWN


def test_starts_and_ends_at_once_leave_each_file_right(paths: Paths) -> None:
    def come_and_go(number: int) -> None:
        for _ in range(30):
            join(paths, number, f"name-{number}")
            leave(paths, number)
        join(paths, number, f"name-{number}")

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    for number in range(6):
        expected = {f"172.17.0.{n + 2}\tname-{n}" for n in range(6) if n != number}
        lines = file(paths, number).read_text().removeprefix(OWN).splitlines()
        assert sorted(lines) == sorted(expected)
