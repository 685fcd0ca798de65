from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kit import archives

from sandbox.image.store import ImageStore
from sandbox.paths import Paths


@pytest.fixture
def image_store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(root=str(tmp_path / "root"), run=str(tmp_path / "run")))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], str]:
    """Write an archive to a file; its path."""
    count = 0

    def write(content: bytes) -> str:
        nonlocal count
        count += 1
        path = tmp_path / f"archive-{count}"
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def parts() -> archives.Parts:
    return archives.small()
