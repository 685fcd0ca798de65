"""The filters, by running their programs on made-up system calls."""

from __future__ import annotations

import os
from errno import ENOSYS, EPERM
from pathlib import Path
from typing import Any

import pytest
from kit import bpf

from sandbox import cachefile
from sandbox.errors import DamagedDocument, UsageError
from sandbox.jsontext import encode
from sandbox.oci.spec import Seccomp, Syscall, SyscallArg, parse_record, record_to_json
from sandbox.runtime import capabilities, seccomp, seccomp_profile

DEFAULT_BITS = capabilities.to_bits(capabilities.DEFAULT)

X86_64 = {
    "read": 0, "socket": 41, "clone": 56, "ptrace": 101, "personality": 135, "pivot_root": 155,
    "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169, "init_module": 175,
    "delete_module": 176, "quotactl": 179, "acct": 163, "settimeofday": 164, "vhangup": 153,
    "sethostname": 170, "iopl": 172, "ioperm": 173, "syslog": 103, "set_mempolicy": 238,
    "get_mempolicy": 239, "mbind": 237, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308, "kcmp": 312, "finit_module": 313,
    "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "clock_settime": 227, "uselib": 134, "ustat": 136,
    "sysfs": 139, "nfsservctl": 180, "lookup_dcookie": 212, "kexec_file_load": 320,
}  # fmt: skip
I386 = {"read": 3, "mount": 21, "socketcall": 102, "clone": 120, "socket": 359, "bpf": 357}

DENIED_BY_DEFAULT = sorted(
    set(X86_64)
    - {"read", "socket", "clone", "clone3", "ptrace", "personality", "chroot", "openat2"}
)


def filter_for(*names: str) -> bytes:
    return seccomp_profile.compile_default(capabilities.to_bits(names), "x86_64")


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp_profile.compile_default(DEFAULT_BITS, "x86_64")


def test_the_program_is_short_enough_for_the_kernel(program: bytes) -> None:
    assert len(program) % 8 == 0
    assert len(program) <= seccomp.MAX_BYTES


@pytest.mark.parametrize("name", ["read", "ptrace", "chroot", "openat2"])
def test_allowed_by_default(program: bytes, name: str) -> None:
    assert bpf.run(program, X86_64[name]) == bpf.ALLOW


@pytest.mark.parametrize("name", DENIED_BY_DEFAULT)
def test_denied_by_default(program: bytes, name: str) -> None:
    assert bpf.run(program, X86_64[name]) == bpf.errno(EPERM)


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "setns"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_MODULE", "init_module"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_RAWIO", "iopl"),
        ("CAP_SYS_TIME", "settimeofday"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    assert bpf.run(filter_for(), X86_64[name]) != bpf.ALLOW
    assert bpf.run(filter_for(capability), X86_64[name]) == bpf.ALLOW


@pytest.mark.parametrize(
    "name", ["pivot_root", "keyctl", "kexec_load", "userfaultfd", "io_uring_setup"]
)
def test_no_capability_opens_these(name: str) -> None:
    assert bpf.run(filter_for(*capabilities.NAMES), X86_64[name]) == bpf.errno(EPERM)


@pytest.mark.parametrize(
    "flag",
    [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000],
)
def test_clone_makes_no_namespace(program: bytes, flag: int) -> None:
    assert bpf.run(program, X86_64["clone"], (flag | 17,)) == bpf.errno(EPERM)
    assert bpf.run(program, I386["clone"], (flag | 17,), arch=bpf.I386) == bpf.errno(EPERM)
    assert bpf.run(filter_for("CAP_SYS_ADMIN"), X86_64["clone"], (flag,)) == bpf.ALLOW


def test_clone_makes_threads_and_processes(program: bytes) -> None:
    assert bpf.run(program, X86_64["clone"], (17,)) == bpf.ALLOW
    assert bpf.run(program, X86_64["clone"], (0x003D0F00,)) == bpf.ALLOW


def test_clone3_is_not_there_so_that_libraries_use_clone(program: bytes) -> None:
    assert bpf.run(program, X86_64["clone3"]) == bpf.errno(ENOSYS)
    assert bpf.run(program, X86_64["clone3"] | bpf.X32) == bpf.errno(ENOSYS)


@pytest.mark.parametrize("persona", [0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF])
def test_personalities_that_change_nothing_dangerous(program: bytes, persona: int) -> None:
    assert bpf.run(program, X86_64["personality"], (persona,)) == bpf.ALLOW


@pytest.mark.parametrize("persona", [0x40000, 0x400000, 0x1, 0x20009])
def test_other_personalities(program: bytes, persona: int) -> None:
    assert bpf.run(program, X86_64["personality"], (persona,)) == bpf.errno(EPERM)


@pytest.mark.parametrize("family", [1, 2, 10, 16, 17, 37, 39, 41, 44, 45])
def test_socket_families(program: bytes, family: int) -> None:
    assert bpf.run(program, X86_64["socket"], (family,)) == bpf.ALLOW
    assert bpf.run(program, I386["socket"], (family,), arch=bpf.I386) == bpf.ALLOW


@pytest.mark.parametrize("family", [38, 40, (1 << 32) + 38, (1 << 63) + 40, 46, 0xFFFFFFFF])
def test_alg_and_vsock_are_out_of_reach_whatever_the_upper_half(
    program: bytes, family: int
) -> None:
    assert bpf.run(program, X86_64["socket"], (family,)) == bpf.errno(EPERM)
    assert bpf.run(program, X86_64["socket"] | bpf.X32, (family,)) == bpf.errno(EPERM)


@pytest.mark.parametrize("family", [38, 40])
def test_alg_and_vsock_are_out_of_reach_of_32_bit_programs(program: bytes, family: int) -> None:
    assert bpf.run(program, I386["socket"], (family,), arch=bpf.I386) == bpf.errno(EPERM)
    for call in range(1, 21):
        answer = bpf.run(program, I386["socketcall"], (call, family), arch=bpf.I386)
        assert answer == bpf.errno(ENOSYS)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("read", bpf.ALLOW), ("mount", bpf.errno(EPERM)), ("bpf", bpf.errno(EPERM))],
)
def test_32_bit_programs(program: bytes, name: str, answer: int) -> None:
    assert bpf.run(program, I386[name], arch=bpf.I386) == answer


