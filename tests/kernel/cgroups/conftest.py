"""Groups of the test's own on this host, and processes that wait to be put in them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import requires

import cgroups

UNIFIED = pytest.param("unified", marks=pytest.mark.cgroup_v2)
HOSTS = [UNIFIED] if requires.layout() == "unified" else ["here", UNIFIED]
# A hybrid host can play either version alone; 0 is the host as it is.
VERSIONS = [0, 1, 2] if requires.layout() == "hybrid" else [0]
NAME = f"cgroups-test-{os.getpid()}"
COUNTER = itertools.count()
NO_LIMITS = cgroups.Limits()


def only(layout: cgroups.Layout, version: int) -> cgroups.Layout:
    """The host as if it had one version of cgroups alone; 0 is as it is."""
    if not version:
        return layout
    kept = tuple(h for h in layout.hierarchies if h.version == version)
    return cgroups.Layout(kind="unified" if version == 2 else "legacy", hierarchies=kept)


@pytest.fixture(params=HOSTS)
def layout(request: pytest.FixtureRequest) -> cgroups.Layout:
    """Every test on this host as it is; on a pure v2 host under the mark cgroup_v2."""
    assert (request.param == "unified") == (requires.layout() == "unified")
    return cgroups.detect()


@pytest.fixture
def name() -> str:
    return f"{NAME}-{next(COUNTER)}"


@pytest.fixture
def create(layout: cgroups.Layout, name: str) -> Iterator[Callable[..., cgroups.Cgroup]]:
    """Make groups that are gone after the test."""
    made: list[cgroups.Cgroup] = []

    def make(limits: cgroups.Limits = NO_LIMITS, **options: object) -> cgroups.Cgroup:
        chosen = options.pop("layout", layout)
        cgroup = cgroups.create(chosen, f"{name}-{len(made)}", limits, **options)
        made.append(cgroup)
        return cgroup

    yield make
    for cgroup in made:
        cgroup.thaw()
        cgroup.kill()
        cgroup.remove()


class Child:
    """A process that waits, is put into a group, and then does what it is told."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r go; exec "$@"', "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.pid = self.process.pid

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def finish(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output.decode().strip()


@pytest.fixture
def child(create: Callable[..., cgroups.Cgroup]) -> Iterator[Callable[..., Child]]:
    """Start a program in a group, or let it wait outside for ``go``; gone after the test."""
    started: list[Child] = []

    def start(cgroup: cgroups.Cgroup | None, *argv: str) -> Child:
        made = Child(list(argv))
        started.append(made)
        if cgroup is not None:
            cgroup.add(made.pid)
            made.go()
        return made

    yield start
    for made in started:
        made.process.kill()
        made.process.communicate()


def python(code: str) -> list[str]:
    return [sys.executable, "-IS", "-c", code]


def eventually(claim: Callable[[], object], *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)
