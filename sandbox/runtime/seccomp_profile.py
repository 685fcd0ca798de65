"""Profiles become filter programs: the default one, the specification's, docker's JSON.

The default profile is an allow-list that follows current moby: what it leaves out
answers EPERM, which is the default action; clone3 answers ENOSYS, so that libraries
fall back to clone, whose flags a filter can see.  One thing is stricter: the
``socketcall`` of 32-bit x86 answers ENOSYS, because the address family behind its
pointer cannot be seen, and AF_ALG or AF_VSOCK would come in by it.

System calls newer than libseccomp are decided by number in a few instructions put
before its program: what the profile names is allowed, and anything else answers
ENOSYS as an older kernel would, where the plain EPERM makes new C libraries fail.

Loaded on a cache miss and for profiles of a user's own.
"""

from __future__ import annotations

import os
from _struct import pack
from errno import ENOSYS, EPERM

from ..errors import UsageError
from ..jsontext import decode
from ..oci.spec import Seccomp, Syscall, SyscallArg
from . import capabilities
from .launch import Filter
from .seccomp import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..jsontext import Json
    from ..native import SeccompRule

_ALLOW = "SCMP_ACT_ALLOW"
_REFUSE = "SCMP_ACT_ERRNO"
_ACTIONS = frozenset(
    {
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_LOG",
        "SCMP_ACT_ALLOW",
    }
)
_COMPARISONS = frozenset(f"SCMP_CMP_{word}" for word in "NE LT LE EQ GE GT MASKED_EQ".split())
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}

# uname's machine: libseccomp's names of it and of what its kernel runs besides.
_ARCHITECTURES = {
    "x86_64": ("x86_64", "x86", "x32"),
    "i686": ("x86",),
    "aarch64": ("aarch64", "arm"),
    "armv7l": ("arm",),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x", "s390"),
}
# The kernel's AUDIT_ARCH_* for these, where numbers from 424 on are the same everywhere.
_AUDIT_ARCHITECTURES = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
    "riscv64": 0xC00000F3,
    "ppc64le": 0xC0000015,
    "s390x": 0x80000016,
    "s390": 0x00000016,
}
# docker's profiles name architectures as Go does.
_GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}

# Newer than libseccomp 2.5.4 (Debian 12), by the number that all architectures share.
_NEW_CALLS = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}
_FIRST_NEW_CALL = 451

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listmount listxattr listxattrat
llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename
renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64
umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
io_submit _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2
mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
pkey_mprotect remap_file_pages
"""
_PROCESSES = """
capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid
getresuid32 getrlimit get_robust_list getrusage getsid get_thread_area gettid getuid getuid32
ioprio_get ioprio_set landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open
prctl prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace rseq
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid
setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid
set_thread_area set_tid_address setuid setuid32 times ugetrlimit uretprobe vfork wait4 waitid
waitpid
"""
_SIGNALS = """
alarm kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn tgkill tkill
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer
time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64
"""
_SOCKETS_AND_IPC = """
accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify
mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl
msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop
semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown
socketpair
"""
_SYSTEM = "getrandom sysinfo uname"

_OF_ARM = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
_OF_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "i686": "modify_ldt",
    "aarch64": _OF_ARM,
    "armv7l": _OF_ARM,
    "riscv64": "riscv_flush_icache riscv_hwprobe",
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}

_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount "
        "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog "
        "umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET; NEWTIME is clone3's alone.
_NAMESPACE_FLAGS = 0x7E020000
_AF_ALG = 38
# NFC; then, past AF_VSOCK: KCM, QIPCRTR, SMC, XDP, MCTP.
_LATER_FAMILIES = (39, 41, 42, 43, 44, 45)
# PER_LINUX, PER_LINUX32, each with UNAME26, and the question what it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def default_profile(bits: int, machine: str) -> Seccomp:
    """The default profile for these capabilities on this machine."""
    held = capabilities.to_names(bits)
    names = " ".join(
        (
            _FILES,
            _WAITING,
            _MEMORY,
            _PROCESSES,
            _SIGNALS,
            _TIME,
            _SOCKETS_AND_IPC,
            _SYSTEM,
            _OF_MACHINE.get(machine, ""),
            *[_WITH_CAPABILITY.get(name, "") for name in held],
        )
    ).split()
    calls = []
    if machine in ("x86_64", "i686", "s390x"):
        # First, and by another errno than the default: else the call that libseccomp adds for
        # each socket call below would stand in its place.
        calls.append(Syscall(names=("socketcall",), action=_REFUSE, errno_ret=ENOSYS))
    calls += [
        Syscall(names=tuple(dict.fromkeys(names)), action=_ALLOW),
        # "Greater than AF_VSOCK" would let 2^32 + AF_ALG through, of which the kernel sees AF_ALG.
        _allow_if("socket", 0, "LT", _AF_ALG),
        *[_allow_if("socket", 0, "EQ", family) for family in _LATER_FAMILIES],
        *[_allow_if("personality", 0, "EQ", value) for value in _PERSONALITIES],
    ]
    if "CAP_SYS_ADMIN" not in held:
        # On s390 the flags are the second argument.
        where = 1 if machine == "s390x" else 0
        calls.append(_allow_if("clone", where, "MASKED_EQ", _NAMESPACE_FLAGS))
        calls.append(Syscall(names=("clone3",), action=_REFUSE, errno_ret=ENOSYS))
    return Seccomp(
        default_action=_REFUSE,
        default_errno_ret=EPERM,
        architectures=_architectures(machine),
        syscalls=tuple(calls),
    )


def compile_default(bits: int, machine: str) -> bytes:
    """The default profile's program."""
    return compile_oci(default_profile(bits, machine)).program


