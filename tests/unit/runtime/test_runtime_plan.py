from __future__ import annotations

from itertools import groupby

import pytest

from sandbox.errors import HostLacks, UsageError
from sandbox.native.plan import FIRST_INIT_OP, OPS, Op, encode, op
from sandbox.oci.spec import (
    Capabilities,
    Device,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Rlimit,
    Root,
    Scheduler,
    Spec,
    User,
)
from sandbox.record import replace
from sandbox.runtime import capabilities, defaults
from sandbox.runtime.launch import (
    Disk,
    ExitCommand,
    Filter,
    Group,
    LaunchSettings,
    Log,
    Plumbing,
    Restart,
    RootMount,
)
from sandbox.runtime.plan import compile_plan

PROGRAM = Filter(program=b"\x06\0\0\0\0\0\xff\x7f")
LAUNCH = LaunchSettings(
    id="c1",
    state_dir="/state/c1",
    run_dir="/run/c1",
    mount_point="/run/rootfs",
    root=RootMount(
        kind="overlay", lowers=("/l/2", "/l/1"), upper="/state/c1/upper", work="/state/c1/work"
    ),
    seccomp=PROGRAM,
    capability_bound=-1,
)
TRUE = Process(args=("true",), env=("A=1",))


def plan_of(process: Process = TRUE, launch: LaunchSettings = LAUNCH, **wanted: object) -> list[Op]:
    spec = defaults.default_spec(process, **wanted)  # type: ignore[arg-type]  # by name
    return list(compile_plan(spec, launch))


def names(ops: list[Op]) -> list[str]:
    return [each.name for each in ops]


def only(ops: list[Op], name: str) -> Op:
    (found,) = [each for each in ops if each.name == name]
    return found


def every(ops: list[Op], name: str) -> list[Op]:
    return [each for each in ops if each.name == name]


def test_settings_come_before_the_operations_of_init_and_exec_is_last() -> None:
    codes = [OPS[each.name][0] for each in plan_of(hostname="box")]

    first = next(at for at, code in enumerate(codes) if code >= FIRST_INIT_OP)
    assert all(code < FIRST_INIT_OP for code in codes[:first])
    assert all(code >= FIRST_INIT_OP for code in codes[first:])
    assert codes[-1] == OPS["exec"][0]


def test_the_default_plan_goes_from_the_root_to_the_program_in_this_order() -> None:
    launch = replace(LAUNCH, groups=(Group(version=2, controllers="", path="/g"),))

    order = [name for name, _same in groupby(names(plan_of(launch=launch, hostname="box")))]

    assert order == [
        *("id", "folders", "stdio", "cgroup", "namespaces"),
        *("propagation", "cgroup_namespace", "hostname", "loopback_up"),
        *("root_overlay", "mount", "mknod", "symlink", "sysctl", "readonly", "mask"),
        *("pivot", "workdir", "keyring", "umask", "seccomp", "ids", "capabilities", "exec"),
    ]


def test_the_default_mounts_are_docker_s() -> None:
    launch = replace(LAUNCH, groups=(Group(version=2, controllers="", path="/g"),))

    assert every(plan_of(launch=launch), "mount") == [
        op("mount", "proc", "proc", "/proc", 0xE, (), 0),
        op("mount", "tmpfs", "tmpfs", "/dev", 0x22, ("mode=755", "size=65536k"), 0),
        op("mount", "sysfs", "sysfs", "/sys", 0xF, (), 0),
        op(
            "mount",
            "devpts",
            "devpts",
            "/dev/pts",
            0xA,
            ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            0,
        ),
        op("mount", "mqueue", "mqueue", "/dev/mqueue", 0xE, (), 1),
        op("mount", "tmpfs", "shm", "/dev/shm", 0xE, ("mode=1777", "size=67108864"), 0),
        op("mount", "cgroup2", "cgroup", "/sys/fs/cgroup", 0xF, (), 0),
    ]


def test_the_default_namespaces_are_all_but_user_and_the_cgroup_one_is_init_s() -> None:
    assert only(plan_of(), "namespaces") == op("namespaces", 0x6C020000)


def test_the_default_capabilities_are_docker_s_fourteen_and_none_is_inheritable() -> None:
    assert only(plan_of(), "capabilities") == op(
        "capabilities", 0xA80425FB, 0xA80425FB, 0xA80425FB, 0, 0
    )


def test_default_nodes_are_made_in_dev_and_the_host_console_is_not_among_them() -> None:
    nodes = [each.values[:4] for each in every(plan_of(), "mknod")]

    assert nodes == [
        ("/dev/null", 0o20666, 1, 3),
        ("/dev/zero", 0o20666, 1, 5),
        ("/dev/full", 0o20666, 1, 7),
        ("/dev/random", 0o20666, 1, 8),
        ("/dev/urandom", 0o20666, 1, 9),
        ("/dev/tty", 0o20666, 5, 0),
    ]


