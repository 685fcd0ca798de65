"""What the quick commands load, name by name.

A module is worth its price on the hot path, or it is not on it: ``json`` or ``re`` alone
cost as much as the interpreter's start.  One that is added here is added with
its price in the commit.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requires

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

# Compiled into the interpreter, or as cheap: measured by -X importtime, all together under
# a millisecond, most of it `os`.
CHEAP = {
    *("__future__", "_abc", "_codecs", "_collections_abc", "_io", "_json", "_signal", "_socket"),
    *("_stat", "_struct", "_thread", "_weakref", "_warnings", "abc", "array", "errno", "fcntl"),
    *("genericpath", "marshal", "os", "os.path", "posix", "posixpath", "select", "stat", "time"),
}
# The native module needs it; a millisecond and a half.
THIRD_PARTY = {"_cffi_backend"}
OURS = {
    *("sandbox", "sandbox.errors", "sandbox.jsontext", "sandbox.paths", "sandbox.record"),
    *("cgroups", "cgroups.cgroup", "cgroups.detect", "cgroups.errors", "cgroups.files"),
    *("cgroups.limits", "cgroups.record", "cgroups.v1", "cgroups.v1.cpuset", "cgroups.v1.devices"),
    *("cgroups.v1.cpu", "cgroups.v1.manager", "cgroups.v1.memory", "cgroups.v2", "cgroups.v2.cpu"),
    *("cgroups.v2.devices", "cgroups.v2.bpf", "cgroups.v2.manager", "cgroups.v2.memory"),
    *("sandbox.cli", "sandbox.cli.attached", "sandbox.cli.commands", "sandbox.cli.errors"),
    *("sandbox.cli.foreground", "sandbox.cli.main", "sandbox.cli.parser"),
    *("sandbox.cli.runoptions", "sandbox.cli.table", "sandbox.cli.listing", "sandbox.cli.output"),
    *("sandbox.engine", "sandbox.engine.capture", "sandbox.engine.container"),
    *("sandbox.engine.disk", "sandbox.engine.engine", "sandbox.engine.etc"),
    *("sandbox.engine.journal", "sandbox.engine.launching", "sandbox.engine.options"),
    *("sandbox.engine.result", "sandbox.engine.root", "sandbox.engine.signals"),
    *("sandbox.engine.specify", "sandbox.engine.status", "sandbox.engine.sweep"),
    *("sandbox.engine.units", "sandbox.image", "sandbox.image.store"),
    *("sandbox.monitor", "sandbox.monitor.client", "sandbox.monitor.exitrecord"),
    *("sandbox.monitor.protocol", "sandbox.native", "sandbox.native._launch"),
    *("sandbox.native._launch.lib", "sandbox.native.calls", "sandbox.native.plan"),
    *("sandbox.oci", "sandbox.oci.digest", "sandbox.oci.imageconfig", "sandbox.oci.reference"),
    *("sandbox.oci.spec", "sandbox.runtime", "sandbox.runtime.capabilities"),
    *("sandbox.runtime.defaults", "sandbox.runtime.devices", "sandbox.runtime.launch"),
    *("sandbox.runtime.mounts", "sandbox.runtime.namespaces", "sandbox.runtime.plan"),
    *("sandbox.runtime.resources", "sandbox.runtime.rlimits", "sandbox.runtime.seccomp"),
    *("sandbox.runtime.sysctl", "sandbox.runtime.users"),
    *("sandbox.state", "sandbox.state.containers", "sandbox.state.document"),
    *("sandbox.state.lock", "sandbox.state.names", "sandbox.state.tree"),
}


def at_start() -> set[str]:
    """What the interpreter loads for itself."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", "import sys; print(*sys.modules)"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def loaded_by(store: Store, folder: Path, *arguments: str) -> set[str]:
    listing = folder / "modules"
    done = store.program(*arguments, SANDBOX_DEBUG_MODULES=str(listing))
    assert done.returncode == 0, done.stderr.decode()
    return set(listing.read_text().split())


@requires.root
@requires.overlay
@pytest.mark.parametrize("verb", ["run", "ps", "rm"])
def test_a_quick_command_loads_only_what_it_needs(
    busybox: Store, tmp_path: Path, verb: str
) -> None:
    commands = {
        "run": ("run", "--rm", "-m", "64m", "--cpus", "0.5", "busybox", "true"),
        "ps": ("ps", "-q"),
        "rm": ("rm", "done"),
    }
    if verb == "run":
        busybox.program("run", "--rm", "busybox", "true")  # the filter is compiled once
    if verb == "rm":
        busybox.program("run", "--name", "done", "busybox", "true")

    loaded = loaded_by(busybox, tmp_path, *commands[verb])

    allowed = at_start() | CHEAP | THIRD_PARTY | OURS | {f"sandbox.cli.commands.{verb}"}
    assert sorted(loaded - allowed) == []


def test_the_start_alone_loads_no_engine(store: Store, tmp_path: Path) -> None:
    loaded = loaded_by(store, tmp_path, "--version")

    assert not {name for name in loaded if name.startswith(("sandbox.engine", "cgroups"))}
    assert not loaded & {"re", "json", "argparse", "subprocess", "site", "typing", "enum"}
