"""Unpack archives into a folder with a canary around it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from sandbox.layer.unpack import UnpackResult, unpack_layer

from . import trees


class Unpacker:
    """Unpacks archives into ``root``, and watches what is around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "staging" / "root"
        self.root.mkdir(parents=True)
        self.outside = folder / "outside"
        (self.outside / "etc").mkdir(parents=True)
        (self.outside / "etc" / "passwd").write_text("root\n")
        (folder / "staging" / "neighbour").write_text("neighbour\n")
        self.before = self._around()

    def __call__(self, archive: bytes, **options: Any) -> UnpackResult:
        with tempfile.TemporaryFile() as file:
            file.write(archive)
            file.seek(0)
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return unpack_layer(file.fileno(), root, **options)
            finally:
                os.close(root)

    def picture(self) -> dict[str, trees.Entry]:
        return trees.picture(self.root)

    def names(self) -> set[str]:
        return set(self.picture()) - {"."}

    def _around(self) -> dict[str, trees.Entry]:
        return trees.picture(self.folder, without="staging/root")

    def assert_nothing_outside_changed(self) -> None:
        assert trees.differences(self.before, self._around()) == []
