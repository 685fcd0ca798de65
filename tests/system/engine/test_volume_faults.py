"""Each side effect of making, filling and removing a volume fails once, or its process dies there:
a volume is empty or whole, and the next command finds everything in order."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import Store
from kit import faults

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [requires.root, requires.overlay, requires.program("strace"), pytest.mark.slow]

SIDE_EFFECTS = (
    "mkdir mkdirat rename renameat2 symlink symlinkat unlink unlinkat rmdir linkat flock write "
    "pwrite64 ftruncate fchown fchownat fchmod chmod utimensat fsetxattr fsync syncfs fsopen "
    "fsconfig fsmount unshare open_tree openat2"
).split()
MOST_OF_A_KIND = 4
NAMES = {f"file-{number}" for number in range(5)} | {"link", "again"}


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    made = tmp_path / "rootfs"
    (made / "srv").mkdir(parents=True)
    for number in range(5):
        (made / "srv" / f"file-{number}").write_text("content")
    os.link(made / "srv/file-0", made / "srv/again")
    os.symlink("/etc", made / "srv/link")
    os.setxattr(made / "srv/file-0", "user.note", b"kept")
    return made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
@pytest.mark.parametrize("act", ["fill", "remove"])
def test_a_volume_is_empty_or_whole_whatever_fails(
    store: Store, rootfs: Path, tmp_path: Path, act: str, fault: str
) -> None:
    create = ("create", "-v", "vol:/srv", "-v", "/srv/sub", "--rootfs", str(rootfs), "true")
    command = create if act == "fill" else ("volume", "rm", "vol")
    prepared = store.root.with_name("prepared")
    assert store.program("ps").returncode == 0
    sandbox.Engine().prepare()
    if act == "remove":
        ids = store.program(*create).stdout.decode().split()
        assert store.program("rm", "-v", *ids).returncode == 0
    copy(store.root, prepared)

    for call, number in faults.points(store, tmp_path, command, SIDE_EFFECTS, most=MOST_OF_A_KIND):
        shutil.rmtree(store.root)
        copy(prepared, store.root)
        done = faults.broken(store, tmp_path, command, call, f"{fault}:when={number}")

        said = done.stderr.decode(errors="replace")
        assert "Traceback" not in said, (call, number, said)
        assert "internal error" not in said, (call, number, said)
        assert len(said.splitlines()) <= 4, (call, number, said)
        is_in_order(store, create, (call, number, said))


def copy(source: Path, target: Path) -> None:
    # With hard links, which shutil does not keep.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def is_in_order(store: Store, create: tuple[str, ...], about: tuple[object, ...]) -> None:
    """The same command works, the volume is whole, and all can be removed."""
    made = store.program(*create)
    assert made.returncode == 0, (about, made.stderr)
    folder = store.root / "volumes/vol/_data"
    assert set(os.listdir(folder)) == NAMES, about
    assert os.getxattr(folder / "file-0", "user.note") == b"kept", about
    assert (folder / "again").stat().st_nlink == 2, about
    sandbox.Engine().sweep()
    for container in sandbox.Engine().containers(all=True):
        container.remove(volumes=True)
    pruned = store.program("volume", "prune", "-af")
    assert pruned.returncode == 0, (about, pruned.stderr)
    left = [
        f"{folder.name}/{name}"
        for folder in (store.root / part for part in ("containers", "names", "staging", "volumes"))
        for name in os.listdir(folder)
    ]
    assert left == [], about