def compile_oci(profile: Seccomp) -> Filter:
    """The filter of ``linux.seccomp``, with the newest calls decided before libseccomp's part."""
    # libseccomp and cffi cost more than the rest of a start: only where a filter is compiled.
    from ..native import seccomp_compile

    if profile.listener_path:
        raise UsageError("seccomp: a listener is not supported")
    flags = 0
    for flag in profile.flags:
        if flag not in _FLAGS:
            raise UsageError(f"seccomp: flag {flag} is not supported")
        flags |= _FLAGS[flag]
    default_errno = EPERM if profile.default_errno_ret is None else profile.default_errno_ret
    _check_action(profile.default_action, profile.default_errno_ret)
    rules = [rule for call in profile.syscalls for rule in _rules(call)]
    architectures = profile.architectures or _architectures(os.uname().machine)
    try:
        program = seccomp_compile(
            profile.default_action, rules, architectures, default_errno=default_errno
        )
    except (ValueError, OSError) as error:
        raise UsageError(f"seccomp: the profile cannot be compiled: {error}") from error
    program = prologue(profile, architectures) + program
    if len(program) > MAX_BYTES:
        raise UsageError("seccomp: the profile is too long for the kernel")
    return Filter(program=program, flags=flags)


def prologue(profile: Seccomp, architectures: Sequence[str]) -> bytes:
    """Instructions that decide the calls which libseccomp may not know.

    Nothing unless the profile refuses by errno: another default is no allow-list
    whose gaps need to look like an older kernel.
    """
    known = _audit_architectures(architectures)
    if profile.default_action != _REFUSE or not known:
        return b""
    allowed = sorted(
        _NEW_CALLS[name]
        for call in profile.syscalls
        if call.action == _ALLOW and not call.args
        for name in call.names
        if name in _NEW_CALLS
    )
    decisions: list[tuple[int, int, int, int]] = []
    for first, last in _runs(allowed):
        decisions += [
            (_JUMP_GE, 0, 2, first),
            (_JUMP_GT, 1, 0, last),
            (_RETURN, 0, 0, _RETURN_ALLOW),
        ]
    decisions.append((_RETURN, 0, 0, _RETURN_ERRNO | ENOSYS))
    number = [
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_AND, 0, 0, ~_X32_BIT & 0xFFFFFFFF),
        # Older calls go past the decisions, to libseccomp's program.
        (_JUMP_GE, 0, len(decisions), _FIRST_NEW_CALL),
        *decisions,
    ]
    # Jumps count from the next instruction: the first ones to `number`, the last one past it.
    arch = [(_LOAD, 0, 0, _ARCH_OFFSET)]
    for left, value in zip(range(len(known) - 1, -1, -1), known, strict=True):
        arch.append((_JUMP_EQ, left, 0 if left else len(number), value))
    return b"".join([pack("=HBBI", *each) for each in (*arch, *number)])


