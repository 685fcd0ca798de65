"""A caller who owns a part of the v2 tree alone, as systemd gives to a user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from kernel.cgroups.conftest import Child, python

import cgroups
from cgroups import Layout

pytestmark = requires.root
ROOT = Path(cgroups.__file__).parents[1]
NOBODY = 65534
Start = Callable[..., Child]


@pytest.fixture
def subtree(layout: Layout, name: str) -> Iterator[Path]:
    """A group given to nobody, with a leaf for its processes."""
    hierarchy = next((h for h in layout.hierarchies if h.version == 2), None)
    if hierarchy is None:
        pytest.skip("no v2 tree")
    top = Path(hierarchy.mount, name)
    made = cgroups.create(
        Layout(kind="unified", hierarchies=(hierarchy,)), f"{name}/leaf"
    )  # enables the controllers on the way
    for path in (top, top / "cgroup.procs", top / "cgroup.subtree_control", top / "leaf"):
        os.chown(path, NOBODY, NOBODY)
    os.chown(top / "leaf/cgroup.procs", NOBODY, NOBODY)
    yield top
    for path in (*top.glob("*/*/"), *top.glob("*/"), top):
        again = cgroups.open_existing([cgroups.Group(version=2, controllers=(), path=str(path))])
        again.kill()
        again.remove()
    made.remove()


def as_nobody(code: str) -> list[str]:
    return python(
        f"""
import sys, os
sys.path.insert(0, {str(ROOT)!r})
import cgroups, cgroups.delegation, cgroups.v2.manager
from cgroups import Limits, PidsLimits
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
layout = cgroups.detect()
{code}
"""
    )


def test_group_is_made_at_the_top_of_what_was_delegated(subtree: Path, child: Start) -> None:
    leaf = cgroups.open_existing(
        [cgroups.Group(version=2, controllers=(), path=str(subtree / "leaf"))]
    )
    code = (
        "limits = Limits(pids=PidsLimits(max=9))\n"
        "cgroup = cgroups.create(layout, 'jobs/one', limits, allow_missing=('pids',))\n"
        "cgroup.add(os.getpid())\n"
        "print(*[g.path for g in cgroup.groups], cgroup.pids() == (os.getpid(),),"
        " cgroup.enforcement[0].by)"
    )

    status, output = child(leaf, *as_nobody(code)).finish()

    by = "cgroup2" if "pids" in (subtree / "cgroup.controllers").read_text().split() else "none"
    assert (status, output) == (0, f"{subtree}/jobs/one True {by}")


def test_room_is_made_by_moving_the_processes_into_a_leaf(subtree: Path, child: Start) -> None:
    """Also the controllers come then, where the tree has any."""
    top = cgroups.open_existing([cgroups.Group(version=2, controllers=(), path=str(subtree))])
    if (subtree / "cgroup.subtree_control").read_text().strip():
        (subtree / "leaf").rmdir()
        names = (subtree / "cgroup.subtree_control").read_text().split()
        (subtree / "cgroup.subtree_control").write_text(" ".join("-" + name for name in names))
    code = (
        "from cgroups.delegation import make_room\n"
        "try: cgroups.create(layout, 'before', Limits(pids=PidsLimits(max=9)))\n"
        "except cgroups.LimitUnavailable as error: print(error.limit, end=' ')\n"
        "print(make_room(layout), end=' ')\n"
        "cgroup = cgroups.create(cgroups.detect(), 'after')\n"
        "print(*cgroup.groups[0].controllers)"
    )

    status, output = child(top, *as_nobody(code)).finish()

    limit, path, *controllers = output.split()
    assert status == 0, output
    assert (limit, path) == ("pids", f"{subtree}/init")
    have = (subtree / "cgroup.controllers").read_text().split()
    assert set(controllers) == set(have) & {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}
