"""The root and what is mounted below it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import requires
from kit import launch
from kit.launch import Box, step

from sandbox.native import plan
from sandbox.native.plan import Op, op

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8


def _options(outcome: launch.Outcome, point: str) -> list[str]:
    for line in reversed(outcome.out.splitlines()):
        fields = line.split()
        if fields[4] == point:
            return fields[5].split(",")
    raise AssertionError(f"nothing is mounted on {point}: {outcome}")


def _seen(box: Box, *before: Op, after: tuple[Op, ...] = ()) -> launch.Outcome:
    return box.run("cat", "/proc/self/mountinfo", before=before, after=after)


# --- the root ---


def test_writes_go_to_the_upper_folder(any_box: Box) -> None:
    outcome = any_box.shell("echo x >/new; rm /bin/touch; ls -l /new")

    assert outcome.status == 0
    assert (any_box.upper / "new").read_text() == "x\n"
    assert stat.S_ISCHR((any_box.upper / "bin/touch").lstat().st_mode)
    assert (any_box.image / "bin/touch").is_symlink()


def test_same_volatile_layer_can_be_mounted_again(any_box: Box) -> None:
    assert any_box.shell("echo x >/new").status == 0

    assert any_box.shell("cat /new").out == "x\n"


def test_first_lower_folder_is_the_top(any_box: Box) -> None:
    top = any_box.folder / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/name").write_text("top\n")
    (any_box.image / "etc/name").write_text("bottom\n")
    root = op("root_overlay", (str(top), str(any_box.image)), "", "", 0)

    assert any_box.run("cat", "/etc/name", root=root, mounts=()).out == "top\n"


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "x" * 250])
def test_any_name_serves_as_a_layer(any_box: Box, name: str) -> None:
    layer = any_box.folder / name
    (layer / "etc").mkdir(parents=True)
    (layer / "etc/name").write_text("found\n")
    upper = any_box.folder / f"{name}.up"[:255]
    work = any_box.folder / f"{name[:240]}.work"
    upper.mkdir(exist_ok=True)
    work.mkdir()
    root = op("root_overlay", (str(layer), str(any_box.image)), str(upper), str(work), 0)

    outcome = any_box.run("cat", "/etc/name", root=root)

    assert outcome.out == "found\n", outcome


def _many_layers(box: Box, count: int) -> Op:
    lowers = []
    for number in range(count - 1):
        layer = box.folder / f"layer-with-a-rather-long-name-{number:04}"
        layer.mkdir()
        (layer / f"file{number}").write_text("")
        lowers.append(str(layer))
    lowers.append(str(box.image))
    upper, work = str(box.upper), str(box.folder / "work")
    return op("root_overlay", lowers, upper, work, 0)


@pytest.mark.parametrize(("build", "count"), [("", 500), ("one-lowerdir", 500), ("old-mount", 400)])
def test_hundreds_of_layers(
    drivers: Callable[[str], Path], tmp_path: Path, build: str, count: int
) -> None:
    box = Box(driver=drivers(build), folder=tmp_path / "box").make()

    outcome = box.shell("ls -d /file* | wc -l", root=_many_layers(box, count), mounts=())

    assert outcome.out == f"{count - 1}\n", outcome


def test_few_layers_go_by_one_lowerdir(drivers: Callable[[str], Path], tmp_path: Path) -> None:
    box = Box(driver=drivers("one-lowerdir"), folder=tmp_path / "box").make()

    assert box.shell("ls -d /file* | wc -l", root=_many_layers(box, 9), mounts=()).out == "8\n"


def test_single_layer_without_upper_is_a_read_only_root(any_box: Box) -> None:
    for name in ("proc", "dev"):
        (any_box.image / name).mkdir()
    (any_box.image / "dev/pts").mkdir()
    root = op("root_overlay", (str(any_box.image),), "", "", plan.OVERLAY_READONLY)

    outcome = any_box.shell("touch /x; cat /proc/self/mountinfo", root=root)

    assert "Read-only" in outcome.err
    assert "ro" in _options(outcome, "/")
    assert not (any_box.image / "x").exists()


def test_layers_without_upper_are_a_read_only_root(any_box: Box) -> None:
    other = any_box.folder / "other"
    (other / "proc").mkdir(parents=True)
    root = op("root_overlay", (str(any_box.image), str(other)), "", "", plan.OVERLAY_READONLY)

    outcome = any_box.shell("touch /x; true", root=root, mounts=(launch.PROC,))

    assert outcome.status == 0
    assert "Read-only" in outcome.err


def test_root_readonly_leaves_what_is_mounted_below_writable(any_box: Box) -> None:
    shm = op("mount", "tmpfs", "shm", "/dev/shm", launch.SAFE, ("mode=1777",), 0)

    outcome = any_box.shell(
        "touch /x; touch /dev/shm/y && ls /dev/shm", before=(shm,), after=(op("root_readonly"),)
    )

    assert "Read-only" in outcome.err
    assert outcome.out == "y\n"


def test_folder_as_the_root(any_box: Box) -> None:
    outcome = any_box.shell(
        "touch /made; pwd",
        root=op("root_bind", str(any_box.image), 0),
        after=(op("workdir", "/", 0),),
    )

    assert outcome.out == "/\n", outcome
    assert (any_box.image / "made").exists()


def test_folder_as_a_read_only_root(any_box: Box) -> None:
    root = op("root_bind", str(any_box.image), plan.OVERLAY_READONLY)

    outcome = any_box.shell("touch /made; true", root=root)

    assert "Read-only" in outcome.err
    assert not (any_box.image / "made").exists()


def test_hosts_root_as_the_lowest_layer(box: Box) -> None:
    name = tempfile.mktemp(dir="/var/tmp")
    upper, work = str(box.upper), str(box.folder / "work")
    root = op("root_overlay", ("/",), upper, work, plan.OVERLAY_HOST_ROOT)

    outcome = box.shell(
        f"cat /etc/hostname; echo x >{name}", root=root, env=("PATH=/usr/bin:/bin",)
    )

    assert outcome.out == Path("/etc/hostname").read_text(), outcome
    assert not Path(name).exists()
    assert (box.upper / name.lstrip("/")).read_text() == "x\n"


def test_hosts_root_below_another_layer(box: Box) -> None:
    layer = box.folder / "over"
    (layer / "etc").mkdir(parents=True)
    (layer / "etc/hostname").write_text("over\n")
    upper, work = str(box.upper), str(box.folder / "work")
    root = op("root_overlay", (str(layer), "/"), upper, work, plan.OVERLAY_HOST_ROOT)

    outcome = box.shell("cat /etc/hostname; ls -d /usr", root=root, env=("PATH=/usr/bin:/bin",))

    assert outcome.out == "over\n/usr\n"


def test_missing_layer_is_named(box: Box) -> None:
    root = op("root_overlay", ("/nonexistent/layer", str(box.image)), "", "", 0)

    outcome = box.run("true", root=root)

    assert outcome.failure is not None
    assert (outcome.failure.errno, outcome.failure.path) == (errno.ENOENT, "/nonexistent/layer")


# --- a disk image ---


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    return image


@requires.program("mkfs.ext4")
def test_disk_image_bounds_the_writable_layer(box: Box, disk: Path) -> None:
    root = op("root_overlay", (str(box.image),), "", "", 0)
    setting = op("disk", str(disk), "ext4", "")

    first = box.shell(
        "cat /dev/zero >/big; rm /big; echo y >/small",
        root=root,
        settings=(setting,),
        before=(op("mknod", "/dev/zero", 0o20666, 1, 5, 0, 0),),
    )
    second = box.shell("cat /small", root=root, settings=(setting,))

    assert "No space" in first.err, first
    assert second.out == "y\n"
    assert second.descriptors[0] == second.descriptors[1]
    assert str(disk) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout


@requires.program("mkfs.ext4")
def test_failed_launch_frees_the_loop_device(box: Box, disk: Path) -> None:
    root = op("root_overlay", ("/nonexistent",), "", "", 0)

    outcome = box.run("true", root=root, settings=(op("disk", str(disk), "ext4", ""),))

    assert outcome.failure is not None
    assert str(disk) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout


# --- file systems ---


def test_attributes_and_options_of_a_file_system(any_box: Box) -> None:
    outcome = _seen(
        any_box,
        op(
            "mount", "tmpfs", "tmpfs", "/data", NOSUID | NODEV | NOEXEC, ("size=64k", "mode=700"), 0
        ),
    )

    assert {"rw", "nosuid", "nodev", "noexec"} <= set(_options(outcome, "/data"))
    assert "size=64k" in outcome.out


def test_unknown_option_is_an_error(any_box: Box) -> None:
    outcome = any_box.run(
        "true", before=(op("mount", "tmpfs", "tmpfs", "/x", 0, ("nonsense=1",), 0),)
    )

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EINVAL
    assert outcome.failure.path == "/x"


def test_unknown_file_system_is_left_out_when_optional(any_box: Box) -> None:
    wanted = ("mount", "nosuchfs", "x", "/x", 0, ())

    assert any_box.run("true", before=(op(*wanted, plan.MOUNT_OPTIONAL),)).status == 0
    outcome = any_box.run("true", before=(op(*wanted, 0),))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENODEV


def test_sysfs_and_mqueue(any_box: Box) -> None:
    outcome = any_box.shell(
        "ls -d /sys/class/net/lo; ls -d /dev/mqueue",
        before=(
            op("mount", "sysfs", "sysfs", "/sys", launch.SAFE | RDONLY, (), 0),
            op("mount", "mqueue", "mqueue", "/dev/mqueue", launch.SAFE, (), 0),
        ),
    )

    assert outcome.out == "/sys/class/net/lo\n/dev/mqueue\n"


def test_cgroups_are_seen_from_their_own_namespace(any_box: Box) -> None:
    mounts = [op("mount", "tmpfs", "cgroup", "/sys/fs/cgroup", launch.SAFE, ("mode=755",), 0)]
    points = []
    for kind, options, path in requires.cgroup_mounts():
        point = (
            f"/sys/fs/cgroup/{path.name}" if path != Path("/sys/fs/cgroup") else "/sys/fs/cgroup"
        )
        points.append(point)
        names = [each for each in options if each not in ("rw", "ro", "nsdelegate")]
        wanted = ("none", *names) if any("=" in each for each in names) else names
        mounts.append(
            op(
                "mount",
                kind,
                kind,
                point,
                launch.SAFE | RDONLY,
                wanted if kind == "cgroup" else (),
                0,
            )
        )

    outcome = any_box.shell("cat /proc/self/mountinfo", before=(op("cgroup_namespace"), *mounts))

    assert outcome.status == 0, outcome
    for point in points:
        assert "ro" in _options(outcome, point)
    roots = {line.split()[3] for line in outcome.out.splitlines() if " - cgroup" in line}
    assert roots == {"/"}


def test_tmpfs_is_filled_from_the_image(any_box: Box) -> None:
    data = any_box.image / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/file").write_text("content\n")
    (data / "sub/file").chmod(0o4755)
    os.chown(data / "sub/file", 11, 12)
    (data / "sub/file").chmod(0o4750)
    (data / "link").symlink_to("/etc/passwd")
    os.mkfifo(data / "pipe")
    data.chmod(0o1770)
    os.chown(data, 13, 14)
    tmpfs = op("mount", "tmpfs", "tmpfs", "/data", RDONLY, (), plan.MOUNT_COPY_UP)

    outcome = any_box.shell(
        "stat -c '%a %u %g %F' /data /data/sub/file; readlink /data/link; ls /data; touch /data/x",
        before=(tmpfs,),
    )

    assert outcome.out.splitlines() == [
        "1770 13 14 directory",
        "4750 11 12 regular file",
        "/etc/passwd",
        "link",
        "sub",
    ]
    assert "Read-only" in outcome.err


def test_copying_into_a_tmpfs_is_bounded(box: Box) -> None:
    (box.image / "data").mkdir()
    (box.image / "data/big").write_bytes(bytes(1 << 20))
    tmpfs = op("mount", "tmpfs", "tmpfs", "/data", 0, ("size=64k",), plan.MOUNT_COPY_UP)

    outcome = box.run("true", before=(tmpfs,))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOSPC


# --- binds ---


def test_bound_file_and_folder(any_box: Box) -> None:
    (any_box.folder / "there").mkdir()
    (any_box.folder / "there/file").write_text("there\n")
    there = str(any_box.folder / "there")

    outcome = any_box.shell(
        "cat /a/file /b; echo more >>/b; touch /a/new",
        before=(op("bind", there, "/a", 0, 0, 0), op("bind", f"{there}/file", "/b", 0, 0, 0)),
    )

    assert outcome.out == "there\nthere\n"
    assert (any_box.folder / "there/file").read_text() == "there\nmore\n"
    assert (any_box.folder / "there/new").exists()


def test_read_only_bind(any_box: Box) -> None:
    (any_box.folder / "there").mkdir()

    outcome = any_box.shell(
        "touch /a/new; cat /proc/self/mountinfo",
        before=(op("bind", str(any_box.folder / "there"), "/a", RDONLY | NOSUID | NODEV, 0, 0),),
    )

    assert "Read-only" in outcome.err
    assert {"ro", "nosuid", "nodev"} <= set(_options(outcome, "/a"))
    assert not (any_box.folder / "there/new").exists()


def test_recursive_read_only_bind_covers_what_is_mounted_below(box: Box) -> None:
    flags = plan.MOUNT_RECURSIVE | plan.MOUNT_RECURSIVE_ATTRIBUTES

    outcome = _seen(box, op("bind", "/dev", "/host", RDONLY, 0, flags))

    assert "ro" in _options(outcome, "/host")
    assert "ro" in _options(outcome, "/host/shm")


def test_recursive_read_only_bind_is_refused_without_mount_setattr(old_box: Box) -> None:
    flags = plan.MOUNT_RECURSIVE | plan.MOUNT_RECURSIVE_ATTRIBUTES

    outcome = old_box.run("true", before=(op("bind", "/dev", "/host", RDONLY, 0, flags),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOSYS


def test_plain_bind_leaves_out_what_is_mounted_below(any_box: Box) -> None:
    outcome = _seen(any_box, op("bind", "/dev", "/host", 0, 0, 0))

    assert not [line for line in outcome.out.splitlines() if line.split()[4] == "/host/shm"]


def test_bind_over_a_file_of_another_kind_is_refused(any_box: Box) -> None:
    outcome = any_box.run("true", before=(op("bind", "/etc", "/bin/busybox", 0, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOTDIR


def test_bind_after_the_pivot_is_refused(box: Box) -> None:
    outcome = box.run("true", after=(op("bind", "/etc", "/x", 0, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("bind")


def test_mounts_in_a_private_bind_do_not_show_on_the_host(box: Box) -> None:
    (box.folder / "there").mkdir()
    bind = op("bind", str(box.folder / "there"), "/a", 0, launch.MS_PRIVATE | launch.MS_REC, 0)

    outcome = box.shell("mount -t tmpfs none /a && touch /a/x && ls /a", before=(bind,))

    assert outcome.out == "x\n"
    assert os.listdir(box.folder / "there") == []


# --- masked and read-only paths ---


def test_masked_paths(any_box: Box) -> None:
    (any_box.image / "srv").mkdir()
    (any_box.image / "srv/file").write_text("seen\n")
    (any_box.image / "one").write_text("seen\n")
    (any_box.image / "two").write_text("seen\n")
    masks = [
        op("mask", path) for path in ("/srv", "/proc/acpi", "/one", "/two", "/absent", "/one/x")
    ]

    for before, after in (((*masks,), ()), ((), (*masks,)), ((*masks[:3],), (*masks[3:],))):
        if any_box.driver.name.endswith("old-mount") and after:
            continue
        outcome = any_box.shell(
            "ls /srv; cat /one /two; touch /srv/x; stat -c %t:%T /one", before=before, after=after
        )
        assert outcome.out == "1:3\n", outcome
        assert "Read-only" in outcome.err


def test_read_only_paths(any_box: Box) -> None:
    outcome = any_box.shell(
        "echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/self/mountinfo",
        before=(op("readonly", "/proc/sys"), op("readonly", "/proc/absent")),
    )

    assert "Read-only" in outcome.err
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(_options(outcome, "/proc/sys"))


# --- nodes ---


def test_device_nodes_have_mode_and_owner(any_box: Box) -> None:
    outcome = any_box.shell(
        "stat -c '%a %u %g %t:%T' /dev/null /dev/tty /dev/sub/x; echo x >/dev/null",
        before=(
            op("mknod", "/dev/tty", 0o20620, 5, 0, 3, 5),
            op("mknod", "/dev/sub/x", 0o60600, 7, 9, 0, 0),
        ),
    )

    assert outcome.out.splitlines() == ["666 0 0 1:3", "620 3 5 5:0", "600 0 0 7:9"]


def test_folders_have_mode_and_owner(box: Box) -> None:
    outcome = box.shell(
        "stat -c '%a %u %g' /dev/a /srv/b",
        before=(op("mkdir", "/dev/a", 0o1777, 0, 0), op("mkdir", "/srv/b", 0o750, 7, 8)),
    )

    assert outcome.out == "1777 0 0\n750 7 8\n"