# Classic BPF over struct seccomp_data.
_LOAD, _AND, _JUMP_EQ, _JUMP_GT, _JUMP_GE, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x06
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_RETURN_ALLOW, _RETURN_ERRNO = 0x7FFF0000, 0x00050000
_X32_BIT = 0x40000000


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _allow_if(name: str, index: int, word: str, value: int) -> Syscall:
    condition = SyscallArg(index=index, op=f"SCMP_CMP_{word}", value=value)
    return Syscall(names=(name,), action=_ALLOW, args=(condition,))


def _rules(call: Syscall) -> list[SeccompRule]:
    _check_action(call.action, call.errno_ret)
    for arg in call.args:
        if arg.op not in _COMPARISONS or arg.index > 5:
            raise UsageError(f"seccomp: unknown condition {arg.op!r} on argument {arg.index}")
    conditions = [(arg.index, arg.op, arg.value, arg.value_two) for arg in call.args]
    return [(name, call.action, call.errno_ret, conditions) for name in call.names]


def _check_action(action: str, errno: int | None) -> None:
    if action == "SCMP_ACT_NOTIFY":
        raise UsageError("seccomp: SCMP_ACT_NOTIFY is not supported")
    if action not in _ACTIONS:
        raise UsageError(f"seccomp: unknown action {action!r}")
    if errno is not None and errno > 4095:
        raise UsageError(f"seccomp: errno {errno} is out of range")


def _architectures(machine: str) -> tuple[str, ...]:
    return tuple([f"SCMP_ARCH_{name.upper()}" for name in _ARCHITECTURES.get(machine, ())])


def _audit_architectures(names: Iterable[str]) -> list[int]:
    found = [_AUDIT_ARCHITECTURES.get(name.removeprefix("SCMP_ARCH_").lower()) for name in names]
    return [number for number in found if number is not None]


def load_profile(path: str, held: Iterable[str]) -> Filter:
    """The filter of a file in docker's format, for these capabilities and this machine."""
    try:
        with open(path, "rb") as file:
            text = file.read((1 << 20) + 1)
    except OSError as error:
        raise UsageError(
            f"opening seccomp profile ({path}) failed: {(error.strerror or '').lower()}"
        ) from error
    value = decode(text, what=f"seccomp profile {path}", max_bytes=1 << 20)
    return compile_oci(read_profile(value, held, what=path))


def read_profile(
    value: Json, held: Iterable[str], *, what: str, machine: str = "", release: str = ""
) -> Seccomp:
    """What a profile in docker's format comes to here: its conditions are settled.

    A profile in the specification's own format is read as well: it has none.
    """
    from ..oci.spec import parse_record

    if not isinstance(value, dict):
        raise UsageError(f"decoding seccomp profile failed: {what} is not an object")
    host = os.uname()
    machine = machine or host.machine
    here = _Here(held, _GO_ARCHITECTURES.get(machine, machine), release or host.release)
    settled = dict(value)
    calls = value.get("syscalls") or []
    if not isinstance(calls, list):
        raise UsageError(f"decoding seccomp profile failed: {what}: syscalls is not a list")
    kept: list[Json] = []
    for call in calls:
        if isinstance(call, dict):
            if not here.applies(call):
                continue
            if call.get("name") and not call.get("names"):
                call = {**call, "names": [call["name"]]}
        kept.append(call)
    settled["syscalls"] = kept
    if value.get("archMap") and not value.get("architectures"):
        settled["architectures"] = list(_architectures(machine))
    return parse_record(Seccomp, settled, what=f"seccomp profile {what}")


class _Here:
    """What the conditions of a profile are about."""

    def __init__(self, held: Iterable[str], machine: str, release: str) -> None:
        self.held = frozenset(held)
        self.machine = machine
        self.kernel = _version(release)

    def applies(self, call: dict[str, Any]) -> bool:
        """Whether this entry counts here: all of its includes and none of its excludes."""
        includes, excludes = call.get("includes") or {}, call.get("excludes") or {}
        if includes.get("arches") and self.machine not in includes["arches"]:
            return False
        if self.machine in (excludes.get("arches") or ()):
            return False
        if not self.held.issuperset(includes.get("caps") or ()):
            return False
        if not self.held.isdisjoint(excludes.get("caps") or ()):
            return False
        least = includes.get("minKernel")
        if least and self.kernel < _version(least):
            return False
        below = excludes.get("minKernel")
        return not (below and self.kernel >= _version(below))


def _version(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.replace("-", ".").split(".")[:2]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
