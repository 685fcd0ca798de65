"""Ids, capabilities, seccomp, limits and kernel parameters of the program."""

from __future__ import annotations

import errno
import os
import resource
import struct
from pathlib import Path

import pytest
from kit import launch
from kit.launch import DOCKER_CAPABILITIES, Box, step

from sandbox.native.plan import op

ALLOW = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
# mkdir and mkdirat give EPERM on x86-64 and arm64.
_LOAD = struct.pack("<HBBI", 0x20, 0, 0, 0)
DENY_MKDIR = b"".join(
    (
        _LOAD,
        struct.pack("<HBBI", 0x15, 2, 0, {"x86_64": 83, "aarch64": 34}[os.uname().machine]),
        struct.pack("<HBBI", 0x15, 1, 0, {"x86_64": 258, "aarch64": 34}[os.uname().machine]),
        ALLOW,
        struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | errno.EPERM),
    )
)


def _status(outcome: launch.Outcome) -> dict[str, str]:
    assert outcome.status == 0, outcome
    return dict(line.split(":\t", 1) for line in outcome.out.splitlines() if ":\t" in line)


def _seen(box: Box, *after: launch.Op) -> dict[str, str]:
    return _status(box.run("cat", "/proc/self/status", after=after))


def test_ids_and_groups(box: Box) -> None:
    seen = _seen(box, op("ids", 1000, 1001, (1001, 2000, 3000)))

    assert seen["Uid"].split() == ["1000"] * 4
    assert seen["Gid"].split() == ["1001"] * 4
    assert seen["Groups"].split() == ["1001", "2000", "3000"]


def test_groups_of_the_caller_are_not_inherited(box: Box) -> None:
    assert _seen(box, op("ids", 0, 0, ()))["Groups"].split() == []


@pytest.mark.parametrize(
    ("uid", "gid", "groups"),
    [
        (-1, 0, ()),
        (0, -1, ()),
        (1 << 32, 0, ()),
        (0xFFFFFFFF, 0, ()),
        (0, 0, (-1,)),
        (0, 0, (1 << 40,)),
    ],
)
def test_ids_that_mean_unchanged_or_wrap_are_refused(
    box: Box, uid: int, gid: int, groups: tuple[int, ...]
) -> None:
    outcome = box.run("true", after=(op("ids", uid, gid, groups),))

    assert outcome.failure is not None
    assert (outcome.failure.step, outcome.failure.errno) == (step("ids"), errno.EINVAL)


def test_capabilities_are_what_was_asked_for(box: Box) -> None:
    seen = _seen(
        box, op("capabilities", DOCKER_CAPABILITIES, DOCKER_CAPABILITIES, DOCKER_CAPABILITIES, 0, 0)
    )

    docker = f"{DOCKER_CAPABILITIES:016x}"
    assert (seen["CapBnd"], seen["CapPrm"], seen["CapEff"]) == (docker, docker, docker)
    assert seen["CapInh"] == seen["CapAmb"] == "0" * 16