@pytest.mark.parametrize(
    ("name", "answer"),
    [("read", bpf.ALLOW), ("mount", bpf.errno(EPERM)), ("bpf", bpf.errno(EPERM))],
)
def test_x32_programs(program: bytes, name: str, answer: int) -> None:
    assert bpf.run(program, X86_64[name] | bpf.X32) == answer


def test_another_architecture_is_killed(program: bytes) -> None:
    for number in (0, 63, 451):
        assert bpf.run(program, number, arch=bpf.AARCH64) == bpf.KILL_PROCESS


@pytest.mark.parametrize("flags", [{}, {"arch": bpf.I386}])
def test_calls_newer_than_libseccomp(program: bytes, flags: dict[str, Any]) -> None:
    fchmodat2, mseal, lsm_get_self_attr, of_tomorrow = 452, 462, 459, 600

    assert bpf.run(program, fchmodat2, **flags) == bpf.ALLOW
    assert bpf.run(program, mseal, **flags) == bpf.ALLOW
    assert bpf.run(program, lsm_get_self_attr, **flags) == bpf.errno(ENOSYS)
    assert bpf.run(program, of_tomorrow, **flags) == bpf.errno(ENOSYS)


def test_new_calls_of_x32_are_decided_alike(program: bytes) -> None:
    assert bpf.run(program, 452 | bpf.X32) == bpf.ALLOW
    assert bpf.run(program, 600 | bpf.X32) == bpf.errno(ENOSYS)


def test_new_calls_with_a_capability() -> None:
    assert bpf.run(filter_for("CAP_SYS_ADMIN"), 459) == bpf.ALLOW


def test_the_default_profile_survives_being_written_as_a_document() -> None:
    profile = seccomp_profile.default_profile(DEFAULT_BITS, "x86_64")

    again = parse_record(Seccomp, record_to_json(profile), what="profile")

    assert again == profile


# --- profiles of a user's own ---


def oci(default: str, *calls: Syscall, **more: Any) -> bytes:
    profile = Seccomp(
        default_action=default, syscalls=calls, architectures=("SCMP_ARCH_X86_64",), **more
    )
    return seccomp_profile.compile_oci(profile).program


def test_a_deny_list_says_nothing_of_new_calls() -> None:
    denied = oci("SCMP_ACT_ALLOW", Syscall(names=("mount",), action="SCMP_ACT_ERRNO", errno_ret=7))

    assert bpf.run(denied, X86_64["mount"]) == bpf.errno(7)
    assert bpf.run(denied, X86_64["read"]) == bpf.ALLOW
    assert bpf.run(denied, 600) == bpf.ALLOW


def test_conditions_on_one_argument_are_alternatives_on_several_they_hold_together() -> None:
    def when(*args: tuple[int, int]) -> Syscall:
        return Syscall(
            names=("socket",),
            action="SCMP_ACT_ALLOW",
            args=tuple(SyscallArg(index=i, op="SCMP_CMP_EQ", value=v) for i, v in args),
        )

    either = oci("SCMP_ACT_ERRNO", when((0, 1), (0, 2)))
    both = oci("SCMP_ACT_ERRNO", when((0, 1), (1, 2)))

    assert [bpf.run(either, 41, (family,)) for family in (1, 2, 3)] == [
        bpf.ALLOW,
        bpf.ALLOW,
        bpf.errno(EPERM),
    ]
    assert bpf.run(both, 41, (1, 2)) == bpf.ALLOW
    assert bpf.run(both, 41, (1, 3)) == bpf.errno(EPERM)


