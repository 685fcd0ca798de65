"""What this host can do, found by trying, and the one command that mends what it cannot.

Calls that change the process they are made in are tried in a process of their
own, a bare interpreter.  Nothing is left behind.  Out of scope: deciding what
to do about it; the launch probes for itself and falls back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgroups import Layout

    from ..jsontext import Json
    from ..paths import Paths

MINIMUM_KERNEL = (5, 15)
LOW_DISK = 1 << 30

_NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
# Numbers that all architectures share, and what proves that the call is there: its own
# complaint about arguments that mean nothing (0 is success).
_CALLS = {
    "clone3": (435, "0, 0", (22,), "CLONE_INTO_CGROUP is not used: joins the cgroup by itself"),
    "openat2": (437, '-100, b"/", (ctypes.c_uint64 * 3)(0x200000, 0, 0), 24', (0,), ""),
    "close_range": (436, "~0 & 0xfffffff0, ~0 & 0xfffffff1, 0", (0,), "descriptors one by one"),
    "pidfd_open": (434, "os.getpid(), 0", (0,), "processes by their number"),
    "fsopen": (430, 'b"tmpfs", 0', (0, 1), "mount(2) is used"),
    "open_tree": (428, '-100, b"/", 0', (0,), "mount(2) is used"),
    "mount_setattr": (442, "-1, 0, 0, 0, 0", (22, 14, 9), "mount(2) is used"),
}
_SECCOMP_NUMBERS = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
# What a container's own set is taken from, and what the launch needs.
_NEEDED_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
    "CAP_SETFCAP": 31,
}
_USEFUL_CAPABILITIES = {
    "CAP_SYS_RESOURCE": (24, "limits cannot be raised above this process's own"),
    "CAP_SYS_PTRACE": (19, "the processes of other users cannot be looked into"),
    "CAP_NET_RAW": (13, "containers get no raw sockets: no ping"),
    "CAP_NET_BIND_SERVICE": (10, "containers get no ports below 1024"),
    "CAP_BPF": (39, "device rules of cgroup v2 need it or CAP_SYS_ADMIN"),
}
_CONTROLLERS = ("memory", "cpu", "pids", "cpuset", "freezer", "io", "devices")

_HELPER = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        print(ctypes.get_errno())
        sys.exit()
"""
# In a new user namespace: this user becomes its root.
_MAP = f"""\
for name, text in (
    ("setgroups", "deny"), ("uid_map", "0 {os.geteuid()} 1"), ("gid_map", "0 {os.getegid()} 1")
):
    with open(f"/proc/self/{{name}}", "w") as file:
        file.write(text)
"""


class Probe(Record):
    """One thing tried.  ``needed``: without it nothing runs.  ``fix`` may be empty."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = False

    def document(self) -> dict[str, Json]:
        """The probe as JSON has it."""
        return {
            "name": self.name,
            "ok": self.ok,
            "needed": self.needed,
            "detail": self.detail,
            "fix": self.fix,
        }


def examine(paths: Paths) -> tuple[Probe, ...]:
    """Try everything; some tenths of a second."""
    probes = [_kernel(), *_namespaces(), _overlay(paths), *_calls(), _seccomp()]
    probes += [*_cgroups(), *_capabilities(), *_identities(), _loop(), *_disk(paths)]
    return tuple(probes)


def _kernel() -> Probe:
    release = os.uname().release
    numbers = []
    for part in release.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    return Probe(
        name="kernel",
        ok=tuple(numbers) >= MINIMUM_KERNEL,
        detail=f"{release} on {os.uname().machine}",
        fix="install a kernel of 5.15 or later",
    )


def _try(code: str) -> int:
    """The errno that the code stopped with; 0 when it came to its end."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", _HELPER + code + "\nprint(0)"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
    )
    text = done.stdout.decode().strip()
    return int(text) if text.isdigit() else 5


