"""What a writable layer changes, on overlays that the kernel made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires

from sandbox.layer.diff import changes

pytestmark = [requires.root, requires.overlay]


class Overlay:
    """Two layers below, one above, and the whole."""

    def __init__(self, folder: Path) -> None:
        self.upper, self.view = folder / "upper", folder / "view"
        self.lowers = [folder / "middle", folder / "lower"]
        self._work = folder / "work"
        for path in (self.upper, self.view, self._work, *self.lowers):
            path.mkdir()

    def mount(self) -> None:
        below = ":".join(map(str, self.lowers))
        options = f"lowerdir={below},upperdir={self.upper},workdir={self._work}"
        options += ",index=off,xino=off,metacopy=off,redirect_dir=off"
        subprocess.run(["mount", "-t", "overlay", "x", "-o", options, self.view], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.view], check=False, stderr=subprocess.DEVNULL)

    def run(self, script: str) -> list[str]:
        self.mount()
        subprocess.run(["sh", "-ec", script], cwd=self.view, check=True)
        self.unmount()
        return self.changes()

    def changes(self) -> list[str]:
        found = changes(str(self.upper), [str(lower) for lower in self.lowers])
        return [f"{change.kind} {change.path}" for change in found]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    made = Overlay(tmp_path)
    for lower, name in zip(made.lowers, ("middle", "lower"), strict=True):
        for path in ("both/file", f"only-{name}/file", f"both/deep/er/{name}"):
            (lower / path).parent.mkdir(parents=True, exist_ok=True)
            (lower / path).write_text(name)
    yield made
    made.unmount()


CASES = {
    "": [],
    "cat both/file": [],
    "touch new; mkdir -p d/e; echo > d/e/f": ["A /d", "A /d/e", "A /d/e/f", "A /new"],
    "echo x >> both/file": ["C /both", "C /both/file"],
    "chmod 600 both/deep/er/lower": [
        "C /both",
        "C /both/deep",
        "C /both/deep/er",
        "C /both/deep/er/lower",
    ],
    "rm both/file": ["C /both", "D /both/file"],
    "rm -r both": ["D /both"],
    "rm -r both; mkdir both": ["C /both", "D /both/deep", "D /both/file"],
    "rm -r both; mkdir -p both/deep; touch both/deep/x both/new": [
        "C /both",
        "C /both/deep",
        "D /both/deep/er",
        "A /both/deep/x",
        "D /both/file",
        "A /both/new",
    ],
    "rm -r both; touch both": ["C /both"],
    "rm only-lower/file; mkdir only-lower/file; touch only-lower/file/x": [
        "C /only-lower",
        "C /only-lower/file",
        "A /only-lower/file/x",
    ],
    "rm both/file; echo again > both/file": ["C /both", "C /both/file"],
    "touch both/x; rm both/x": ["C /both"],
    "chmod 700 only-lower": ["C /only-lower"],
    "mv only-lower/file only-middle/other": [
        "C /only-lower",
        "D /only-lower/file",
        "C /only-middle",
        "A /only-middle/other",
    ],
    "touch new; rm new": [],
    "ln -s both new; rm both/file; ln -s /etc/passwd both/file": [
        "C /both",
        "C /both/file",
        "A /new",
    ],
}


@pytest.mark.parametrize("script", CASES)
def test_changes_are_told(overlay: Overlay, script: str) -> None:
    assert overlay.run(script) == CASES[script]


def test_what_a_layer_between_hides_was_not_there(overlay: Overlay) -> None:
    middle = overlay.lowers[0]
    os.mknod(middle / "only-lower", 0o20000, 0)
    os.setxattr(middle / "both", "trusted.overlay.opaque", b"y")

    found = overlay.run("mkdir only-lower; touch only-lower/file both/deep/er/lower; rm -r both")

    assert found == ["D /both", "A /only-lower", "A /only-lower/file"]


def test_what_was_hidden_is_not_deleted_again(overlay: Overlay) -> None:
    os.mknod(overlay.lowers[0] / "both" / "deep" / "er" / "lower", 0o20000, 0)

    found = overlay.run("rm -r both/deep/er; mkdir both/deep/er")

    assert found == ["C /both", "C /both/deep", "C /both/deep/er", "D /both/deep/er/middle"]


def test_folders_far_deeper_than_a_path(overlay: Overlay) -> None:
    fd = os.open(overlay.upper, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    assert len(overlay.changes()) == 100


def test_links_are_not_followed(overlay: Overlay) -> None:
    (overlay.lowers[1] / "link").symlink_to("/etc")
    (overlay.upper / "link").mkdir()
    (overlay.upper / "link" / "passwd").touch()
    (overlay.upper / "etc").symlink_to("/etc")

    assert overlay.changes() == ["A /etc", "C /link", "A /link/passwd"]
