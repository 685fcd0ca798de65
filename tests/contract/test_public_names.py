"""What the packages promise: names that exist, have a docstring, and cost nothing until used."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cgroups", "netns", "sandbox")


def public_names() -> list[tuple[str, str]]:
    return [
        (package, name) for package in PACKAGES for name in importlib.import_module(package).__all__
    ]


@pytest.mark.parametrize(("package", "name"), public_names())
def test_a_public_name_exists_and_is_explained(package: str, name: str) -> None:
    value = getattr(importlib.import_module(package), name)

    if isinstance(value, type) or callable(value):
        assert (value.__doc__ or "").strip(), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_listed_once(package: str) -> None:
    names = importlib.import_module(package).__all__

    assert len(set(names)) == len(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    sandbox = importlib.import_module("sandbox")

    with pytest.raises(AttributeError, match="nonesuch"):
        _ = sandbox.nonesuch


def test_importing_sandbox_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import sandbox; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {program}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    loaded = set(done.stdout.split()) - {"__future__"}

    assert loaded == {"sandbox"}
