"""Words of the command line and of documents: capabilities, ulimits, sysctls, devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.errors import HostLacks, UsageError
from sandbox.native.plan import op
from sandbox.oci.spec import Device, DeviceCgroup, IdMapping, Linux, Namespace, Rlimit
from sandbox.runtime import capabilities, defaults, devices, namespaces, rlimits, sysctl

NEWNET, NEWIPC, NEWUTS = 0x40000000, 0x08000000, 0x04000000


@pytest.mark.parametrize(
    ("add", "drop", "changed"),
    [
        ((), (), ""),
        (("NET_ADMIN",), (), "+CAP_NET_ADMIN"),
        (("cap_net_admin",), (), "+CAP_NET_ADMIN"),
        ((), ("CAP_MKNOD",), "-CAP_MKNOD"),
        (("MKNOD",), ("MKNOD",), ""),
        (("CHOWN",), (), ""),
    ],
)
def test_added_and_dropped_capabilities(
    add: tuple[str, ...], drop: tuple[str, ...], changed: str
) -> None:
    wanted = set(capabilities.DEFAULT)
    if changed.startswith("+"):
        wanted.add(changed[1:])
    if changed.startswith("-"):
        wanted.remove(changed[1:])

    assert set(capabilities.tweak(add, drop)) == wanted


def test_all_dropped_leaves_what_is_added() -> None:
    assert capabilities.tweak(("KILL", "KILL"), ("all",)) == ("CAP_KILL",)


def test_all_added_leaves_out_what_is_dropped() -> None:
    names = capabilities.tweak(("ALL",), ("SYS_ADMIN",))

    assert len(names) == len(capabilities.NAMES) - 1
    assert "CAP_SYS_ADMIN" not in names


@pytest.mark.parametrize(
    ("option", "arguments"), [("CapAdd", (("nosuch",), ())), ("CapDrop", ((), ("NOSUCH",)))]
)
def test_an_unknown_capability_is_refused_in_docker_s_words(
    option: str, arguments: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with pytest.raises(UsageError) as caught:
        capabilities.tweak(*arguments)

    assert caught.value.message == f'invalid {option}: unknown capability: "CAP_NOSUCH"'


def test_bits_and_names_are_one_another_s_inverse() -> None:
    assert capabilities.to_bits(capabilities.DEFAULT) == 0xA80425FB
    assert set(capabilities.to_names(0xA80425FB)) == set(capabilities.DEFAULT)
    assert capabilities.to_bits(("CAP_CHECKPOINT_RESTORE",)) == 1 << 40
    assert capabilities.to_bits(("CAP_OF_TOMORROW",)) == 0


def test_the_bounding_set_is_read_from_status(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapBnd:\t000001fffeffffff\n")

    assert capabilities.available(str(status)) == 0x1FFFEFFFFFF


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024:2048", Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=2048)),
        ("nofile=1024", Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024)),
        ("core=-1", Rlimit(type="RLIMIT_CORE", soft=-1, hard=-1)),
        ("core=0:-1", Rlimit(type="RLIMIT_CORE", soft=0, hard=-1)),
    ],
)
def test_ulimit(text: str, limit: Rlimit) -> None:
    assert rlimits.parse_ulimit(text) == limit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("nofile=", "invalid ulimit argument: nofile="),
        ("nosuch=1", "invalid ulimit type: nosuch"),
        ("nofile=1:2:3", "too many limit value arguments - 1:2:3"),
        ("nofile=2:1", "less than or equal to hard limit: 2 > 1"),
        ("nofile=-1:1", "less than or equal to hard limit: -1 > 1"),
        ("nofile=many", "is not a number"),
        ("nofile=-2", "is out of range"),
    ],
)
def test_ulimit_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        rlimits.parse_ulimit(text)

    assert words in caught.value.message


def test_a_limit_above_the_hard_one_needs_the_capability() -> None:
    limit = Rlimit(type="RLIMIT_NOFILE", soft=10, hard=2048)

    rlimits.check((limit,), may_raise=True, hard_limits={"RLIMIT_NOFILE": 1024})
    rlimits.check((limit,), may_raise=False, hard_limits={"RLIMIT_NOFILE": 2048})
    with pytest.raises(HostLacks, match=r"ulimit nofile to 2048.*CAP_SYS_RESOURCE"):
        rlimits.check((limit,), may_raise=False, hard_limits={"RLIMIT_NOFILE": 1024})


def test_clamping_lowers_both_to_what_can_be_had() -> None:
    limits = (
        Rlimit(type="RLIMIT_NOFILE", soft=1048576, hard=-1),
        Rlimit(type="RLIMIT_CORE", soft=0, hard=-1),
    )

    assert rlimits.clamp(limits, hard_limits={"RLIMIT_NOFILE": 1024, "RLIMIT_CORE": -1}) == (
        Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024),
        Rlimit(type="RLIMIT_CORE", soft=0, hard=-1),
    )


def test_hard_limits_are_read_from_proc(tmp_path: Path) -> None:
    file = tmp_path / "limits"
    file.write_text(
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max open files            1024                 4096                 files     \n"
    )

    assert rlimits.current_hard_limits(str(file)) == {"RLIMIT_CPU": -1, "RLIMIT_NOFILE": 4096}


def test_hard_limits_of_this_process_are_all_known() -> None:
    assert set(rlimits.current_hard_limits()) == set(rlimits.NUMBERS)


def test_a_limit_twice_or_of_no_kind_is_refused() -> None:
    limit = Rlimit(type="RLIMIT_CORE", soft=0, hard=0)

    with pytest.raises(UsageError, match="duplicated"):
        rlimits.limit_ops((limit, limit))
    with pytest.raises(UsageError, match="invalid rlimit type: RLIMIT_X"):
        rlimits.limit_ops((Rlimit(type="RLIMIT_X", soft=0, hard=0),))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("net.ipv4.ip_forward", NEWNET),
        ("net/ipv4/conf/eth0.100/forwarding", NEWNET),
        ("kernel.shmmax", NEWIPC),
        ("kernel.sem", NEWIPC),
        ("fs.mqueue.msg_max", NEWIPC),
        ("kernel.domainname", NEWUTS),
        ("kernel.hostname", NEWUTS),
        ("kernel.core_pattern", 0),
        ("vm.swappiness", 0),
        ("fs.mqueue", 0),
        ("net/../kernel/core_pattern", 0),
        ("net.ipv4/../../kernel.core_pattern", 0),
        ("net..x", 0),
        ("network.x", 0),
        ("", 0),
    ],
)
def test_namespace_of_a_sysctl(name: str, kind: int) -> None:
    assert sysctl.namespace_of(name) == kind


def test_a_host_setting_is_refused_in_docker_s_words() -> None:
    with pytest.raises(UsageError) as caught:
        sysctl.parse_sysctl("vm.swappiness=1")

    assert caught.value.message == "sysctl 'vm.swappiness=1' is not allowed"


def test_a_sysctl_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        sysctl.parse_sysctl("net.core.somaxconn")


def test_a_sysctl_needs_its_namespace() -> None:
    settings = (sysctl.parse_sysctl("net.core.somaxconn=5"),)

    assert sysctl.setting_ops(settings, NEWNET) == [op("sysctl", "net.core.somaxconn", "5")]
    assert sysctl.setting_ops(settings, 0, NEWNET)
    with pytest.raises(UsageError, match="not allowed in host network namespace"):
        sysctl.setting_ops(settings, NEWIPC)


def test_device_of_the_host_becomes_a_node_and_a_rule() -> None:
    nodes, rules = devices.parse_device("/dev/zero:/dev/nought:rw")

    assert [(node.path, node.type, node.major, node.minor) for node in nodes] == [
        ("/dev/nought", "c", 1, 5)
    ]
    assert rules == (DeviceCgroup(allow=True, type="c", major=1, minor=5, access="rw"),)


def test_device_with_access_alone_keeps_its_path() -> None:
    (node,), (rule,) = devices.parse_device("/dev/zero:r")

    assert (node.path, rule.access) == ("/dev/zero", "r")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/dev/nosuch", "no such file or directory"),
        ("/etc/passwd", "not a device node"),
        ("/dev/zero:/dev/zero:x", "bad mode specified: x"),
        ("/dev/zero:relative", "relative is not an absolute path"),
        ("a:b:c:d", "invalid device specification"),
        ("", "invalid device specification"),
    ],
)
def test_device_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        devices.parse_device(text)


def test_device_rule() -> None:
    assert devices.parse_rule("c 13:* rw") == DeviceCgroup(
        allow=True, type="c", major=13, minor=None, access="rw"
    )


@pytest.mark.parametrize("text", ["c 1:3", "x 1:3 r", "c 1 r", "c 1:-1 r", "c 1:3 q", ""])
def test_device_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid device cgroup format"):
        devices.parse_rule(text)


def test_the_default_rules_deny_first_and_leave_the_host_s_console_out() -> None:
    assert devices.DEFAULT_RULES[0] == DeviceCgroup(allow=False)
    usable = {(rule.major, rule.minor) for rule in devices.DEFAULT_RULES if "r" in rule.access}
    assert usable == {
        (None, None), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None),
    }  # fmt: skip


def test_console_and_ptmx_of_the_host_are_not_made() -> None:
    listed = (
        Device(type="c", path="/dev/console", major=5, minor=1),
        Device(type="c", path="/dev/ptmx", major=5, minor=2),
    )
    made = [each.values[0] for each in devices.node_ops(listed, bound=False)]

    assert "/dev/console" not in made
    assert "/dev/ptmx" not in made


def test_joins_are_in_the_order_of_what_allows_what() -> None:
    linux = Linux(
        namespaces=(
            Namespace(type="mount"),
            Namespace(type="network", path="/n"),
            Namespace(type="user", path="/u"),
        )
    )

    assert namespaces.setting_ops(linux) == [
        op("namespaces", 0x20000),
        op("join", 0x10000000, "/u"),
        op("join", NEWNET, "/n"),
    ]


@pytest.mark.parametrize(
    ("linux", "words"),
    [
        (Linux(namespaces=(Namespace(type="nosuch"),)), "unknown namespace type 'nosuch'"),
        (Linux(namespaces=(Namespace(type="mount"), Namespace(type="mount"))), "duplicated"),
        (Linux(namespaces=(Namespace(type="mount"), Namespace(type="user"))), "uidMappings"),
        (
            Linux(
                namespaces=(Namespace(type="mount"),),
                uid_mappings=(IdMapping(container_id=0, host_id=0, size=1),),
            ),
            "need a user namespace",
        ),
    ],
)
def test_namespaces_are_refused(linux: Linux, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        namespaces.setting_ops(linux)


def test_the_environment_is_docker_s() -> None:
    assert defaults.environment(
        ("A=1", "PATH=/mine"), hostname="box", home="/root", terminal=True
    ) == ("PATH=/mine", "HOSTNAME=box", "TERM=xterm", "A=1", "HOME=/root")


def test_a_wanted_home_stays_and_a_bare_name_takes_a_variable_away() -> None:
    assert defaults.environment(("HOME=/h", "A=1", "A"), home="/root") == (
        defaults.PATH,
        "HOME=/h",
    )


def test_thermal_throttle_of_each_processor_is_masked_where_there_is_one(tmp_path: Path) -> None:
    assert defaults.masked_paths(str(tmp_path)) == defaults.MASKED_PATHS
    for name in ("cpu10", "cpu0", "cpu2", "cpufreq"):
        (tmp_path / name / "thermal_throttle").mkdir(parents=True)

    assert defaults.masked_paths(str(tmp_path))[len(defaults.MASKED_PATHS) :] == tuple(
        f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in (0, 2, 10)
    )