def test_unknown_names_are_passed_over() -> None:
    allowed = oci("SCMP_ACT_ERRNO", Syscall(names=("no_such", "read"), action="SCMP_ACT_ALLOW"))

    assert bpf.run(allowed, X86_64["read"]) == bpf.ALLOW


def test_flags_are_handed_on() -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG",))

    assert seccomp_profile.compile_oci(profile).flags == 2


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (Seccomp(default_action="SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY is not supported"),
        (Seccomp(default_action="ALLOW"), "unknown action 'ALLOW'"),
        (Seccomp(default_action="SCMP_ACT_ALLOW", flags=("X",)), "flag X is not supported"),
        (Seccomp(default_action="SCMP_ACT_ALLOW", listener_path="/s"), "listener"),
        (Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=5000), "out of range"),
        (
            Seccomp(default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_VAX",)),
            "cannot be compiled",
        ),
        (
            Seccomp(
                default_action="SCMP_ACT_ALLOW",
                syscalls=(
                    Syscall(
                        names=("read",),
                        action="SCMP_ACT_ERRNO",
                        args=(SyscallArg(index=0, op="EQ", value=0),),
                    ),
                ),
            ),
            "unknown condition 'EQ'",
        ),
    ],
)
def test_profiles_are_refused(profile: Seccomp, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        seccomp_profile.compile_oci(profile)


DOCKER_PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["set_tls"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
        {"names": ["iopl"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
    ],
}


@pytest.mark.parametrize(
    ("held", "names"),
    [
        ((), ["read", "write", "clone", "ptrace", "arch_prctl"]),
        (("CAP_SYS_ADMIN",), ["read", "write", "mount", "ptrace", "arch_prctl"]),
    ],
)
def test_conditions_of_docker_s_format_are_settled(held: tuple[str, ...], names: list[str]) -> None:
    profile = seccomp_profile.read_profile(
        DOCKER_PROFILE, held, what="p", machine="x86_64", release="6.1.0-18-amd64"
    )

    assert [name for call in profile.syscalls for name in call.names] == names
    assert profile.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


def test_a_profile_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_bytes(encode(DOCKER_PROFILE))

    loaded = seccomp.from_file(str(file), ())

    assert loaded.program


def test_a_profile_that_is_not_there_is_docker_s_error() -> None:
    with pytest.raises(UsageError, match=r"opening seccomp profile \(/no/such\) failed: no such"):
        seccomp.from_file("/no/such", ())


@pytest.mark.parametrize("text", [b"[]", b"{}", b"{", b'{"defaultAction":1}', b'{"syscalls":{}}'])
def test_a_damaged_profile_is_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "profile.json"
    file.write_bytes(text)

    with pytest.raises((UsageError, DamagedDocument)):
        seccomp.from_file(str(file), ())


# --- the cache ---


def test_the_filter_is_compiled_once_and_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seccomp.default_filter(str(tmp_path), capabilities.DEFAULT)
    monkeypatch.setattr(seccomp_profile, "compile_default", lambda *_: pytest.fail("again"))

    assert seccomp.default_filter(str(tmp_path), capabilities.DEFAULT) == first
    folder = tmp_path / "seccomp"
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


def test_capabilities_that_the_profile_does_not_ask_for_share_a_filter(tmp_path: Path) -> None:
    seccomp.default_filter(str(tmp_path), ("CAP_CHOWN",))
    seccomp.default_filter(str(tmp_path), ("CAP_KILL",))
    seccomp.default_filter(str(tmp_path), ("CAP_SYS_ADMIN",))

    assert len(list((tmp_path / "seccomp").iterdir())) == 2


@pytest.mark.parametrize("fault", ["writable", "cut", "empty", "link", "folder", "foreign"])
def test_a_file_that_cannot_be_trusted_is_not_used(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "x.bpf"
    cachefile.write(str(path), b"12345678")
    assert seccomp.read_program(str(path)) == b"12345678"

    if fault == "writable":
        path.chmod(0o620)
    elif fault == "cut":
        path.write_bytes(b"1234567")
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "link":
        path.rename(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    elif fault == "folder":
        path.unlink()
        path.mkdir()
    elif os.geteuid() == 0:
        os.chown(path, 1, 1)
    else:
        pytest.skip("only root can give a file away")

    assert seccomp.read_program(str(path)) is None


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "seccomp").write_text("in the way")

    assert seccomp.default_filter(str(tmp_path), ()).program
