"""What a layer says is gone, in overlay's form and applied."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import requires
from kit import tarbytes as tar
from kit.unpacker import Unpacker

pytestmark = [requires.root, requires.device_nodes, requires.xattrs]
OPAQUE = "trusted.overlay.opaque"


def is_whiteout(path: Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_whiteout_becomes_a_device(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"a/b/.wh.gone")))

    assert is_whiteout(unpack.root / "a/b/gone")
    assert unpack.names() == {"a", "a/b", "a/b/gone"}


def test_opaque_folder_gets_overlays_mark(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.directory(b"d/"), tar.file(b"d/.wh..wh..opq"), tar.file(b"d/new")))

    assert os.getxattr(unpack.root / "d", OPAQUE) == b"y"
    assert unpack.names() == {"d", "d/new"}


def test_opaque_mark_has_the_name_that_was_asked_for(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"d/.wh..wh..opq")), opaque_xattr="user.overlay.opaque")

    assert os.listxattr(unpack.root / "d") == ["user.overlay.opaque"]


def test_opaque_root_gets_the_mark(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b".wh..wh..opq"), tar.file(b"new")))

    assert os.getxattr(unpack.root, OPAQUE) == b"y"


def test_aufs_notes_are_passed_over(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.directory(b".wh..wh.plnk/"),
            tar.file(b".wh..wh.plnk/12.34", b"x"),
            tar.directory(b".wh..wh.orph/"),
            tar.file(b".wh..wh.aufs"),
            tar.file(b"f"),
        )
    )

    assert unpack.names() == {"f"}


@pytest.mark.parametrize("order", [1, -1])
def test_file_of_the_same_layer_wins_over_a_whiteout(unpack: Unpacker, order: int) -> None:
    unpack(tar.archive(*[tar.file(b"f", b"new"), tar.file(b".wh.f")][::order]))

    assert (unpack.root / "f").read_bytes() == b"new"


@pytest.mark.parametrize("order", [1, -1])
def test_folder_of_the_same_layer_becomes_opaque_by_a_whiteout(
    unpack: Unpacker, order: int
) -> None:
    folder = tar.directory(b"d/") + tar.file(b"d/new")

    unpack(tar.archive(*[folder, tar.file(b".wh.d")][::order]))

    assert unpack.names() == {"d", "d/new"}
    assert os.getxattr(unpack.root / "d", OPAQUE) == b"y"


def test_folder_that_is_not_listed_becomes_opaque_by_a_whiteout_before_it(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b".wh.d"), tar.file(b"d/e/new")))

    assert os.getxattr(unpack.root / "d", OPAQUE) == b"y"
    assert OPAQUE not in os.listxattr(unpack.root / "d/e")


def test_whiteout_twice_is_one(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b".wh.f"), tar.file(b".wh.f")))

    assert is_whiteout(unpack.root / "f")


@pytest.fixture
def lower(unpack: Unpacker) -> Unpacker:
    """What lower layers left."""
    for name in ("keep", "gone", "d/old", "d/sub/old", "d/other/old", "tree/a/b/c"):
        path = unpack.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("lower")
    return unpack


def applied(unpack: Unpacker, *entries: bytes) -> set[str]:
    unpack(tar.archive(*entries), whiteouts="apply")
    return {name for name in unpack.names() if not (unpack.root / name).is_dir()}


def test_applied_whiteout_deletes_a_file_and_a_tree(lower: Unpacker) -> None:
    names = applied(lower, tar.file(b".wh.gone"), tar.file(b"tree/.wh.a"))

    assert names == {"keep", "d/old", "d/sub/old", "d/other/old"}
    assert (lower.root / "tree").is_dir()


def test_applied_whiteout_of_what_is_not_there_does_nothing(lower: Unpacker) -> None:
    assert "keep" in applied(lower, tar.file(b".wh.never"), tar.file(b"x/.wh.never"))


@pytest.mark.parametrize("order", [1, -1])
def test_applied_opaque_leaves_what_this_layer_made(lower: Unpacker, order: int) -> None:
    entries = [
        tar.directory(b"d/") + tar.file(b"d/new") + tar.file(b"d/sub/new"),
        tar.file(b"d/.wh..wh..opq"),
    ]

    names = applied(lower, *entries[::order])

    assert {name for name in names if name.startswith("d/")} == {"d/new", "d/sub/new"}


@pytest.mark.parametrize("order", [1, -1])
def test_applied_whiteout_leaves_what_this_layer_made(lower: Unpacker, order: int) -> None:
    entries = [tar.file(b"tree/a/new") + tar.file(b"gone", b"new"), tar.file(b".wh.tree")]

    names = applied(lower, *entries[::order], tar.file(b".wh.gone"))

    assert {name for name in names if name.startswith("tree")} == {"tree/a/new"}
    assert (lower.root / "gone").read_bytes() == b"new"


def test_applied_folder_listed_by_this_layer_keeps_lower_files(lower: Unpacker) -> None:
    names = applied(lower, tar.directory(b"d/", mode=0o700), tar.file(b"d/new"))

    assert {"d/old", "d/new"} <= names
    assert os.lstat(lower.root / "d").st_mode & 0o777 == 0o700


def test_applied_file_replaces_a_lower_folder(lower: Unpacker) -> None:
    names = applied(lower, tar.file(b"tree", b"file"))

    assert "tree" in names
