"""A box to launch in, by the driver in each of its builds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import requires
from kit.launch import Box, build_driver

# Kernels without the new mount calls, or without one overlay parameter a layer, as builds.
BUILDS = {
    "": (),
    "old-mount": ("FORCE_OLD_MOUNT",),
    "one-lowerdir": ("FORCE_ONE_LOWERDIR",),
    "faults": ("FAULT_INJECTION",),
}

# The same tests with sanitizers: SANDBOX_SANITIZE=address,undefined.
SANITIZE = os.environ.get("SANDBOX_SANITIZE", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(requires.root)
            item.add_marker(requires.overlay)
            item.add_marker(requires.program("busybox"))


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("drivers")

    @functools.cache
    def build(name: str) -> Path:
        return build_driver(folder / f"driver{name}", sanitize=SANITIZE, defines=BUILDS[name])

    return build


@pytest.fixture
def box(drivers: Callable[[str], Path], tmp_path: Path) -> Box:
    return Box(driver=drivers(""), folder=tmp_path / "box").make()


@pytest.fixture
def old_box(drivers: Callable[[str], Path], tmp_path: Path) -> Box:
    """The same with mount(2) only."""
    return Box(driver=drivers("old-mount"), folder=tmp_path / "box").make()


@pytest.fixture(params=["", "old-mount"])
def any_box(request: pytest.FixtureRequest, drivers: Callable[[str], Path], tmp_path: Path) -> Box:
    """One after the other: the new mount calls, and mount(2)."""
    return Box(driver=drivers(request.param), folder=tmp_path / "box").make()
