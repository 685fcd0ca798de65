"""User namespaces, as root with a range and as a user with one id; joining; cgroups."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requires
from kit import launch
from kit.launch import Box

from sandbox.native import plan
from sandbox.native.plan import Op, op

ALL = launch.ALL | launch.NEWUSER
MAP = "0 100000 65536\n"
RANGE = (op("id_map", MAP, MAP),)


def _idmapped(box: Box, flags: int = plan.OVERLAY_IDMAPPED) -> Op:
    return box.root(flags)


@requires.user_namespaces
def test_root_inside_is_an_ordinary_user_outside(box: Box) -> None:
    outcome = box.shell(
        "id -u; cat /proc/self/uid_map; touch /mine; stat -c %u /bin/busybox /mine",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box),
    )

    assert outcome.status == 0, outcome
    assert outcome.out.split() == ["0", "0", "100000", "65536", "0", "0"]
    # Id-mapped layers: what the container's root makes is root's on disk.
    assert (box.upper / "mine").stat().st_uid == 0


@requires.user_namespaces
def test_layers_of_the_mapped_ids_need_no_id_mapped_mounts(box: Box) -> None:
    for path in (box.image, box.upper, box.folder / "work", *box.image.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)

    outcome = box.shell(
        "stat -c %u /bin/busybox; touch /mine",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box, 0),
    )

    assert outcome.out == "0\n", outcome
    assert (box.upper / "mine").stat().st_uid == 100000


@requires.user_namespaces
def test_layers_behind_a_closed_folder_are_reached_by_handle(box: Box) -> None:
    box.folder.chmod(0o700)
    (box.folder / "there").mkdir()
    (box.folder / "there/file").write_text("there\n")
    bind = op("bind", str(box.folder / "there"), "/there", 0, 0, 0)

    outcome = box.shell(
        "cat /there/file", namespaces=ALL, settings=RANGE, root=_idmapped(box), before=(bind,)
    )

    assert outcome.out == "there\n", outcome


@requires.user_namespaces
def test_many_id_mapped_layers(box: Box) -> None:
    lowers = []
    for number in range(60):
        layer = box.folder / f"layer{number}"
        layer.mkdir()
        (layer / f"file{number}").write_text("")
        lowers.append(str(layer))
    root = op(
        "root_overlay",
        (*lowers, str(box.image)),
        str(box.upper),
        str(box.folder / "work"),
        plan.OVERLAY_IDMAPPED,
    )

    outcome = box.shell("ls -d /file* | wc -l", namespaces=ALL, settings=RANGE, root=root)

    assert outcome.out == "60\n", outcome


@requires.user_namespaces
def test_folder_as_an_id_mapped_root(box: Box) -> None:
    root = op("root_bind", str(box.image), plan.OVERLAY_IDMAPPED)

    outcome = box.shell("touch /made; stat -c %u /made", namespaces=ALL, settings=RANGE, root=root)

    assert outcome.out == "0\n", outcome
    assert (box.image / "made").stat().st_uid == 0


@requires.user_namespaces
def test_id_mapped_bind(box: Box) -> None:
    there = box.folder / "there"
    there.mkdir()
    os.chown(there, 5, 6)
    plain = op("bind", str(there), "/plain", 0, 0, 0)
    mapped = op("bind", str(there), "/mapped", 0, 0, plan.MOUNT_IDMAPPED)

    outcome = box.shell(
        "stat -c %u:%g /plain /mapped; touch /mapped/new",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box),
        before=(plain, mapped),
    )

    assert outcome.out == "65534:65534\n5:6\n", outcome
    assert (there / "new").stat().st_uid == 0


@requires.user_namespaces
def test_shared_mounts_of_the_host_are_cut_off_in_a_user_namespace(box: Box) -> None:
    there = box.folder / "there"
    there.mkdir()

    outcome = box.shell(
        "mount -t tmpfs none /a && touch /a/x; ls /a",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box),
        before=(op("bind", str(there), "/a", 0, 0, plan.MOUNT_IDMAPPED | plan.MOUNT_RECURSIVE),),
    )

    assert outcome.out == "x\n", outcome
    assert os.listdir(there) == []


@requires.user_namespaces
def test_device_nodes_are_the_hosts_in_a_user_namespace(box: Box) -> None:
    nodes = (
        op("mknod", "/dev/zero", stat.S_IFCHR | 0o666, 1, 5, 0, 0),
        op("mknod", "/dev/full", stat.S_IFCHR | 0o666, 1, 7, 0, 0),
    )

    outcome = box.shell(
        "echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo y >/dev/full",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box),
        before=nodes,
    )

    assert outcome.out == "3\n", outcome
    assert "No space" in outcome.err


@requires.user_namespaces
def test_node_of_the_host_must_be_the_device_that_was_asked_for(box: Box) -> None:
    outcome = box.run(
        "true",
        namespaces=ALL,
        settings=RANGE,
        root=_idmapped(box),
        before=(op("mknod", "/dev/zero", stat.S_IFCHR | 0o666, 1, 7, 0, 0),),
    )

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENXIO


@requires.user_namespaces
def test_whole_set_up_in_a_user_namespace(box: Box) -> None:
    before = (
        op("cgroup_namespace"),
        op("mount", "sysfs", "sysfs", "/sys", launch.SAFE | 1, (), 0),
        op("mount", "mqueue", "mqueue", "/dev/mqueue", launch.SAFE, (), 0),
        op("mount", "tmpfs", "shm", "/dev/shm", launch.SAFE, ("mode=1777",), 0),
        op("console", 0, -1),
        op("mask", "/proc/kcore"),
        op("mask", "/proc/acpi"),
        op("readonly", "/proc/sys"),
        op("hostname", "inside"),
        op("loopback_up"),
        op("sysctl", "net.ipv4.ip_unprivileged_port_start", "0"),
    )
    after = (
        op("workdir", "/work/here", 1),
        op("keyring", "_ses.box"),
        op("ids", 1000, 1000, (1000,)),
        op("capabilities", launch.DOCKER_CAPABILITIES, 0, 0, 0, 0),
    )

    outcome = box.shell(
        "id -u; id -g; pwd; hostname; tty",
        namespaces=ALL,
        settings=(*RANGE, op("stdio", plan.STDIO_TTY, 24, 80)),
        root=_idmapped(box),
        before=before,
        after=after,
    )

    assert outcome.out.split() == ["1000", "1000", "/work/here", "inside", "/dev/pts/0"], outcome


@contextmanager
def _opened(*paths: Path) -> Iterator[None]:
    """The way to these paths is open to every user for a while."""
    changed = []
    for parent in {parent for path in paths for parent in path.parents}:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & 0o001 == 0:
            changed.append((parent, mode))
            parent.chmod(mode | 0o001)
    try:
        yield
    finally:
        for parent, mode in changed:
            parent.chmod(mode)


@pytest.fixture
def user_box(box: Box) -> Iterator[Box]:
    """A box of an ordinary user's, who launches by ``setpriv``."""
    for path in (box.folder, *box.folder.rglob("*")):
        os.chown(path, 4321, 4321, follow_symlinks=False)
    with _opened(box.folder, box.driver):
        yield box


