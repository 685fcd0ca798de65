from __future__ import annotations

from typing import Any

import pytest

from sandbox.errors import DamagedDocument, HostLacks
from sandbox.oci.spec import (
    Capabilities,
    DeviceCgroup,
    Hook,
    IdMapping,
    Memory,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Seccomp,
    Spec,
    User,
    parse_record,
    parse_spec,
    spec_to_json,
)
from sandbox.runtime.defaults import default_spec

# What an engine writes, by a little of everything; a key that is not in the specification too.
DOCUMENT: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]},
        "args": ["sh", "-c", "true"],
        "env": ["A=1"],
        "cwd": "/w",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 18446744073709551615}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": None},
        {
            "destination": "/d",
            "source": "/s",
            "options": ["rbind"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        },
    ],
    "hooks": {"prestart": [{"path": "/bin/hook", "args": ["hook", "x"], "timeout": 5}]},
    "annotations": {"org.example": "yes"},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}],
        "sysctl": {"net.x": "1"},
        "cgroupsPath": "/docker/x",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 5, "disableOOMKiller": True},
            "unified": {"memory.high": "1"},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {
                    "names": ["socket"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 13,
                    "args": [{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "maskedPaths": ["/proc/kcore"],
        "rootfsPropagation": "rslave",
        "newInSomeVersion": {"x": 1},
    },
    "solaris": {},
}


def without_unknown(document: dict[str, Any]) -> dict[str, Any]:
    linux = {key: value for key, value in document["linux"].items() if key != "newInSomeVersion"}
    kept = {key: value for key, value in document.items() if key != "solaris"}
    return {**kept, "linux": linux}


def test_a_document_is_read_into_records() -> None:
    spec = parse_spec(DOCUMENT)

    assert spec.process is not None
    assert spec.process.user == User(uid=1, gid=2, umask=18, additional_gids=(3,))
    assert spec.process.capabilities == Capabilities(
        bounding=("CAP_KILL",), effective=("CAP_KILL",)
    )
    assert spec.process.rlimits == (Rlimit(type="RLIMIT_CORE", soft=0, hard=-1),)
    assert spec.mounts[1] == Mount(
        destination="/d",
        source="/s",
        options=("rbind",),
        uid_mappings=(IdMapping(container_id=0, host_id=1000, size=1),),
    )
    assert spec.linux.namespaces[1] == Namespace(type="network", path="/n")
    assert spec.linux.resources == Resources(
        devices=(DeviceCgroup(allow=False),),
        memory=Memory(limit=5, disable_oom_killer=True),
        unified=(("memory.high", "1"),),
    )
    assert spec.hooks is not None
    assert spec.hooks.prestart == (Hook(path="/bin/hook", args=("hook", "x"), timeout=5),)
    assert spec.annotations == (("org.example", "yes"),)


def test_what_was_read_is_written_again() -> None:
    written = spec_to_json(parse_spec(DOCUMENT))

    assert written["process"]["rlimits"][0]["hard"] == 18446744073709551615
    assert parse_spec(written) == parse_spec(without_unknown(DOCUMENT))


def test_the_default_spec_survives_the_document() -> None:
    spec = default_spec(Process(args=("true",)), hostname="box")

    assert parse_spec(spec_to_json(spec)) == spec


def test_an_empty_document_is_all_defaults() -> None:
    assert parse_spec({}) == Spec()


def test_the_version_is_always_written() -> None:
    assert spec_to_json(Spec()) == {"ociVersion": "1.2.0"}


def test_null_is_what_go_writes_for_nothing() -> None:
    assert parse_spec({"process": None, "mounts": None, "linux": {"sysctl": None}}) == Spec()


def test_one_part_can_be_read_alone() -> None:
    process = parse_record(Process, {"args": ["ls"], "cwd": "/"}, what="process.json")

    assert process == Process(args=("ls",))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "expected an object, not []"),
        ({"hostname": 5}, "hostname: expected a string, not 5"),
        ({"hostname": "a\0b"}, "hostname: has a NUL in it"),
        ({"process": []}, "process: expected an object, not []"),
        ({"process": {"args": "ls"}}, "process.args: expected a list, not 'ls'"),
        ({"process": {"args": ["ls", 1]}}, "process.args[1]: expected a string, not 1"),
        ({"process": {"cwd": "x"}}, "process.cwd: 'x' is not an absolute path"),
        ({"process": {"terminal": 1}}, "process.terminal: expected true or false, not 1"),
        (
            {"process": {"user": {"uid": -1}}},
            "process.user.uid: expected an integer from 0 to 4294967294, not -1",
        ),
        (
            {"process": {"user": {"uid": 4294967295}}},
            "process.user.uid: expected an integer from 0 to 4294967294, not 4294967295",
        ),
        (
            {"process": {"user": {"uid": True}}},
            "process.user.uid: expected an integer from 0 to 4294967294, not True",
        ),
        ({"mounts": [{"type": "proc"}]}, "mounts[0].destination: is missing"),
        ({"mounts": [{"destination": "d"}]}, "mounts[0].destination: 'd' is not an absolute path"),
        ({"root": {}}, "root.path: is missing"),
        ({"annotations": {"a": 1}}, "annotations.a: expected a string, not 1"),
        ({"annotations": []}, "annotations: expected an object, not []"),
        (
            {"linux": {"resources": {"memory": {"limit": 1 << 63}}}},
            f"linux.resources.memory.limit: expected a 64-bit integer, not {1 << 63}",
        ),
        (
            {"linux": {"resources": {"memory": {"limit": 1.5}}}},
            "linux.resources.memory.limit: expected a 64-bit integer, not 1.5",
        ),
        (
            {"hostname": ["x" * 100]},
            f"hostname: expected a string, not ['{'x' * 55}...",
        ),
    ],
)
def test_the_key_that_cannot_be_meant_is_named(document: Any, problem: str) -> None:
    with pytest.raises(DamagedDocument) as caught:
        parse_spec(document, what="config.json")

    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"linux": {"timeOffsets": {"monotonic": {"secs": 5}}}}, "linux.timeOffsets"),
        ({"linux": {"personality": {"domain": "LINUX32"}}}, "linux.personality"),
        ({"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT"}}}, "process.ioPriority"),
        ({"linux": {"resources": {"rdma": {"mlx": {"x": 1}}}}}, "linux.resources.rdma"),
        (
            {"linux": {"resources": {"cpu": {"realtimeRuntime": 5}}}},
            "linux.resources.cpu.realtimeRuntime",
        ),
    ],
)
def test_what_is_known_and_not_carried_out_is_refused(document: Any, key: str) -> None:
    with pytest.raises(HostLacks, match=f"config.json: {key} is not supported"):
        parse_spec(document)


def test_the_zeros_of_what_is_not_carried_out_are_no_wish() -> None:
    zeros = {"cpu": {"realtimeRuntime": 0}, "network": {"classID": 0}, "rdma": {}}

    assert parse_spec({"linux": {"resources": zeros}}).linux.resources is not None


def test_a_whole_number_written_as_a_float_is_one() -> None:
    spec = parse_spec({"linux": {"resources": {"memory": {"limit": 1e9}}}})

    assert spec.linux.resources is not None
    assert spec.linux.resources.memory == Memory(limit=10**9)


def test_a_seccomp_value_keeps_all_64_bits() -> None:
    seccomp = parse_spec(DOCUMENT).linux.seccomp

    assert isinstance(seccomp, Seccomp)
    assert seccomp.syscalls[0].args[0].value == (1 << 64) - 1
