"""Fake hosts: ``kernel`` with nothing mounted, ``legacy``, ``hybrid`` and ``unified``."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.cgroups.cgroupfs import V1_FILES, FakeKernel

from cgroups import files


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel(tmp_path)
    for name in ("make_directory", "remove_directory", "write"):
        monkeypatch.setattr(files, name, getattr(fake, name))
    return fake


@pytest.fixture
def legacy(kernel: FakeKernel) -> FakeKernel:
    for controller in V1_FILES:
        kernel.mount_v1(controller)
    return kernel


@pytest.fixture
def hybrid(legacy: FakeKernel) -> FakeKernel:
    legacy.mount_v2()
    return legacy


@pytest.fixture
def unified(kernel: FakeKernel) -> FakeKernel:
    kernel.mount_v2("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc", name="")
    return kernel
