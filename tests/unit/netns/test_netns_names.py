"""The folder that says who has which name."""

from __future__ import annotations

import os
from pathlib import Path

from netns import names
from netns.names import Folder, Named

WEB = Named(owner="c1", addresses=("10.9.1.2", "fd00::2"), names=("Web", "shop"), link="ve1")


def test_what_is_written_is_read_the_same(tmp_path: Path) -> None:
    names.write(str(tmp_path / "endpoints"), WEB)

    assert names.read(str(tmp_path / "endpoints"), "c1") == WEB
    assert names.owners(str(tmp_path / "endpoints")) == ("c1",)
    assert list(names.entries(str(tmp_path / "endpoints"))) == [WEB]


def test_nothing_there_is_nobody(tmp_path: Path) -> None:
    folder = str(tmp_path / "none")

    names.remove(folder, "c1")

    assert names.read(folder, "c1") is None
    assert names.owners(folder) == ()
    assert Folder(folder).is_empty()


def test_what_is_no_such_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("version 2\nname x\n")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    names.write(str(tmp_path), WEB)

    assert list(names.entries(str(tmp_path))) == [WEB]
    assert set(Folder(str(tmp_path)).names()) == {"web", "shop"}


def test_lines_of_later_versions_of_the_writer_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "c1").write_text("version 1\nname a\nmac 02:42:0a:09:01:02\naddress 10.9.1.2\n")

    assert names.read(str(tmp_path), "c1") == Named(
        owner="c1", addresses=("10.9.1.2",), names=("a",)
    )


def test_a_folder_in_memory_follows_every_change(tmp_path: Path) -> None:
    path = str(tmp_path / "endpoints")
    folder = Folder(path)

    # Faster than the folder's own time goes.
    for number in range(200):
        name = f"n{number}"
        names.write(path, Named(owner="c", addresses=("10.9.1.2",), names=(name,)))
        assert [each.owner for each in folder.named(name)] == ["c"]
        assert not folder.named(f"n{number - 1}")
        named = folder.at("10.9.1.2")
        assert named is not None
        assert named.names == (name,)
        names.remove(path, "c")
        assert folder.is_empty()


def test_a_folder_that_is_made_anew_is_read_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "endpoints")
    names.write(path, WEB)
    folder = Folder(path)
    assert not folder.is_empty()

    names.remove(path, "c1")
    os.rmdir(path)

    assert folder.is_empty()
    names.write(path, WEB)
    assert folder.named("web") == [WEB]
