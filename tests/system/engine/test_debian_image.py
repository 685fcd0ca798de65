"""An image of real size: it loads, it runs, and its tree is the one GNU tar makes."""

from __future__ import annotations

import faulthandler
import subprocess
from typing import TYPE_CHECKING

import pytest
import requires
from kit import debian, trees

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [
    requires.root,
    requires.overlay,
    requires.xattrs,
    requires.device_nodes,
    requires.program("mmdebstrap"),
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="session")
def debian_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # It takes longer than a test may without a word, and is not stuck.
    faulthandler.cancel_dump_traceback_later()
    return debian.archive(tmp_path_factory.mktemp("debian"))


@pytest.fixture
def loaded(debian_archive: Path, store: Store) -> Store:
    done = store.program("load", "-i", str(debian_archive), timeout_s=300)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"Loaded image: {debian.NAME}\n"
    return store


def test_a_debian_with_python_runs_python(loaded: Store) -> None:
    done = loaded.program(
        *("run", "--rm", debian.NAME, "python3", "-c", "import ssl, sqlite3; print(1)")
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")


def test_a_container_sees_what_upper_layers_add_and_hide(loaded: Store) -> None:
    script = """
import os
for path in ("/etc/issue.net", "/usr/bin/perl5.36.0", "/usr/share/doc/tzdata", "/etc/issue"):
    print(path, os.path.lexists(path))
print(os.listdir("/etc/skel"), os.listdir("/usr/share/python3/debpython"))
print(os.getxattr("/opt/app/main.py", "user.note"))
print(len(os.getxattr("/opt/app/capable", "security.capability")))
print(oct(os.stat("/opt/app/setuid").st_mode), os.stat("/opt/app/again.py").st_nlink)
"""

    result = sandbox.run(debian.NAME, ["python3", "-c", script])

    assert result.stderr == b""
    assert result.text.splitlines() == [
        "/etc/issue.net False",
        "/usr/bin/perl5.36.0 False",
        "/usr/share/doc/tzdata False",
        "/etc/issue True",
        "['new'] ['new']",
        r"b'bytes: \x00\n=\xff'",
        "20",
        "0o104755 3",
    ]


def test_the_tree_is_the_one_tar_unpacks(
    debian_archive: Path, loaded: Store, tmp_path: Path
) -> None:
    layers = debian.layers_of(debian_archive, tmp_path / "archive")
    debian.unpacked(layers, tmp_path / "expected")
    expected = debian.picture(tmp_path / "expected")

    image = sandbox.Engine().store.resolve(debian.NAME)
    found = debian.overlaid(tuple(reversed(image.layers)), tmp_path / "mount")

    assert trees.differences(found, expected) == []
    assert len(image.layers) == 3
    assert len(expected) > 9_000


@requires.program("skopeo")
@requires.program("umoci")
def test_the_tree_is_the_one_umoci_unpacks(
    debian_archive: Path, loaded: Store, tmp_path: Path
) -> None:
    layout = f"{tmp_path}/layout:test"
    copied = ("skopeo", "copy", "-q", f"oci-archive:{debian_archive}", f"oci:{layout}")
    subprocess.run(copied, check=True)
    unpacked = ("umoci", "unpack", "--image", layout, tmp_path / "bundle")
    subprocess.run(unpacked, check=True, capture_output=True)
    expected = debian.picture(tmp_path / "bundle" / "rootfs")

    image = sandbox.Engine().store.resolve(debian.NAME)
    found = debian.overlaid(tuple(reversed(image.layers)), tmp_path / "mount")

    assert trees.differences(found, expected) == []