def test_user_has_no_capabilities_unless_ambient(box: Box) -> None:
    bind = 1 << 10
    ids = op("ids", 1000, 1000, (1000,))
    bound = DOCKER_CAPABILITIES

    plain = _seen(box, ids, op("capabilities", bound, bound, bound, 0, 0))
    ambient = _seen(box, ids, op("capabilities", bound, bind, bind, bind, bind))

    assert (plain["CapEff"], plain["CapPrm"], plain["CapBnd"]) == (
        "0" * 16,
        "0" * 16,
        f"{bound:016x}",
    )
    assert [ambient[key] for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [
        f"{bind:016x}"
    ] * 4


def test_capability_that_is_not_to_be_had_is_an_error(box: Box) -> None:
    everything = (1 << 63) - 1

    outcome = box.run("true", after=(op("capabilities", 0, everything, everything, 0, 0),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("capabilities")


def test_no_new_privileges(box: Box) -> None:
    assert _seen(box)["NoNewPrivs"] == "0"
    assert _seen(box, op("no_new_privileges"))["NoNewPrivs"] == "1"


def test_filter_without_no_new_privileges_comes_before_the_ids(box: Box) -> None:
    after = (
        op("seccomp", DENY_MKDIR, 0),
        op("ids", 1000, 1000, (1000,)),
        op("capabilities", DOCKER_CAPABILITIES, 0, 0, 0, 0),
    )

    outcome = box.shell("mkdir /tmp/x; cat /proc/self/status", after=after)

    assert "Operation not permitted" in outcome.err
    assert _status(outcome)["Seccomp"] == "2"
    assert _status(outcome)["NoNewPrivs"] == "0"


def test_filter_with_no_new_privileges_comes_last(box: Box) -> None:
    after = (
        op("ids", 1000, 1000, (1000,)),
        op("capabilities", 0, 0, 0, 0, 0),
        op("no_new_privileges"),
        op("seccomp", DENY_MKDIR, 0),
    )

    assert "Operation not permitted" in box.shell("mkdir /tmp/x; true", after=after).err


def test_filter_without_authority_is_an_error(box: Box) -> None:
    after = (op("capabilities", 0, 0, 0, 0, 0), op("seccomp", ALLOW, 0))

    outcome = box.run("true", after=after)

    assert outcome.failure is not None
    assert (outcome.failure.step, outcome.failure.errno) == (step("seccomp"), errno.EACCES)


@pytest.mark.parametrize("program", [b"", b"x" * 7, ALLOW * 4097, b"\xff" * 8])
def test_damaged_filter_is_an_error(box: Box, program: bytes) -> None:
    outcome = box.run("true", after=(op("seccomp", program, 0),))

    assert outcome.failure is not None
    assert (outcome.failure.step, outcome.failure.errno) == (step("seccomp"), errno.EINVAL)


def test_limits_are_lowered(box: Box) -> None:
    outcome = box.shell(
        "ulimit -n; ulimit -c",
        after=(
            op("rlimit", resource.RLIMIT_NOFILE, 100, 200),
            op("rlimit", resource.RLIMIT_CORE, 0, 0),
        ),
    )

    assert outcome.out.split() == ["100", "0"]


def test_limit_that_cannot_be_raised_names_the_resource(box: Box) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    drop = op("capabilities", 0, 0, 0, 0, 0)

    outcome = box.run(
        "true", after=(drop, op("rlimit", resource.RLIMIT_NOFILE, hard + 1, hard + 1))
    )

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EPERM
    assert outcome.failure.path == str(resource.RLIMIT_NOFILE)


def test_nice(box: Box) -> None:
    outcome = box.run("cat", "/proc/self/stat", after=(op("nice", 7),))

    assert outcome.out.rpartition(")")[2].split()[16] == "7"


def test_oom_score(any_box: Box) -> None:
    outcome = any_box.run("cat", "/proc/self/oom_score_adj", before=(op("oom_score_adj", 321),))

    assert outcome.out == "321\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_kernel_parameters_are_set_inside_only(any_box: Box, when: str) -> None:
    name = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    outside = Path(name).read_text()
    ops = (
        op("sysctl", "net.ipv4.ip_unprivileged_port_start", "7"),
        op("sysctl", "net/ipv4/ping_group_range", "0  5"),
        op("sysctl", "kernel.msgmax", "4096"),
    )

    outcome = any_box.shell(
        f"cat {name} /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/msgmax", **{when: ops}
    )

    assert outcome.out.split() == ["7", "0", "5", "4096"], outcome
    assert Path(name).read_text() == outside


def test_kernel_parameters_below_a_read_only_proc_sys_go_by_a_procfs_of_our_own(box: Box) -> None:
    ops = (op("readonly", "/proc/sys"), op("sysctl", "net.ipv4.ip_forward", "1"))

    assert box.run("cat", "/proc/sys/net/ipv4/ip_forward", before=ops).out == "1\n"


def test_parameter_is_not_written_to_what_an_image_put_on_proc(box: Box) -> None:
    for name in ("proc/sys/net/ipv4", "dev"):
        (box.image / name).mkdir(parents=True)
    (box.image / "proc/sys/net/ipv4/ip_forward").write_text("untouched\n")

    outcome = box.run(
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        mounts=(),
        before=(op("sysctl", "net.ipv4.ip_forward", "1"),),
    )

    assert outcome.out == "untouched\n"


@pytest.mark.parametrize("name", ["net.ipv4.nonsense", "", "../../etc/passwd", "x" * 600, "kernel"])
def test_unknown_parameter_is_an_error(box: Box, name: str) -> None:
    outcome = box.run("true", before=(op("sysctl", name, "1"),))

    assert outcome.failure is not None
    assert outcome.failure.step == step("sysctl")


def test_value_that_the_kernel_takes_in_part_is_an_error(box: Box) -> None:
    outcome = box.run("true", before=(op("sysctl", "net.ipv4.ip_forward", "1 2 3"),))

    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EINVAL