def _said(number: int) -> str:
    return "works" if number == 0 else os.strerror(number).lower()


def _namespaces() -> Iterator[Probe]:
    rootless = os.geteuid() != 0
    for name, flag in _NAMESPACES.items():
        flags = flag | (_NAMESPACES["user"] if rootless else 0)
        number = _try(f"call('unshare', {flags})")
        yield Probe(
            name=f"{name} namespace",
            ok=number == 0,
            detail=_said(number),
            fix=_namespace_fix(name, rootless=rootless),
            needed=name != "user" or rootless,
        )


def _namespace_fix(name: str, *, rootless: bool) -> str:
    if name != "user" and not rootless:
        return "run as root with CAP_SYS_ADMIN (in a container: --privileged)"
    for path, good in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0"),
    ):
        text = _read(path)
        if text and text != good:
            return f"sysctl -w {path.removeprefix('/proc/sys/').replace('/', '.')}={good}"
    return "sysctl -w user.max_user_namespaces=15000"


def _overlay(paths: Paths) -> Probe:
    place = paths.staging if os.access(paths.staging, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="doctor-", dir=place)
    try:
        for name in ("lower", "upper", "work", "root"):
            os.mkdir(f"{folder}/{name}")
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        flags = _NAMESPACES["mount"] | (_NAMESPACES["user"] if os.geteuid() else 0)
        rootless = os.geteuid() != 0
        number = _try(
            f"call('unshare', {flags})\n"
            + (_MAP if rootless else "")
            + "call('mount', b'none', b'/', None, 0x44000, None)\n"
            f"call('mount', b'overlay', {os.fsencode(folder + '/root')!r}, b'overlay', 0, "
            f"{os.fsencode(options + ',userxattr' * rootless)!r})"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Probe(
        name="overlay",
        ok=number == 0,
        detail=f"{_said(number)} in {place or tempfile.gettempdir()}",
        fix="modprobe overlay"
        if "overlay" not in _read("/proc/filesystems")
        else "choose a store on ext4, xfs, btrfs or tmpfs with --root",
        needed=True,
    )


def _calls() -> Iterator[Probe]:
    for name, (number, arguments, good, instead) in _CALLS.items():
        error = _try(f"call('syscall', {number}, {arguments})")
        ok = error in good
        yield Probe(
            name=name,
            ok=ok,
            detail="works" if ok else f"{_said(error)}{f': {instead}' if instead else ''}",
            fix="a newer kernel, or a seccomp profile around this process that allows it",
            needed=name == "openat2",
        )


def _seccomp() -> Probe:
    number = _SECCOMP_NUMBERS.get(os.uname().machine)
    error = 38
    if number is not None:
        # SECCOMP_GET_ACTION_AVAIL of SECCOMP_RET_ERRNO
        error = _try(f"call('syscall', {number}, 2, 0, ctypes.byref(ctypes.c_uint32(0x50000)))")
    return Probe(
        name="seccomp",
        ok=error == 0,
        detail="filters work" if error == 0 else _said(error),
        fix="a kernel with CONFIG_SECCOMP_FILTER; until then --security-opt seccomp=unconfined",
    )


def _cgroups() -> Iterator[Probe]:
    from cgroups import detect

    layout = detect()
    yield Probe(
        name="cgroups",
        ok=layout.kind != "none",
        detail={
            "unified": "v2",
            "legacy": "v1",
            "hybrid": "v1 controllers beside a v2 tree",
            "none": "not mounted",
        }[layout.kind],
        fix="mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )
    for name in _CONTROLLERS:
        yield _controller(layout, name)


def _controller(layout: Layout, name: str) -> Probe:
    hierarchy = layout.find(name) or layout.find({"io": "blkio"}.get(name, name))
    if hierarchy is None and name in ("devices", "freezer") and layout.kind == "unified":
        how = "by an eBPF program" if name == "devices" else "by cgroup.freeze"
        return Probe(name=f"{name} control", ok=True, detail=how)
    if hierarchy is None:
        return Probe(
            name=f"{name} control",
            ok=False,
            detail="no such controller in any mounted hierarchy",
            fix=f"boot with cgroup_enable={name}"
            if name in ("memory",)
            else f"mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}",
        )
    folder = f"{hierarchy.mount}{hierarchy.own}".rstrip("/")
    trial = f"{folder}/sandbox-doctor-{os.getpid()}"
    try:
        os.mkdir(trial)
        os.rmdir(trial)
    except OSError as error:
        return Probe(
            name=f"{name} control",
            ok=False,
            detail=f"{trial}: {(error.strerror or '').lower()}",
            fix="run as root, or below a delegated group: "
            "systemd-run --user --scope -p Delegate=yes sandbox ...",
        )
    version = "v2" if hierarchy.version == 2 else "v1"
    return Probe(name=f"{name} control", ok=True, detail=f"{version} at {hierarchy.mount}")


def _capabilities() -> Iterator[Probe]:
    held = 0
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    if os.geteuid() != 0:
        yield Probe(name="capabilities", ok=True, detail="those of a user namespace are used")
        return
    missing = [name for name, bit in _NEEDED_CAPABILITIES.items() if not held >> bit & 1]
    yield Probe(
        name="capabilities",
        ok=not missing,
        detail=f"lacks {', '.join(missing)}" if missing else "all that a launch needs",
        fix="inside another container, start that one with --privileged",
    )
    for name, (bit, loss) in _USEFUL_CAPABILITIES.items():
        has = bool(held >> bit & 1) or (name == "CAP_BPF" and bool(held >> 21 & 1))
        yield Probe(
            name=name,
            ok=has,
            detail="held" if has else f"withheld: {loss}",
            fix=f"start the surrounding container or service with --cap-add {name[4:]}",
        )


def _identities() -> Iterator[Probe]:
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    for path in ("/etc/subuid", "/etc/subgid"):
        lines = [line for line in _read(path).splitlines() if line.split(":")[0] == user]
        ranges = [line.split(":")[1:] for line in lines if line.count(":") == 2]
        enough = any(length.isdigit() and int(length) >= 65536 for _, length in ranges)
        is_root = os.geteuid() == 0
        yield Probe(
            name=path,
            ok=enough or is_root,
            detail=f"{user} has {', '.join(':'.join(each) for each in ranges)}"
            if ranges
            else "root needs no range"
            if is_root
            else f"no range for {user}",
            fix=f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
        )
    program = shutil.which("newuidmap")
    yield Probe(
        name="newuidmap",
        ok=bool(program) or os.geteuid() == 0,
        detail=program or "not installed; only needed without root",
        fix="apt-get install uidmap",
    )


def _loop() -> Probe:
    path = "/dev/loop-control"
    ok = os.access(path, os.R_OK | os.W_OK)
    why = "not permitted" if os.path.exists(path) else "not there"
    return Probe(
        name="loop devices",
        ok=ok,
        detail="work" if ok else f"{path} is {why}: --storage-opt size= cannot be enforced",
        fix="run as root" if os.path.exists(path) else "modprobe loop",
    )


def _disk(paths: Paths) -> Iterator[Probe]:
    for name, path in (("store", paths.root), ("run folder", paths.run)):
        there = path
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        facts = os.statvfs(there)
        free = facts.f_bavail * facts.f_frsize
        writable = os.access(there, os.W_OK)
        enough = free >= LOW_DISK or name != "store"
        yield Probe(
            name=name,
            ok=writable and enough,
            detail=f"{path}: {free >> 20} MiB free" if writable else f"{there} is not writable",
            fix="choose another with --root and --run"
            if not writable
            else "sandbox rm, sandbox rmi",
            needed=not writable,
        )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip()
    except OSError:
        return ""
