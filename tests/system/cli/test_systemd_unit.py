"""The unit of scripts/systemd under a real systemd, which is started anew as by a reboot.

It is the first process of a container whose root is this machine, and the containers are its
containers.  A privileged systemd sets the host's sysctls, so this runs only where
SANDBOX_TEST_SYSTEMD=1 says that the host is there to be tested on.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path

if TYPE_CHECKING:
    from conftest import Store

pytestmark = [
    requires.root,
    requires.overlay,
    requires.program("/lib/systemd/systemd"),
    pytest.mark.timeout(300),
]

UNIT = Path(__file__).parents[3] / "scripts" / "systemd" / "sandbox-restart.service"
STORE = "/store"  # not below /tmp, which systemd empties
# A kernel that goes on has the same boot id; so a new one is laid over it.
BOOT = """
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
exec /lib/systemd/systemd --unit=multi-user.target
"""
MADE = (
    ("always", "always"),
    ("unless-stopped", "unless-stopped"),
    ("on-failure", "on-failure"),
    ("no", "no"),
    ("stopped", "unless-stopped"),
    ("stopped-always", "always"),
)


def test_what_is_to_run_is_back_after_a_reboot(busybox: Store, tmp_path: Path) -> None:
    if not os.environ.get("SANDBOX_TEST_SYSTEMD"):
        requires.another_host("SANDBOX_TEST_SYSTEMD=1")
    units, inner = tmp_path / "units", tmp_path / "inner"
    units.mkdir()
    inner.mkdir()
    unit = UNIT.read_text().replace(
        "ExecStart=/usr/local/bin/sandbox",
        f"Environment=SANDBOX_ROOT={STORE} SANDBOX_RUN=/run/sandbox\nExecStart={program_path()}",
    )
    (units / UNIT.name).write_text(unit)
    # Beside the store: a store is not copied while it is in use.
    shutil.copytree(busybox.root, inner, dirs_exist_ok=True, symlinks=True)

    def within(*words: str) -> str:
        places = ("-e", f"SANDBOX_ROOT={STORE}", "-e", "SANDBOX_RUN=/run/sandbox")
        places += ("-e", "SANDBOX_NETWORK=none")
        done = busybox.program("exec", *places, "machine", *words)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def booted() -> bytes:
        done = busybox.program("exec", "machine", "systemctl", "is-system-running")
        return done.stdout.strip() or done.stderr

    def wait_for_boot() -> None:
        deadline = time.monotonic() + 30
        while (said := booted()) not in (b"running", b"degraded"):
            assert time.monotonic() < deadline, said
            time.sleep(0.1)

    busybox.program(
        *("run", "-d", "--name", "machine", "--privileged", "--stop-signal", "RTMIN+3"),
        *(
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/tmp:exec",
            "-e",
            "container=sandbox",
            "-v",
            f"{units}:/etc/systemd/system",
        ),
        *("-v", f"{inner}:{STORE}", "host", "sh", "-c", BOOT),
    )
    wait_for_boot()
    for name, policy in MADE:
        within(
            *(program_path(), "run", "-d", "--name", name, "--restart", policy),
            *("busybox", "sleep", "10000"),
        )
    within(program_path(), "stop", "-t", "0", "stopped", "stopped-always")
    within("systemctl", "enable", UNIT.name)

    assert busybox.program("restart", "-t", "60", "machine").returncode == 0
    wait_for_boot()
    states = within(program_path(), "ps", "-a", "--format", "{{.Names}} {{.State}}").split("\n")
    within("systemctl", "stop", UNIT.name)
    left = within(program_path(), "ps", "--format", "{{.Names}}").split()
    busybox.program("rm", "-f", "machine")

    assert sorted(filter(None, states)) == [
        *("always running", "no exited", "on-failure running", "stopped exited"),
        *("stopped-always running", "unless-stopped running"),
    ]
    assert len(left) == 4  # stopping the unit leaves them alone
