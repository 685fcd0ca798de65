"""Evidence, numbers, kills and removal on cgroup version 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from kit.monitored import Monitored

from sandbox.monitor.exitrecord import receipt_of, verdict_of

pytestmark = [requires.root, pytest.mark.cgroup_v2]

CONTROLLERS = "cpu,memory,pids,io"


@pytest.fixture
def group() -> Iterator[Path]:
    made = Path(f"/sys/fs/cgroup/monitor-test-{os.getpid()}")
    made.mkdir()
    yield made
    if made.exists():
        made.rmdir()


def test_oom_on_v2(monitored: Monitored, group: Path) -> None:
    (group / "memory.max").write_text("16777216")
    program = "import os\nx = bytearray(1 << 28)\n"

    monitored.start(["python3", "-c", program], cgroups=((2, CONTROLLERS, str(group)),))
    record = monitored.end()

    assert verdict_of(record)[0] == "oom", record
    assert dict(record.sources)["oom_kills"] == "memory.events"
    assert not group.exists(), "the monitor removes its group"


def test_pids_limit_on_v2(monitored: Monitored, group: Path) -> None:
    (group / "pids.max").write_text("3")

    monitored.shell(
        "for i in 1 2 3 4 5 6; do sleep 0.2 & done; wait", cgroups=((2, CONTROLLERS, str(group)),)
    )
    record = monitored.end()

    assert record.pids_max_hits
    assert verdict_of(record)[0] == "pids_limit"


def test_receipt_on_v2(monitored: Monitored, group: Path) -> None:
    monitored.shell(
        "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done", cgroups=((2, CONTROLLERS, str(group)),)
    )

    receipt = receipt_of(monitored.end())

    sources = dict(receipt.sources)
    assert sources["user_cpu_s"] == "cpu.stat"
    assert (receipt.user_cpu_s or 0) + (receipt.system_cpu_s or 0) > 0
    assert receipt.read_bytes is not None
    assert receipt.psi_cpu_some_s is not None or not Path("/proc/pressure/cpu").exists()


def test_kill_without_pid_namespace_takes_the_whole_group(
    monitored: Monitored, group: Path
) -> None:
    inner = f"mkdir {group}/inner && echo 0 >{group}/inner/cgroup.procs; exec sleep 60"
    launch = monitored.shell(
        f"setsid sleep 60 & ({inner}) & wait",
        namespaces=(0,),
        cgroups=((2, CONTROLLERS, str(group)),),
    )
    launch.wait_started(timeout_s=20)

    launch.kill()
    record = monitored.end()

    assert record.kill_reason == "user"
    assert not group.exists(), "with the groups below it"
