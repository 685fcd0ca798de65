"""The launcher finds its packages in every kind of installation, without `site`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "scripts" / "launcher"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What it takes for a sign that the dependencies are in the same folder.
DEPENDENCIES = ("psutil", "_cffi_backend.so")
PROGRAM = """\
import sys
def main(arguments):
    print("site" in sys.modules, *arguments, sep="|")
    return 7
"""


def packages(folder: Path) -> None:
    """A package `sandbox` whose program says how it was started."""
    (folder / "sandbox" / "cli").mkdir(parents=True)
    for package in ("sandbox", "sandbox/cli"):
        (folder / package / "__init__.py").touch()
    (folder / "sandbox" / "cli" / "main.py").write_text(PROGRAM)
    for module in ("start.py", "startcache.py"):
        shutil.copy(ROOT / "sandbox" / "cli" / module, folder / "sandbox" / "cli")


def installed(prefix: Path, *, library: str = f"lib/{PYTHON}/site-packages") -> Path:
    """The scripts as an installer leaves them; returns the folder for packages."""
    shutil.copytree(LAUNCHER, prefix / "bin")
    bootstrap = prefix / "bin" / "sandbox-python"
    text = bootstrap.read_text()
    bootstrap.write_text(text.replace("#!python\n", f"#!{sys.executable}\n", 1))
    folder = prefix / library
    folder.mkdir(parents=True)
    return folder


def run(program: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, text=True, check=False, cwd="/"
    )
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    "library", [f"lib/{PYTHON}/site-packages", f"local/lib/{PYTHON}/dist-packages"]
)
def test_packages_beside_the_scripts_are_found_without_site(tmp_path: Path, library: str) -> None:
    folder = installed(tmp_path, library=library)
    packages(folder)
    for name in DEPENDENCIES:
        (folder / name).touch()

    assert run(tmp_path / "bin" / "sandbox", "a b", "-c") == (7, "False|a b|-c")


def test_an_editable_install_is_found_through_its_pth_file(tmp_path: Path) -> None:
    folder = installed(tmp_path / "prefix")
    packages(tmp_path / "check out")
    (folder / "__editable__.sandbox-0.1.0.pth").write_text(f"{tmp_path / 'check out'}\n")
    for name in DEPENDENCIES:
        (folder / name).touch()

    assert run(tmp_path / "prefix" / "bin" / "sandbox") == (7, "False")


def test_a_link_and_a_prefix_with_blanks_lead_to_the_same_program(tmp_path: Path) -> None:
    folder = installed(tmp_path / "pre fix")
    packages(folder)
    for name in DEPENDENCIES:
        (folder / name).touch()
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path / "pre fix" / "bin" / "sandbox")

    assert run(link, "x") == (7, "False|x")


def test_dependencies_elsewhere_are_left_to_site(tmp_path: Path) -> None:
    packages(installed(tmp_path))

    assert run(tmp_path / "bin" / "sandbox") == (7, "True")


def test_the_environment_and_the_working_directory_cannot_plant_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed(tmp_path / "prefix")
    packages(folder)
    for name in DEPENDENCIES:
        (folder / name).touch()
    planted = tmp_path / "planted"
    (planted / "sandbox").mkdir(parents=True)
    (planted / "sandbox" / "__init__.py").write_text("raise SystemExit('planted')\n")
    monkeypatch.setenv("PYTHONPATH", str(planted))
    monkeypatch.setenv("PYTHONSTARTUP", str(planted / "sandbox" / "__init__.py"))

    done = subprocess.run(
        [tmp_path / "prefix" / "bin" / "sandbox"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=planted,
    )

    assert (done.returncode, done.stdout.strip()) == (7, "False")


def test_output_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    folder = installed(tmp_path)
    packages(folder)
    for name in DEPENDENCIES:
        (folder / name).touch()
    read_end, write_end = os.pipe()
    os.close(read_end)

    with os.fdopen(write_end, "wb") as gone:
        done = subprocess.run(
            [tmp_path / "bin" / "sandbox"], stdout=gone, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (141, b"")


CACHED_PROGRAM = """\
def main(arguments):
    print(__spec__.cached.rpartition("/")[2], "TEXT")
    return 0
"""


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """An installation whose program says where it was loaded from; started once."""
    folder = installed(tmp_path / "prefix")
    packages(folder)
    for name in DEPENDENCIES:
        (folder / name).touch()
    (folder / "sandbox" / "cli" / "main.py").write_text(CACHED_PROGRAM)
    assert run(tmp_path / "prefix" / "bin" / "sandbox")[1].endswith(".pyc TEXT")
    return folder / "sandbox"


def start(package: Path) -> str:
    code, text = run(package.parents[3] / "bin" / "sandbox")
    assert code == 0
    return text


def test_the_second_start_finds_its_modules_in_one_file(cached: Path) -> None:
    before = (cached / "start.cache").stat()

    assert start(cached) == "start.cache TEXT"

    after = (cached / "start.cache").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_module_is_loaded_anew_and_then_kept(cached: Path) -> None:
    (cached / "cli" / "main.py").write_text(CACHED_PROGRAM.replace("TEXT", "CHANGED"))

    assert start(cached).endswith(".pyc CHANGED")
    assert start(cached) == "start.cache CHANGED"


def test_an_older_module_of_the_same_size_is_loaded_anew(cached: Path) -> None:
    main = cached / "cli" / "main.py"
    main.write_text(CACHED_PROGRAM.replace("TEXT", "PAST"))
    os.utime(main, ns=(10**18, 10**18))

    assert start(cached).endswith(".pyc PAST")


def test_an_installation_that_was_moved_is_still_itself(cached: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "elsewhere"
    (tmp_path / "prefix").rename(prefix)

    assert run(prefix / "bin" / "sandbox") == (0, "start.cache TEXT")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40, 100, -1])
def test_a_truncated_cache_is_written_anew(cached: Path, length: int) -> None:
    file = cached / "start.cache"
    file.write_bytes(file.read_bytes()[:length])

    assert start(cached).endswith(".pyc TEXT")
    assert start(cached) == "start.cache TEXT"


@pytest.mark.parametrize("length", [0, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_cache_with_another_length_of_its_index_is_written_anew(
    cached: Path, length: int
) -> None:
    file = cached / "start.cache"
    file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])

    assert start(cached).endswith(".pyc TEXT")
    assert start(cached) == "start.cache TEXT"


def test_a_cache_that_others_may_write_to_is_not_believed(cached: Path) -> None:
    (cached / "start.cache").chmod(0o666)

    assert start(cached).endswith(".pyc TEXT")
    assert (cached / "start.cache").stat().st_mode & 0o777 == 0o644


def test_where_no_cache_can_be_written_everything_works_and_nothing_is_left(cached: Path) -> None:
    (cached / "start.cache").unlink()
    (cached / "start.cache").mkdir()

    assert start(cached).endswith(".pyc TEXT")
    assert start(cached).endswith(".pyc TEXT")
    assert [path.name for path in cached.glob("start.cache*")] == ["start.cache"]


def test_a_closed_stdin_stays_closed_to_the_cache(cached: Path) -> None:
    program = cached.parents[3] / "bin" / "sandbox"

    done = subprocess.run(
        ["sh", "-c", 'exec "$0" <&-', program], stdout=subprocess.PIPE, text=True, check=True
    )

    assert done.stdout.endswith(".pyc TEXT\n")
