"""The peak in the receipt is what the program touched, whichever version of cgroups counts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from conftest import Store

pytestmark = [requires.root, requires.overlay, requires.compiler, requires.cgroup("memory")]

SOURCE = Path(__file__).parents[2] / "kit" / "touch_pages.c"
# Large enough that stacks, page tables and what each processor's counter is ahead are far below
# the tolerance.
PROCESSES, MIB = 4, 48
TOLERANCE = 0.02

UNIFIED = pytest.param("cgroup2", id="unified", marks=pytest.mark.cgroup_v2)
HERE = pytest.param("cgroup1", id="here")
HOSTS = [UNIFIED] if requires.layout() == "unified" else [HERE, UNIFIED]


@pytest.fixture(scope="module")
def touch_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("touch") / "touch_pages"
    subprocess.run(
        ["cc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True
    )
    return program


@pytest.mark.parametrize("memory", [None, "256m"])
@pytest.mark.parametrize("counted_by", HOSTS)
def test_peak_memory_is_what_four_processes_touched(
    touch_pages: Path, busybox: Store, counted_by: str, memory: str | None
) -> None:
    result = sandbox.run(
        "busybox",
        ["/touch/touch_pages", str(PROCESSES), str(MIB)],
        volumes=[f"{touch_pages.parent}:/touch:ro"],
        memory=memory,
        check=True,
    )

    touched = PROCESSES * MIB << 20
    peak = result.receipt.peak_memory_bytes
    assert peak is not None
    print(f"peak memory on {counted_by}: {peak} / {touched} = {peak / touched:.5f}")
    assert int(result.text) == touched
    assert touched <= peak <= touched * (1 + TOLERANCE)
    assert {each.by for each in result.enforcement if each.limit == "memory"} <= {counted_by}
