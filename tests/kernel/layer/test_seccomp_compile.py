"""Seccomp profiles become programs that the kernel takes and that do what was said."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys

import pytest

from sandbox.native import seccomp_compile

LOAD = """
import ctypes, os, sys
program = bytes.fromhex(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
fprog = Fprog(len(program) // 8, program)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(fprog)) == 0, ctypes.get_errno()
def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return 0
print(eval(sys.argv[2]))
"""


def under(program: bytes, expression: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD, program.hex(), expression],
        capture_output=True,
        text=True,
        check=False,
    )


def test_denied_call_fails_with_its_errno_and_others_work() -> None:
    program = seccomp_compile(
        "SCMP_ACT_ALLOW",
        [
            ("mkdir", "SCMP_ACT_ERRNO", errno.EXDEV, ()),
            ("mkdirat", "SCMP_ACT_ERRNO", None, ()),
            ("no_such_call_at_all", "SCMP_ACT_ERRNO", None, ()),
            ("getpid", "SCMP_ACT_ALLOW", None, ()),
        ],
        ["SCMP_ARCH_X86_64"],
    )

    done = under(program, "attempt(os.mkdir, '/nowhere/x'), os.getpid() > 0")

    assert done.stdout.strip() == f"({errno.EXDEV}, True)", done.stderr


def test_conditions_on_different_arguments_hold_together() -> None:
    rules = [
        (
            "lseek",
            "SCMP_ACT_ERRNO",
            errno.EDOM,
            [(0, "SCMP_CMP_EQ", 99, 0), (1, "SCMP_CMP_GT", 5, 0)],
        )
    ]
    program = seccomp_compile("SCMP_ACT_ALLOW", rules, ["SCMP_ARCH_X86_64"])

    done = under(program, "attempt(os.lseek, 99, 6, 0), attempt(os.lseek, 99, 5, 0)")

    assert done.stdout.strip() == f"({errno.EDOM}, {errno.EBADF})", done.stderr


def test_conditions_on_one_argument_are_alternatives() -> None:
    rules = [
        (
            "lseek",
            "SCMP_ACT_ERRNO",
            errno.EDOM,
            [(1, "SCMP_CMP_EQ", 7, 0), (1, "SCMP_CMP_MASKED_EQ", 0xF0, 0x30)],
        )
    ]
    program = seccomp_compile("SCMP_ACT_ALLOW", rules, ["SCMP_ARCH_X86_64"])

    done = under(program, "[attempt(os.lseek, 99, n, 0) for n in (7, 0x35, 8)]")

    assert done.stdout.strip() == f"[{errno.EDOM}, {errno.EDOM}, {errno.EBADF}]", done.stderr


def test_allow_list_denies_the_rest_with_the_default_errno() -> None:
    calls = """read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
        ioctl exit_group exit futex getpid openat newfstatat madvise sigaltstack getrandom
        rt_sigreturn mremap""".split()
    program = seccomp_compile(
        "SCMP_ACT_ERRNO",
        [(call, "SCMP_ACT_ALLOW", None, ()) for call in calls],
        ["SCMP_ARCH_X86_64"],
        default_errno=errno.ENOSYS,
    )

    done = under(program, "attempt(os.sethostname if False else os.mkdir, '/x')")

    assert done.stdout.strip() == str(errno.ENOSYS), done.stderr


def test_program_is_made_of_whole_instructions_and_checks_three_architectures() -> None:
    program = seccomp_compile(
        "SCMP_ACT_ERRNO", [("read", "SCMP_ACT_ALLOW", None, ())], ["SCMP_ARCH_X86_64"]
    )

    instructions = list(struct.iter_unpack("<HBBI", program))
    constants = {k for _, _, _, k in instructions}
    assert {0xC000003E, 0x40000003} <= constants  # x86_64 and i386
    assert 0x80000000 in constants  # any other architecture: the process is killed


def test_compiling_twice_gives_the_same_program() -> None:
    rules = [(name, "SCMP_ACT_ALLOW", None, ()) for name in ("read", "write", "close", "clone")]
    first, second = (
        seccomp_compile("SCMP_ACT_ERRNO", rules, ["SCMP_ARCH_X86_64"]) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("default", "rules", "architectures"),
    [
        ("SCMP_ACT_NONSENSE", [], []),
        ("SCMP_ACT_ALLOW", [("read", "SCMP_ACT_NO", None, ())], []),
        ("SCMP_ACT_ALLOW", [("read", "SCMP_ACT_ERRNO", 1, [(0, "SCMP_CMP_NO", 1, 0)])], []),
        ("SCMP_ACT_ALLOW", [], ["SCMP_ARCH_PDP11"]),
    ],
)
def test_unknown_word_is_refused(
    default: str,
    rules: list[tuple[str, str, int | None, list[tuple[int, str, int, int]]]],
    architectures: list[str],
) -> None:
    with pytest.raises(ValueError, match="unknown seccomp"):
        seccomp_compile(default, rules, architectures)


def test_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OSError, match="read"):
        seccomp_compile(
            "SCMP_ACT_ALLOW", [("read", "SCMP_ACT_ERRNO", 1, [(9, "SCMP_CMP_EQ", 1, 0)])], []
        )


def test_every_rule_of_a_long_profile_is_kept() -> None:
    names = ["read", "write", "open", "close", "stat", "fstat", "poll", "mmap", "dup", "pipe"]
    rules = [(name, "SCMP_ACT_ERRNO", n + 1, ()) for n, name in enumerate(names)]

    program = seccomp_compile("SCMP_ACT_ALLOW", rules, ["SCMP_ARCH_X86_64"])

    constants = {k for _, _, _, k in struct.iter_unpack("<HBBI", program)}
    assert {0x50000 | n + 1 for n in range(len(names))} <= constants
