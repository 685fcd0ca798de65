"""Load a device program and attach it to a group, by bpf(2) through ctypes.

The one user of ctypes here: it costs several milliseconds to import, so nothing
imports this module before a device rule meets a v2 group.
"""

from __future__ import annotations

import ctypes
import os
from struct import pack, unpack_from

# <asm/unistd.h>; the last is the generic table (arm64, riscv64, loongarch64).
_SYSCALL = {"x86_64": 321, "ppc64le": 361, "s390x": 351, "armv7l": 386, "i686": 357}
_GENERIC_SYSCALL = 280

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_TYPE_DEVICE = 6
_ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64
_LICENSE = b"MIT\0"


def replace_program(path: str, program: bytes) -> None:
    """Attach a program in place of those attached here; b"" only takes those away.

    Never is there a moment without one: it is replaced in one step, or stands
    beside the old ones (all have to agree) until they are gone.
    """
    group = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    old: list[int] = []
    try:
        old.extend(_bpf(_PROG_GET_FD_BY_ID, pack("=I", number)) for number in attached(group))
        if program:
            new = load(program)
            try:
                if len(old) == 1:
                    _attach(group, new, flags=_ALLOW_MULTI | _REPLACE, replaces=old[0])
                    return
                _attach(group, new, flags=_ALLOW_MULTI)
            finally:
                os.close(new)
        for descriptor in old:
            _bpf(_PROG_DETACH, pack("=IIII", group, descriptor, _ATTACH_TYPE_DEVICE, 0))
    finally:
        for descriptor in (group, *old):
            os.close(descriptor)


def load(program: bytes) -> int:
    """Have the kernel check a program; the caller owns the descriptor returned."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(_LICENSE)
    return _bpf(
        _PROG_LOAD,
        pack(
            "=IIQQIIQII16s",
            _PROG_TYPE_CGROUP_DEVICE,
            len(program) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(license_text),
            0,  # no verifier log
            0,
            0,
            0,
            0,
            b"cgroup_devices",
        ),
    )


def attached(group: int) -> tuple[int, ...]:
    """The ids of the device programs attached to this very group (a descriptor)."""
    numbers = ctypes.create_string_buffer(4 * _MOST_PROGRAMS)
    attributes = ctypes.create_string_buffer(
        pack(
            "=IIIIQI", group, _ATTACH_TYPE_DEVICE, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS
        ),
        32,
    )
    _call(_PROG_QUERY, attributes)
    (count,) = unpack_from("=I", attributes, 24)
    return unpack_from(f"={count}I", numbers)


def _attach(group: int, program: int, *, flags: int, replaces: int = 0) -> None:
    _bpf(_PROG_ATTACH, pack("=IIIII", group, program, _ATTACH_TYPE_DEVICE, flags, replaces))


def _bpf(command: int, attributes: bytes) -> int:
    return _call(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _call(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _SYSCALL.get(os.uname().machine, _GENERIC_SYSCALL)
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(
        ctypes.c_long(number),
        ctypes.c_int(command),
        attributes,
        ctypes.c_uint(len(attributes)),
    )
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "bpf")
    return result