def _as_user(box: Box, ops: tuple[Op, ...]) -> launch.Outcome:
    done = subprocess.run(
        [*USER, *box.command(ops, "--leaks")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return launch.outcome(done.returncode, done.stdout, done.stderr)


@requires.unprivileged_user_namespaces
def test_ordinary_user_with_one_id(user_box: Box) -> None:
    ids = (op("id_map", "0 4321 1\n", "0 4321 1\n"),)
    ops = user_box.plan(
        "sh",
        "-c",
        "id -u; cat /proc/self/setgroups; touch /mine; hostname",
        namespaces=ALL,
        settings=ids,
        root=user_box.root(0),
        before=(op("hostname", "rootless"), op("loopback_up")),
        after=(op("ids", 0, 0, (0,)), op("capabilities", 0xFF, 0xFF, 0xFF, 0, 0)),
    )

    outcome = _as_user(user_box, ops)

    assert outcome.out.split() == ["0", "deny", "rootless"], outcome
    assert (user_box.upper / "mine").stat().st_uid == 4321


USER = ("setpriv", "--reuid", "4321", "--regid", "4321", "--clear-groups")


@requires.unprivileged_user_namespaces
def test_ordinary_user_joins_a_container_of_its_own(user_box: Box) -> None:
    ids = (op("id_map", "0 4321 1\n", "0 4321 1\n"),)
    ops = user_box.plan(
        *("sh", "-c", "echo ready >/tmp/mark; echo; cat"),
        namespaces=ALL,
        settings=ids,
        root=user_box.root(0),
    )
    with _holder(user_box, ops, *USER) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        joined = (
            op("id", "exec"),
            op("folders", "", "", ""),
            *_joins(children[0], "user", "mnt", "uts", "ipc", "pid", "net", "cgroup"),
            op("workdir", "/tmp", 0),
            op("ids", 0, 0, (0,)),
            op(
                "exec",
                ("sh", "-c", "cat mark; cat /proc/1/comm; echo $$; id -u"),
                ("PATH=/bin",),
                0,
            ),
        )
        outcome = _as_user(user_box, joined)
        holder.stdin.close()
        assert holder.wait(timeout=20) == 0

    assert outcome.status == 0, outcome
    words = outcome.out.split()
    assert words[0] == "ready", outcome
    assert int(words[2]) < 50
    assert words[3] == "0"
    assert outcome.descriptors[0] == outcome.descriptors[1]


@requires.unprivileged_user_namespaces
@requires.program("newuidmap")
def test_ordinary_user_with_a_range_of_ids(box: Box, tmp_path: Path) -> None:
    for path in (box.folder, *box.folder.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    (tmp_path / "sub").write_text("nobody:300000:65536\n")
    maps = "0 65534 1\n1 300000 65536\n"
    ops = box.plan(
        *("sh", "-c", "touch /mine; id -u; cat /proc/self/setgroups"),
        namespaces=ALL,
        settings=(op("id_map", maps, maps),),
        root=box.root(0),
        mounts=(launch.PROC,),
        before=(op("mkdir", "/srv", 0o1777, 0, 0),),
        after=(op("ids", 5, 5, (5, 6)),),
    )
    # In a mount namespace of its own, where this user has a range and the way is open.
    script = (
        'mount --bind "$0/sub" /etc/subuid; mount --bind "$0/sub" /etc/subgid;'
        "d=$1; shift; exec setpriv --reuid 65534 --regid 65534"
        ' --clear-groups "$d" "$@"'
    )
    with _opened(box.folder, box.driver):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, str(tmp_path), *box.command(ops, "--leaks")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    outcome = launch.outcome(done.returncode, done.stdout, done.stderr)

    assert outcome.out.split() == ["5", "allow"], outcome


@requires.user_namespaces
def test_map_is_needed_for_a_user_namespace(box: Box) -> None:
    outcome = box.run("true", namespaces=ALL)

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EINVAL


@requires.user_namespaces
def test_damaged_map_is_an_error_and_leaves_nothing(box: Box) -> None:
    outcome = box.run("true", namespaces=ALL, settings=(op("id_map", "nonsense", "nonsense"),))

    assert outcome.failure is not None
    assert outcome.failure.path == "gid_map"
    assert outcome.descriptors[0] == outcome.descriptors[1]


# --- joining ---


def _holder(box: Box, ops: tuple[Op, ...], *prefix: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*prefix, *box.command(ops)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


KINDS = {
    "mnt": launch.NEWNS,
    "uts": launch.NEWUTS,
    "ipc": launch.NEWIPC,
    "pid": launch.NEWPID,
    "net": launch.NEWNET,
    "user": launch.NEWUSER,
    "cgroup": launch.NEWCGROUP,
}


def _joins(pid: str, *kinds: str) -> tuple[Op, ...]:
    return tuple(op("join", KINDS[kind], f"/proc/{pid}/ns/{kind}") for kind in kinds)


@pytest.mark.parametrize("user", [False, True])
def test_program_joins_a_running_container(box: Box, user: bool) -> None:
    options = (
        {"namespaces": ALL, "settings": RANGE, "root": _idmapped(box)}
        if user
        else {"namespaces": launch.ALL}
    )
    ops = box.plan("sh", "-c", "echo ready >/tmp/mark; echo; cat", **options)  # type: ignore[arg-type]
    other = Box(driver=box.driver, folder=box.folder)
    with _holder(box, ops) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        kinds = (*(("user",) if user else ()), "mnt", "uts", "ipc", "pid", "net", "cgroup")
        joined = (
            op("id", "exec"),
            op("folders", "", "", ""),
            *_joins(children[0], *kinds),
            op("workdir", "/tmp", 0),
            op("ids", 0, 0, (0,)),
            op(
                "exec",
                ("sh", "-c", "cat mark; cat /proc/1/comm; echo $$; id -u"),
                ("PATH=/bin",),
                0,
            ),
        )
        outcome = other.launch(joined)
        holder.stdin.close()
        assert holder.wait(timeout=20) == 0

    assert outcome.status == 0, outcome
    words = outcome.out.split()
    assert words[0] == "ready", outcome
    assert words[1] in ("sh", "cat")
    assert int(words[2]) < 50
    assert words[3] == "0"


def test_network_of_another_container_is_joined(box: Box) -> None:
    with _holder(box, box.plan("sh", "-c", "echo; cat", before=(op("loopback_up"),))) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        network = os.readlink(f"/proc/{children[0]}/ns/net")
        other = Box(driver=box.driver, folder=box.folder / "other").make()
        outcome = other.run(
            *("readlink", "/proc/self/ns/net"),
            namespaces=launch.ALL & ~launch.NEWNET,
            settings=_joins(children[0], "net"),
        )
        holder.stdin.close()
        holder.wait(timeout=20)

    assert outcome.out.strip() == network


# --- cgroups ---


def _own_group(hierarchy: Path) -> Path:
    group = hierarchy / f"sandbox-launch-{os.getpid()}"
    group.mkdir()
    return group


def _fill_cpuset(group: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and (group.parent / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def test_program_starts_in_its_groups(box: Box) -> None:
    made = []
    settings = []
    for kind, options, path in requires.cgroup_mounts():
        made.append(_own_group(path))
        _fill_cpuset(made[-1])
        version = 1 if kind == "cgroup" else 2
        settings.append(op("cgroup", version, ",".join(options), str(made[-1])))
    try:
        outcome = box.shell("cat /proc/self/cgroup", settings=settings)
        inside = box.shell(
            "cat /proc/1/cgroup", settings=settings, before=(op("cgroup_namespace"),)
        )
    finally:
        for group in made:
            group.rmdir()

    assert outcome.status == inside.status == 0, (outcome, inside)
    paths = {line.split(":", 2)[2] for line in outcome.out.splitlines()}
    assert {path.rpartition("/")[2] for path in paths} == {made[0].name}
    assert {line.split(":", 2)[2] for line in inside.out.splitlines()} == {"/"}
    assert outcome.descriptors[0] == outcome.descriptors[1]


def test_group_that_does_not_take_the_program_is_named(box: Box) -> None:
    for kind, _options, path in requires.cgroup_mounts():
        if kind == "cgroup2":
            continue
        if (path / "cpuset.cpus").exists():
            group = _own_group(path)  # without cpus and memory nodes: ENOSPC
            try:
                outcome = box.run("true", settings=(op("cgroup", 1, "cpuset", str(group)),))
            finally:
                group.rmdir()
            if outcome.failure is None:
                pytest.skip("cpusets inherit their parent's values here")
            assert outcome.failure.path == str(group)
            return
    pytest.skip("no cgroup v1 cpuset")
