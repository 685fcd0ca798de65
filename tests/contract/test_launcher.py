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
