"""A seccomp program run in Python: what the kernel would answer to one system call."""

from __future__ import annotations

import struct

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
MAX_STEPS = 4096


def errno(number: int) -> int:
    return 0x00050000 | number


def run(program: bytes, number: int, arguments: tuple[int, ...] = (), *, arch: int = X86_64) -> int:
    """The action for this call."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, arch, 0, *[each & (2**64 - 1) for each in padded])
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    for _ in range(MAX_STEPS):
        op, jump_true, jump_false, value = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif op == 0x54:
            accumulator &= value
        elif op == 0x05:
            at += value
        elif op in _COMPARE:
            at += jump_true if _COMPARE[op](accumulator, value) else jump_false
        elif op == 0x06:
            return value
        else:
            raise AssertionError(f"unknown instruction {op:#x} at {at - 1}")
    raise AssertionError("the program does not end")


_COMPARE = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}