def test_ptmx_leads_to_the_container_s_own_devpts() -> None:
    assert op("symlink", "pts/ptmx", "/dev/ptmx") in plan_of()


def test_masked_paths_hold_those_of_current_moby() -> None:
    masked = [each.values[0] for each in every(plan_of(), "mask")]

    assert set(masked) >= {
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    }


def test_sysctls_are_written_before_proc_sys_becomes_read_only() -> None:
    ops = names(plan_of())

    assert ops.index("sysctl") < ops.index("readonly")


def test_mounts_are_sorted_so_that_parents_precede() -> None:
    late_parent = (
        Mount(destination="/a/b", type="bind", source="/x", options=("rbind",)),
        Mount(destination="/a", type="bind", source="/y", options=("rbind",)),
    )

    targets = [each.values[1] for each in every(plan_of(extra_mounts=late_parent), "bind")]

    assert targets == ["/a", "/a/b"]


def test_a_spec_without_dev_is_given_one_before_nodes_are_made() -> None:
    spec = Spec(process=TRUE, linux=Linux(namespaces=(Namespace(type="mount"),)))

    ops = compile_plan(spec, LAUNCH)

    found = names(list(ops))
    assert [each.values[2] for each in ops if each.name == "mount"] == ["/dev"]
    assert found.index("mount") < found.index("mknod")


def test_nothing_is_made_in_a_bound_dev() -> None:
    bound = Mount(destination="/dev", type="bind", source="/dev", options=("rbind",))

    ops = plan_of(extra_mounts=(bound,), launch=replace(LAUNCH, tty=True))

    assert not {"mknod", "symlink", "console"} & set(names(ops))
    assert "/dev/pts" not in [each.values[2] for each in every(ops, "mount")]


def test_in_a_user_namespace_nodes_are_bound_from_the_host() -> None:
    maps = (IdMapping(container_id=0, host_id=100000, size=65536),)
    ops = plan_of(
        namespaces=defaults.default_namespaces(user=True), uid_mappings=maps, gid_mappings=maps
    )

    assert not every(ops, "mknod")
    assert op("bind", "/dev/null", "/dev/null", 0, 0, 0) in ops
    assert only(ops, "id_map") == op("id_map", "0 100000 65536\n", "0 100000 65536\n")
    assert only(ops, "root_overlay").values[3] == 8


def test_in_a_user_namespace_over_the_host_s_network_sys_is_the_host_s() -> None:
    maps = (IdMapping(container_id=0, host_id=100000, size=65536),)
    ops = plan_of(
        namespaces=defaults.default_namespaces(host=("network", "ipc"), user=True),
        uid_mappings=maps,
        gid_mappings=maps,
    )

    slave = 1 << 19 | 1 << 14
    assert op("bind", "/sys", "/sys", 0xF, slave, 6) in ops


def test_a_terminal_is_made_after_devpts_for_the_user_and_keeps_the_tty_group() -> None:
    process = replace(TRUE, terminal=True, user=User(uid=1000, gid=1000))

    ops = plan_of(process, replace(LAUNCH, tty=True, rows=24, columns=80))

    assert only(ops, "stdio") == op("stdio", 1, 24, 80)
    assert only(ops, "console") == op("console", 1000, -1)
    assert names(ops).index("console") < names(ops).index("pivot")


def test_open_stdin_is_told_to_the_monitor() -> None:
    ops = plan_of(launch=replace(LAUNCH, stdin_open=True, stdin_once=True))

    assert only(ops, "stdio") == op("stdio", 6, 0, 0)


def test_without_no_new_privileges_the_filter_precedes_the_ids() -> None:
    ops = names(plan_of())

    assert ops.index("seccomp") < ops.index("ids") < ops.index("capabilities")
    assert "no_new_privileges" not in ops


def test_with_no_new_privileges_the_filter_is_the_last_act() -> None:
    ops = names(plan_of(replace(TRUE, no_new_privileges=True)))

    assert ops[-5:] == ["ids", "capabilities", "no_new_privileges", "seccomp", "exec"]


def test_without_a_filter_none_is_loaded() -> None:
    assert "seccomp" not in names(plan_of(launch=replace(LAUNCH, seccomp=None)))


def test_a_user_who_is_not_root_keeps_the_bounding_set_and_no_capability() -> None:
    ops = plan_of(replace(TRUE, user=User(uid=1000, gid=1000)))

    assert only(ops, "capabilities") == op("capabilities", 0xA80425FB, 0, 0, 0, 0)


