"""Fixtures and marks of every tier; see tests/README.md."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import requires
from kit import leaks

from sandbox.engine import resolving
from sandbox.monitor import children

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
MUST_RUN = os.environ.get("SANDBOX_MUST_RUN") == "1"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
LEAK_CHECKED = (HERE / "kernel", HERE / "system")


def pytest_configure(config: pytest.Config) -> None:
    # The machine's own network stays as it is: what is about networks says so.
    os.environ["SANDBOX_NETWORK"] = "none"
    config.addinivalue_line("markers", "requires(ability, ...): see tests/requires.py")
    # Under nohup(1) or as a shell's background job they are ignored here, and would be by every
    # program that a test starts; what is handled here is back at its default there.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _ignored)


def _ignored(_number: int, _frame: object) -> None:
    """As before."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests for pure cgroup v2 to a host that has it: deselected, not skipped."""
    if requires.layout() == "unified":
        return
    elsewhere = [item for item in items if item.get_closest_marker("cgroup_v2")]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        lacks = requires.lacking(*mark.args)
        if lacks:
            pytest.skip(f"this host lacks {mark.args[0]}: {lacks}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: Report) -> Report:
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if requires.ANOTHER_HOST not in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason} (and SANDBOX_MUST_RUN=1)"
    return report


@pytest.fixture(scope="session")
def session_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where the session's files are; gone at once if nothing failed.

    pytest removes them some sessions later, with Python's recursion, which ends
    at the trees of a thousand folders that the tests of hostile archives make.
    """
    folder = tmp_path_factory.getbasetemp()
    yield folder
    if not request.session.testsfailed:
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, session_folder: Path) -> Iterator[None]:
    """Fail a test of the real kernel that leaves something on the host."""
    if not any(request.path.is_relative_to(tier) for tier in LEAK_CHECKED):
        yield
        return
    # What lasts as long as the session is made before the first picture.
    for name in ("busybox_archive",):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = leaks.picture(session_folder)

    yield

    left = leaks.left_behind(before, session_folder)
    if left:
        _end_processes(left)
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def _end_processes(left: list[str]) -> None:
    # So that one leak does not fail every test after it.
    for line in left:
        if line.startswith("process "):
            try:
                os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
            except ProcessLookupError:
                continue


@dataclass(frozen=True)
class Store:
    """An empty store of a test's own."""

    root: Path
    run: Path
    environ: dict[str, str]

    def program(
        self, *arguments: str, stdin: bytes = b"", timeout_s: float = 60, **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program `sandbox` on this store."""
        return subprocess.run(
            [program_path(), *arguments],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env=self.environ | environ,
            check=False,
        )


def program_path() -> str:
    return str(Path(sys.executable).with_name("sandbox"))


@pytest.fixture
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_left_behind: None
) -> Iterator[Store]:
    """A store below tmp_path, also for the library: the environment points to it."""
    made = Store(
        root=tmp_path / "store",
        run=tmp_path / "run",
        environ=dict(os.environ)
        | {"SANDBOX_ROOT": str(tmp_path / "store"), "SANDBOX_RUN": str(tmp_path / "run")},
    )
    monkeypatch.setenv("SANDBOX_ROOT", str(made.root))
    monkeypatch.setenv("SANDBOX_RUN", str(made.run))
    yield made
    if made.root.exists():
        ids = made.program("ps", "-aq").stdout.decode().split()
        if ids:
            made.program("rm", "-f", *ids)
    for folder in made.run.glob("networks/*"):
        resolving.stop(str(folder))
    children.reap()


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI archive of a two-layer image ``busybox``, made from this host's busybox."""
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "demo-image"), str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


@pytest.fixture
def busybox(store: Store, busybox_archive: Path) -> Store:
    """A store that holds the image ``busybox``."""
    done = store.program("load", "-i", str(busybox_archive))
    assert done.returncode == 0, done.stderr.decode()
    return store
