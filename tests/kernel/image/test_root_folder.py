"""The root of an image is that of the topmost layer that says anything of it."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import requires

from sandbox.image.archive import load
from sandbox.image.pack import pack_oci_archive
from sandbox.image.store import ImageStore
from sandbox.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = requires.root


def layer(*entries: tuple[str, int, int, int]) -> bytes:
    """(name, mode, owner, time) of folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, mode, owner, mtime in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.mtime = tarfile.DIRTYPE, mode, owner, mtime
            tar.addfile(entry)
    return stream.getvalue()


def test_a_layer_that_does_not_list_its_root_leaves_the_one_below(tmp_path: Path) -> None:
    archive = str(tmp_path / "image.tar")
    base, above = layer((".", 0o711, 5, 1000)), layer(("a", 0o700, 0, 2000))
    pack_oci_archive([base, above], archive, name="rooted")
    store = ImageStore(Paths(root=str(tmp_path / "root"), run=str(tmp_path / "run")))

    load(store, archive)

    top = os.stat(store.resolve("rooted").layers[-1])
    assert (top.st_mode & 0o7777, top.st_uid, top.st_mtime) == (0o711, 5, 1000)