def test_ambient_capabilities_survive_for_a_user_who_is_not_root() -> None:
    sets = defaults.default_capabilities(
        ("CAP_NET_BIND_SERVICE",), ambient=("CAP_NET_BIND_SERVICE",)
    )
    ops = plan_of(replace(TRUE, user=User(uid=1, gid=1), capabilities=sets))

    assert only(ops, "capabilities") == op("capabilities", 0x400, 0x400, 0x400, 0x400, 0x400)


def test_ambient_needs_inheritable_and_permitted() -> None:
    sets = Capabilities(bounding=("CAP_CHOWN",), permitted=("CAP_CHOWN",), ambient=("CAP_CHOWN",))
    ops = plan_of(replace(TRUE, capabilities=sets))

    assert only(ops, "capabilities") == op("capabilities", 1, 0, 1, 0, 0)


def test_capabilities_that_this_process_lacks_are_left_out() -> None:
    without_sys_resource = (1 << 41) - 1 & ~(1 << 24)
    ops = plan_of(launch=replace(LAUNCH, capability_bound=without_sys_resource), privileged=True)

    assert only(ops, "capabilities").values[:3] == (without_sys_resource,) * 3


def test_what_can_be_handed_on_is_asked_of_this_process_but_not_in_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capabilities, "available", lambda: 1)
    launch = replace(LAUNCH, capability_bound=None)
    maps = (IdMapping(container_id=0, host_id=100000, size=65536),)
    inside = {
        "namespaces": defaults.default_namespaces(user=True),
        "uid_mappings": maps,
        "gid_mappings": maps,
    }

    assert only(plan_of(launch=launch), "capabilities").values[0] == 1
    assert only(plan_of(launch=launch, **inside), "capabilities").values[0] == 0xA80425FB


def test_the_primary_group_is_always_among_the_groups_and_first() -> None:
    ops = plan_of(replace(TRUE, user=User(uid=5, gid=7, additional_gids=(9, 7, 3))))

    assert only(ops, "ids") == op("ids", 5, 7, (7, 9, 3))


def test_privileged_masks_nothing_and_opens_sys_and_the_cgroups() -> None:
    launch = replace(LAUNCH, groups=(Group(version=2, controllers="", path="/g"),), seccomp=None)
    ops = plan_of(launch=launch, privileged=True)

    assert not {"mask", "readonly", "seccomp"} & set(names(ops))
    attributes = {each.values[2]: each.values[3] for each in every(ops, "mount")}
    assert attributes["/sys"] == attributes["/sys/fs/cgroup"] == 0xE
    assert only(ops, "capabilities").values[0] == (1 << 41) - 1


def test_a_read_only_root_closes_after_the_working_directory_was_made() -> None:
    launch = replace(LAUNCH, root=replace(LAUNCH.root, readonly=True))

    ops = names(plan_of(replace(TRUE, cwd="/new"), launch))

    assert ops.index("pivot") < ops.index("workdir") < ops.index("root_readonly")


def test_the_spec_can_ask_for_a_read_only_root_too() -> None:
    assert "root_readonly" in names(plan_of(root=Root(path="rootfs", readonly=True)))


def test_a_volatile_overlay_over_the_host_root_says_both() -> None:
    root = RootMount(
        kind="overlay", lowers=("/",), upper="/u", work="/w", volatile=True, host_root=True
    )

    assert only(plan_of(launch=replace(LAUNCH, root=root)), "root_overlay") == op(
        "root_overlay", ("/",), "/u", "/w", 5
    )


def test_a_bound_root_is_one_folder() -> None:
    root = RootMount(kind="bind", lowers=("/tree",))

    assert only(plan_of(launch=replace(LAUNCH, root=root)), "root_bind") == op(
        "root_bind", "/tree", 0
    )


def test_a_disk_takes_the_place_of_the_writable_folders() -> None:
    root = RootMount(kind="overlay", lowers=("/l",), disk=Disk(path="/d.img"))
    ops = plan_of(launch=replace(LAUNCH, root=root))

    assert only(ops, "disk") == op("disk", "/d.img", "ext4", "")
    assert only(ops, "root_overlay") == op("root_overlay", ("/l",), "", "", 0)


def test_everything_of_the_monitor_is_said_once() -> None:
    launch = replace(
        LAUNCH,
        log=Log(path="/log", max_bytes=10, max_files=3),
        wall_ms=5,
        cpu_us=6,
        output_bytes=7,
        with_launcher=True,
        exit_command=ExitCommand(argv=("rm", "c1"), env=("A=b",)),
        restart=Restart(policy="on-failure", max=4),
        init=True,
    )

    ops = plan_of(launch=launch)

    assert [each for each in ops if each.name in ("log", "limits", "lifetime", "restart")] == [
        op("log", "/log", 10, 3),
        op("limits", 5, 6, 7),
        op("lifetime", 1),
        op("restart", 1, 4),
    ]
    assert only(ops, "exit_command") == op("exit_command", ("rm", "c1"), ("A=b",))
    assert only(ops, "exec") == op("exec", ("true",), ("A=1",), 1)


