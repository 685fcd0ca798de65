"""What a hostile caller, image or host does to the engine, and what must hold all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requires

import sandbox

if TYPE_CHECKING:
    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def monitor_of(store: Store, container_id: str) -> int:
    text = (store.run / "containers" / container_id / "started").read_text()
    return int(dict(line.split(" ", 1) for line in text.splitlines())["monitor"])


def with_shell(store: Store, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of the host's shell."""
    return subprocess.run(
        ["sh", "-c", script],
        env=store.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_program_gets_nothing_of_ours_in_the_place_of_closed_descriptors(busybox: Store) -> None:
    script = "sandbox run --rm busybox sh -c 'echo x >&2; exit 3' <&- >&- 2>&-"

    assert with_shell(busybox, script).returncode == 3


def test_a_strict_umask_of_the_caller_is_not_the_containers(busybox: Store) -> None:
    script = (
        "umask 077; sandbox run --rm -u 1000 -v vol:/v busybox "
        "sh -c 'umask; ls /v && cat /etc/hosts /etc/hostname /etc/resolv.conf >/dev/null && id -u'"
    )

    done = with_shell(busybox, script)

    assert (done.stdout, done.stderr) == (b"0022\n1000\n", b"")


def test_a_cache_cut_short_by_a_full_disk_is_made_anew(busybox: Store) -> None:
    sandbox.run("busybox", ["true"])
    cached = [path for path in (busybox.root / "cache").rglob("*") if path.is_file()]
    assert len(cached) >= 2
    for path in cached:
        os.truncate(path, path.stat().st_size // 8 // 2 * 8)

    engine = sandbox.Engine()

    assert engine.run("busybox", ["true"]).ok
    assert engine.run("busybox", ["echo", "another"]).ok


def test_force_removes_a_container_whose_monitor_is_stopped(busybox: Store) -> None:
    container = sandbox.Engine().create("busybox", ["sleep", "300"])
    container.start().close()
    monitor = monitor_of(busybox, container.id)
    os.kill(monitor, signal.SIGSTOP)
    started = time.monotonic()

    container.remove(force=True)

    assert time.monotonic() - started < 30
    assert os.listdir(busybox.root / "containers") == []
    assert os.listdir(busybox.run / "containers") == []


def test_stop_ends_a_container_whose_monitor_is_stopped(
    busybox: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.monitor.client._ANSWER_S", 0.2)
    container = sandbox.Engine().create("busybox", ["sleep", "300"])
    container.start().close()
    os.kill(monitor_of(busybox, container.id), signal.SIGSTOP)

    container.stop(timeout_s=0.1)

    assert container.status().word == "exited"
    assert container.status().exit_code is None
    container.remove()


def test_who_starts_a_container_of_somebody_elses_run_comes_second(busybox: Store) -> None:
    from sandbox.engine.launching import StartAs
    from sandbox.engine.options import parse_options

    engine = sandbox.Engine()
    start = StartAs(is_attached=False, size=(24, 80), with_launcher=False)
    options = parse_options("busybox", ["sleep", "300"], {})
    container, launching, held = engine._create(options, start)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(engine.container(container.id).start)
        with held:
            container.start_made(launching, start, None).close()

        with pytest.raises(sandbox.WrongStatus, match="already running"):
            other.result(timeout=60)

    container.remove(force=True)
    engine.sweep()


@pytest.mark.parametrize(
    ("command", "keywords"),
    [
        (["true", "a\0b"], {}),
        (["true", "\ud800"], {}),
        (["true", *["x" * 100000] * 60], {}),
        (["true"], {"env": {"A": "\ud800"}}),
        (["true"], {"output_limit": 1 << 70}),
        (["true"], {"shm_size": float("inf")}),
        (["true"], {"cgroup_parent": "../../.."}),
        (["true"], {"log_opt": {"max-size": "-1"}}),
        (["true"], {"log_opt": {"max-file": "x"}}),
    ],
)
def test_values_that_cannot_be_meant_are_refused_as_such(
    busybox: Store, command: list[str], keywords: dict[str, Any]
) -> None:
    with pytest.raises(sandbox.UsageError):
        sandbox.run("busybox", command, **keywords)

    assert os.listdir(busybox.root / "containers") == []
