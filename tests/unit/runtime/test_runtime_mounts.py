from __future__ import annotations

import pytest

from sandbox.errors import UsageError
from sandbox.native.plan import op
from sandbox.oci.spec import IdMapping, Mount
from sandbox.record import replace
from sandbox.runtime import mounts
from sandbox.runtime.launch import Group

SLAVE, SHARED, PRIVATE, REC = 1 << 19, 1 << 20, 1 << 18, 1 << 14
LEGACY = (
    Group(version=1, controllers="memory", path="/h/memory/c"),
    Group(version=1, controllers="cpu,cpuacct", path="/h/cpu/c"),
    Group(version=1, controllers="name=systemd", path="/h/systemd/c"),
)
CGROUP = Mount(
    destination="/sys/fs/cgroup",
    type="cgroup",
    source="cgroup",
    options=("ro", "nosuid", "noexec", "nodev"),
)


def bind(*options: str) -> Mount:
    return Mount(destination="/d", type="bind", source="/s", options=options)


@pytest.mark.parametrize(
    ("words", "attributes", "propagation", "flags"),
    [
        ((), 0, 0, 0),
        (("rbind", "rprivate"), 0, PRIVATE | REC, 2),
        (("rbind", "ro", "rslave"), 1, SLAVE | REC, 2),
        (("bind", "nosuid", "nodev", "noexec", "shared"), 0xE, SHARED, 0),
        (("rbind", "rro"), 1, 0, 6),
        (("ro", "rw"), 0, 0, 0),
        (("rw", "ro"), 1, 0, 0),
        (("noatime", "relatime"), 0, 0, 0),
        (("noatime", "nodiratime"), 0x90, 0, 0),
        (("bind", "idmap"), 0, 0, 8),
        (("defaults", "rbind"), 0, 0, 2),
    ],
)
def test_option_words_of_a_bind(
    words: tuple[str, ...], attributes: int, propagation: int, flags: int
) -> None:
    assert mounts.mount_op(bind(*words)) == op("bind", "/s", "/d", attributes, propagation, flags)


def test_a_bind_needs_no_type() -> None:
    assert mounts.mount_op(Mount(destination="/d", source="/s", options=("rbind",))).name == "bind"


def test_a_tmpfs_keeps_its_own_options_and_copies_up_when_asked() -> None:
    tmpfs = Mount(
        destination="/t", type="tmpfs", options=("nosuid", "size=1m", "mode=1777", "tmpcopyup")
    )

    assert mounts.mount_op(tmpfs) == op(
        "mount", "tmpfs", "tmpfs", "/t", 2, ("size=1m", "mode=1777"), 32
    )


def test_the_target_is_normalized_as_text() -> None:
    assert mounts.mount_op(Mount(destination="//a/./b/../c/", type="tmpfs")).values[2] == "/a/c"


def test_id_mappings_of_a_bind_ask_for_an_id_mapped_mount() -> None:
    mapped = Mount(
        destination="/d",
        type="bind",
        source="/s",
        uid_mappings=(IdMapping(container_id=0, host_id=1, size=1),),
    )

    assert mounts.mount_op(mapped).values[4] == 8


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (Mount(destination="/", type="tmpfs"), "destination can't be '/'"),
        (Mount(destination="/..", type="tmpfs"), "destination can't be '/'"),
        (Mount(destination="/d", type="bind", source="relative"), "absolute path"),
        (Mount(destination="/d"), "neither a type nor the option bind"),
        (Mount(destination="/d", type="tmpfs", options=("rshared",)), "can be shared"),
        (Mount(destination="/d", type="tmpfs", options=("idmap",)), "can be id-mapped"),
        (Mount(destination="/d", type="tmpfs", options=("remount",)), "remount"),
    ],
)
def test_what_cannot_be_meant_is_refused(mount: Mount, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mounts.mount_op(mount)


def test_a_wanted_mount_replaces_the_default_with_its_destination() -> None:
    default = Mount(destination="/dev/shm", type="tmpfs")
    wanted = Mount(destination="/dev/shm/", type="bind", source="/dev/shm")

    assert mounts.merge((default,), (wanted,)) == (wanted,)


def test_a_wanted_dev_replaces_the_defaults_below_it_too() -> None:
    kept = Mount(destination="/proc", type="proc")
    defaults = (kept, Mount(destination="/dev", type="tmpfs"), Mount(destination="/dev/pts"))
    wanted = Mount(destination="/dev", type="bind", source="/dev")

    assert mounts.merge(defaults, (wanted,)) == (kept, wanted)


def test_legacy_hierarchies_are_mounted_one_by_one_in_a_tmpfs_that_closes() -> None:
    ops = mounts.cgroup_ops(CGROUP, LEGACY, namespaced=True, full=True)

    top = "/sys/fs/cgroup"
    assert ops == [
        op("mount", "tmpfs", "cgroup", top, 0xE, ("mode=755", "size=65536"), 0),
        op("mkdir", f"{top}/memory", 0o755, 0, 0),
        op("mkdir", f"{top}/cpu,cpuacct", 0o755, 0, 0),
        op("symlink", "cpu,cpuacct", f"{top}/cpu"),
        op("symlink", "cpu,cpuacct", f"{top}/cpuacct"),
        op("mkdir", f"{top}/systemd", 0o755, 0, 0),
        op("readonly", top),
        op("mount", "cgroup", "cgroup", f"{top}/memory", 0xF, ("memory",), 16),
        op("mount", "cgroup", "cgroup", f"{top}/cpu,cpuacct", 0xF, ("cpu", "cpuacct"), 16),
        op("mount", "cgroup", "cgroup", f"{top}/systemd", 0xF, ("none", "name=systemd"), 16),
    ]


def test_a_writable_view_stays_open() -> None:
    writable = replace(CGROUP, options=("nosuid", "noexec", "nodev"))

    ops = mounts.cgroup_ops(writable, LEGACY, namespaced=True, full=True)

    assert "readonly" not in [each.name for each in ops]
    assert ops[-1].values[3] == 0xE


def test_without_a_cgroup_namespace_the_container_s_own_groups_are_bound() -> None:
    ops = mounts.cgroup_ops(CGROUP, LEGACY[:1], namespaced=False, full=True)

    assert ops[-1] == op("bind", "/h/memory/c", "/sys/fs/cgroup/memory", 0xF, PRIVATE, 16)


def test_a_hybrid_host_has_the_unified_tree_beside_the_others() -> None:
    groups = (*LEGACY[:1], Group(version=2, controllers="", path="/h/unified/c"))

    assert op("mount", "cgroup2", "cgroup", "/sys/fs/cgroup/unified", 0xF, (), 0) in (
        mounts.cgroup_ops(CGROUP, groups, namespaced=True, full=True)
    )


@pytest.mark.parametrize(("groups", "full"), [(LEGACY, False), ((), True)])
def test_an_empty_view_is_one_read_only_mount(groups: tuple[Group, ...], full: bool) -> None:
    assert mounts.cgroup_ops(CGROUP, groups, namespaced=True, full=full) == [
        op("mount", "tmpfs", "cgroup", "/sys/fs/cgroup", 0xF, ("mode=755", "size=0"), 0)
    ]
