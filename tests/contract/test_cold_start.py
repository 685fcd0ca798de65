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

from netns import Namespace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

# Compiled into the interpreter, or as cheap: measured by -X importtime, all together under
# a millisecond, most of it `os`.  The native module is not among them: with what it links and
# cffi it costs three.
CHEAP = {
    *("__future__", "_abc", "_codecs", "_collections_abc", "_io", "_json", "_signal", "_socket"),
    *("_stat", "_struct", "_thread", "_weakref", "_warnings", "abc", "array", "errno", "fcntl"),
    *(
        "gc",
        "genericpath",
        "marshal",
        "os",
        "os.path",
        "posix",
        "posixpath",
        "select",
        "stat",
        "time",
    ),
}
# Package -> the modules of it that a quick command may load.
OURS_BY_PACKAGE = {
    "cgroups": "cgroup detect errors files limits record v1 v2",
    "cgroups.v1": "cpu cpuset devices manager memory",
    "cgroups.v2": "bpf cpu devices manager memory",
    "sandbox": (
        "cachefile cli engine errors image jsontext monitor native oci paths record runtime state"
    ),
    "sandbox.cli": "attached commands errors foreground main output parser runoptions table",
    "sandbox.engine": (
        "container disk engine etc execing journal launching options result root signals specify "
        "status summary sweep templates units"
    ),
    "sandbox.image": "store",
    "sandbox.monitor": "children client exitrecord protocol",
    "sandbox.native": "plan",
    "sandbox.oci": "digest imageconfig reference spec",
    "sandbox.runtime": (
        "capabilities defaults devices exec identity launch mounts namespaces plan resources "
        "rlimits seccomp sysctl users"
    ),
    "sandbox.state": "containers document events lock names tree",
}
OURS = {"cgroups", "sandbox"} | {
    f"{package}.{name}" for package, names in OURS_BY_PACKAGE.items() for name in names.split()
}


# What a start on a network loads beside that; the resolver's, where the network is not the default.
ON_NETWORKS = {
    "netns",
    *(f"netns.{name}" for name in "errors ipam model names namespace netlink packed".split()),
    *(f"netns.{name}" for name in "record resolvconf".split()),
    *(f"sandbox.engine.{name}" for name in "hosts joining naming".split()),
    "sandbox.state.networks",
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
@pytest.mark.parametrize("verb", ["run", "exec", "ps", "rm"])
def test_a_quick_command_loads_only_what_it_needs(
    busybox: Store, tmp_path: Path, verb: str
) -> None:
    commands = {
        "run": ("run", "--rm", "-m", "64m", "--cpus", "0.5", "busybox", "true"),
        "exec": ("exec", "--timeout", "9s", "aa", "true"),
        "ps": ("ps", "-q"),
        "rm": ("rm", "done"),
    }
    if verb == "run":
        busybox.program("run", "--rm", "busybox", "true")  # the filter is compiled once
    if verb == "exec":
        busybox.program("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
    if verb == "rm":
        busybox.program("run", "--name", "done", "busybox", "true")

    loaded = loaded_by(busybox, tmp_path, *commands[verb])

    allowed = at_start() | CHEAP | OURS | {f"sandbox.cli.commands.{verb}"}
    assert sorted(loaded - allowed) == []


@requires.root
@requires.overlay
@pytest.mark.parametrize("options", [(), ("--health-cmd", "true")], ids=["plain", "checked"])
def test_a_run_like_an_earlier_one_loads_nothing_that_compiles(
    busybox: Store, tmp_path: Path, options: tuple[str, ...]
) -> None:
    command = ("run", "--rm", "-m", "64m", *options, "busybox", "true")
    assert busybox.program(*command).returncode == 0

    loaded = loaded_by(busybox, tmp_path, *command)

    compiling = {
        "sandbox.engine.health",
        "sandbox.engine.specify",
        "sandbox.native",
        "sandbox.oci.spec",
    }
    compiling |= {f"sandbox.runtime.{name}" for name in ("plan", "mounts", "seccomp", "users")}
    assert sorted(loaded & compiling) == []


@requires.root
@requires.overlay
@requires.program("nft")
def test_a_run_on_the_bridge_loads_no_pyroute2_and_nothing_that_compiles(
    busybox: Store, tmp_path: Path
) -> None:
    command = ("run", "--rm", "--network", "bridge", "busybox", "true")
    with Namespace.create() as host, host.entered():
        assert busybox.program(*command).returncode == 0

        loaded = loaded_by(busybox, tmp_path, *command)

    allowed = at_start() | CHEAP | OURS | ON_NETWORKS | {"sandbox.cli.commands.run"}
    assert sorted(loaded - allowed) == []
    assert not loaded & {"sandbox.runtime.plan", "sandbox.engine.specify", "sandbox.oci.spec"}


def test_the_start_alone_loads_no_engine(store: Store, tmp_path: Path) -> None:
    loaded = loaded_by(store, tmp_path, "--version")

    assert not {name for name in loaded if name.startswith(("sandbox.engine", "cgroups"))}
    assert not loaded & {"re", "json", "argparse", "subprocess", "site", "typing", "enum"}
