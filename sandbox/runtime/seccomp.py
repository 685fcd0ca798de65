"""Which filter a container gets, and the cache of compiled ones.

A filter is compiled once for a profile, a set of capabilities, a processor and a
kernel; afterwards a start reads its bytes.  The profile itself and libseccomp are
only loaded when the cache does not have it: both cost more than the rest of a
start.

    <cache>/seccomp/         0700, this user's
      docker-3-40000-x86_64-6.1.0-18-amd64.bpf     struct sock_filter after another

A file that somebody else owns or may write, or that is no whole number of
instructions, is not used but made anew.
"""

from __future__ import annotations

import os

from .. import cachefile
from . import capabilities
from .launch import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Raised whenever the profile or the way it is compiled changes.
PROFILE = "docker-3"
INSTRUCTION_BYTES = 8
MAX_BYTES = 4096 * INSTRUCTION_BYTES

# Those that the profile asks for; others make no difference to the filter.
RELEVANT = capabilities.to_bits(
    (
        "CAP_BPF",
        "CAP_DAC_READ_SEARCH",
        "CAP_PERFMON",
        "CAP_SYSLOG",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_CHROOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_NICE",
        "CAP_SYS_PACCT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
    )
)


def default_filter(cache: str, held: Iterable[str]) -> Filter:
    """The default profile's filter for a process that can have these capabilities."""
    bits = capabilities.to_bits(held) & RELEVANT
    host = os.uname()
    path = f"{cache}/seccomp/{PROFILE}-{bits:x}-{host.machine}-{host.release}.bpf"
    program = read_program(path)
    if program is None:
        from .seccomp_profile import compile_default

        program = compile_default(bits, host.machine)
        cachefile.write(path, program)
    return Filter(program=program)


def from_file(path: str, held: Iterable[str]) -> Filter:
    """The filter of ``--security-opt seccomp=FILE``: a profile in docker's JSON."""
    from .seccomp_profile import load_profile

    return load_profile(path, held)


def read_program(path: str) -> bytes | None:
    """The bytes of a cached filter, None when there is none to be trusted."""
    program = cachefile.read(path, max_bytes=MAX_BYTES)
    return program if program and len(program) % INSTRUCTION_BYTES == 0 else None