def test_no_limits_and_no_restart_are_no_operations() -> None:
    assert not {"limits", "restart", "lifetime", "exit_command", "log", "disk"} & set(
        names(plan_of(launch=replace(LAUNCH, restart=Restart())))
    )


def test_rlimits_and_nice_come_while_privilege_lasts() -> None:
    process = replace(
        TRUE,
        rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=-1),),
        scheduler=Scheduler(nice=5),
        oom_score_adj=100,
    )
    ops = plan_of(process)

    assert op("rlimit", 7, 1024, -1) in ops
    assert op("nice", 5) in ops
    assert op("oom_score_adj", 100) in ops
    assert names(ops).index("rlimit") < names(ops).index("ids")


def test_the_host_network_brings_no_loopback_and_no_network_sysctls() -> None:
    ops = names(plan_of(namespaces=defaults.default_namespaces(host=("network",))))

    assert "loopback_up" not in ops
    assert "sysctl" not in ops


def test_a_joined_uts_namespace_keeps_its_name() -> None:
    joined = defaults.default_namespaces(joined=(("uts", "/proc/7/ns/uts"),))
    ops = plan_of(namespaces=joined, hostname="other")

    assert "hostname" not in names(ops)
    assert op("join", 0x04000000, "/proc/7/ns/uts") in ops


def test_a_hostname_in_the_host_s_uts_namespace_is_refused() -> None:
    with pytest.raises(UsageError, match="uts namespace"):
        plan_of(namespaces=defaults.default_namespaces(host=("uts",)), hostname="box")


def test_a_container_without_a_mount_namespace_is_refused() -> None:
    with pytest.raises(UsageError, match="mount namespace"):
        plan_of(namespaces=defaults.default_namespaces(host=("mount",)))


@pytest.mark.parametrize("word", ["shared", "rshared"])
def test_a_shared_root_is_refused_because_it_would_reach_the_host(word: str) -> None:
    spec = defaults.default_spec(TRUE)
    spec = replace(spec, linux=replace(spec.linux, rootfs_propagation=word))

    with pytest.raises(UsageError, match="on the host"):
        compile_plan(spec, LAUNCH)


def test_the_default_propagation_is_recursive_slave() -> None:
    assert only(plan_of(), "propagation") == op("propagation", 1 << 19 | 1 << 14)


@pytest.mark.parametrize(
    "process",
    [replace(TRUE, apparmor_profile="docker-default"), replace(TRUE, selinux_label="a:b:c")],
)
def test_labels_are_refused_rather_than_left_out(process: Process) -> None:
    with pytest.raises(HostLacks, match="not supported"):
        plan_of(process)


def test_no_command_is_docker_s_error() -> None:
    with pytest.raises(UsageError, match="no command specified"):
        plan_of(Process())


def test_a_device_of_the_spec_is_made_with_its_owner_and_replaces_a_default_one() -> None:
    devices = (
        Device(type="c", path="/dev/fuse", major=10, minor=229, file_mode=0o660, gid=5),
        Device(type="c", path="/dev/null", major=1, minor=3, file_mode=0o600),
    )
    ops = plan_of(extra_devices=devices)

    assert op("mknod", "/dev/fuse", 0o20660, 10, 229, 0, 5) in ops
    assert [each.values[1] for each in every(ops, "mknod") if each.values[0] == "/dev/null"] == [
        0o20600
    ]


def test_every_plan_can_be_encoded() -> None:
    assert encode(plan_of(hostname="box")).startswith(b"SBXPLAN\0")


def test_networks_are_links_that_are_waited_for_when_the_mounts_are_done() -> None:
    link = Plumbing(
        link="ve1", name="eth0", bridge="br0", ipv6=True, make=b"m", plumb=b"p", settle=b"s"
    )

    ops = plan_of(launch=replace(LAUNCH, endpoints=(link,)), sysctl=(("net.core.somaxconn", "9"),))

    assert only(ops, "endpoint").values == ("ve1", "eth0", "br0", 1, b"m", b"p", b"s")
    order = names(ops)
    last_mount = max(at for at, name in enumerate(order) if name in ("mount", "bind", "mknod"))
    assert last_mount < order.index("network") < order.index("sysctl") < order.index("pivot")


def test_a_plan_without_links_has_a_place_for_them_or_not() -> None:
    without = plan_of()
    later = plan_of(launch=replace(LAUNCH, endpoints=()))

    assert not {"network", "endpoint"} & set(names(without))
    assert names(later).count("network") == 1
    assert "endpoint" not in names(later)
