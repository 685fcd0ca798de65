"""What a test needs of the host, tried once and named.

    import requires

    @requires.root
    @requires.cgroup("memory", "pids")
    def test_...

An ability is found by trying it, never by looking at a version or a user id.
A test whose host lacks one is skipped with the reason; with SANDBOX_MUST_RUN=1
it fails instead, so that a green run means that it ran.  An unknown name is an
error when the test file is read.

A case whose subject is not on such a host at all (the v1 freezer, on v2) calls
`another_host`; the virtual machine or CI's host is where it runs.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ANOTHER_HOST = "a case for another kind of host: "

# name -> a function of the mark's arguments; it returns what is lacking, or "".
PROBES: dict[str, Callable[..., str]] = {}


def probe(function: Callable[..., str]) -> Callable[..., str]:
    cached = functools.cache(function)
    PROBES[function.__name__.removeprefix("lacks_")] = cached
    return cached


def lacking(name: str, *arguments: object) -> str:
    """What the host lacks of this ability; empty if nothing."""
    return PROBES[name](*arguments)


def __getattr__(name: str) -> pytest.MarkDecorator:
    if name not in PROBES:
        raise AttributeError(f"no such ability: {name} (there are {', '.join(sorted(PROBES))})")
    return pytest.mark.requires(name)


def _with_arguments(name: str) -> Callable[..., pytest.MarkDecorator]:
    return lambda *arguments: pytest.mark.requires(name, *arguments)


cgroup = _with_arguments("cgroup")
program = _with_arguments("program")
kernel = _with_arguments("kernel")


def another_host(reason: str) -> NoReturn:
    """Skip, also where everything must run: the subject of this case is not on such a host."""
    pytest.skip(ANOTHER_HOST + reason)


def _tried(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
        )
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip() or f"{argv[0]}: exit status {done.returncode}").splitlines()[-1]


@probe
def lacks_root() -> str:
    """All namespaces, mounts in them, and another user's id."""
    return _tried(
        *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"),
        *("setpriv", "--reuid", "12345", "--clear-groups", "true"),
    )


@probe
def lacks_user_namespaces() -> str:
    return _tried("unshare", "--user", "--map-root-user", "true")


@probe
def lacks_unprivileged_user_namespaces() -> str:
    return _tried(
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
        *("unshare", "--user", "--map-root-user", "true"),
    )


@probe
def lacks_time_namespaces() -> str:
    return _tried("unshare", "--time", "--fork", "true")


@probe
def lacks_overlay() -> str:
    """An overlay whose upper folder is where tests put their files."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("lower", "upper", "work", "all"):
            Path(folder, name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        mount = 'mount -t overlay -o "$1" overlay "$2" && echo >"$2/file"'
        return _tried("unshare", "--mount", "sh", "-c", mount, "sh", options, f"{folder}/all")


@probe
def lacks_device_nodes() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return _tried("sh", "-c", 'mknod "$1/null" c 1 3 && : >"$1/null"', "sh", folder)


@probe
def lacks_xattrs() -> str:
    """Extended attributes of the trusted kind, where tests put their files."""
    with tempfile.NamedTemporaryFile() as file:
        try:
            os.setxattr(file.name, "trusted.probe", b"1")
        except OSError as error:
            return f"trusted xattr: {error.strerror}"
    return ""


@probe
def lacks_cgroup(*controllers: str) -> str:
    """A cgroup of our own under each of these controllers."""
    for controller in controllers:
        parent = controller_mount(controller)
        if parent is None:
            return f"no {controller} controller"
        group = parent / f"probe-{os.getpid()}"
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            return f"{group}: {error.strerror}"
    return ""


@probe
def lacks_program(name: str) -> str:
    return "" if shutil.which(name) else f"no program {name}"


@probe
def lacks_kernel(major: int, minor: int) -> str:
    release = os.uname().release
    have = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    return "" if have >= (major, minor) else f"kernel {release} is older than {major}.{minor}"


@probe
def lacks_compiler() -> str:
    """A C compiler that can link."""
    return _compiled("cc")


@probe
def lacks_sanitizers() -> str:
    return _compiled("cc", "-fsanitize=address,undefined")


def _compiled(*argv: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text("int main(void) { return 0; }\n")
        return _tried(*argv, "-o", str(out), str(source)) or _tried(str(out))


@functools.cache
def layout() -> str:
    """`unified`, `legacy` or `hybrid`: how this host mounts its cgroups."""
    kinds = {kind for kind, _, _ in cgroup_mounts()}
    if kinds == {"cgroup2"}:
        return "unified"
    return "hybrid" if "cgroup2" in kinds else "legacy"


def controller_mount(controller: str) -> Path | None:
    for kind, options, path in cgroup_mounts():
        if kind == "cgroup" and controller in options:
            return path
        if kind == "cgroup2" and controller in (path / "cgroup.controllers").read_text().split():
            return path
    return None


@functools.cache
def cgroup_mounts() -> list[tuple[str, list[str], Path]]:
    """(file system, super options, mount point) of each hierarchy."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            mounts.append((kind, options.split(","), Path(left.split(" ")[4])))
    return mounts
