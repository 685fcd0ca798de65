"""A root to unpack into, with a canary beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.unpacker import Unpacker

from sandbox.native import remove_tree


@pytest.fixture
def unpack(tmp_path: Path) -> Iterator[Unpacker]:
    folder = tmp_path / "jail"
    folder.mkdir()
    unpacker = Unpacker(folder)
    yield unpacker
    unpacker.assert_nothing_outside_changed()
    # Some are deeper than pytest can delete.
    staging = os.open(unpacker.root.parent, os.O_RDONLY | os.O_DIRECTORY)
    remove_tree(staging, "root")
    os.close(staging)
