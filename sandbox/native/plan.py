"""The launch plan: flat, versioned data; compiled in Python, carried out in C.

A plan is a sequence of operations.  Those below `FIRST_INIT_OP` are settings
of the monitor, read before anything is made; the others are carried out by
init, in their order, between ``clone`` and ``execve``.  `OPS` is the one table
of what operations there are; ``launch.h`` repeats the numbers for C and a test
compares the two.

Bytes: a 24-byte header (magic ``SBXPLAN\\0``, u32 version, u32 size of the whole
plan, u32 number of operations, u32 zero), then for each operation u32 code,
u32 size of what follows, and its fields.  Everything is little-endian and every
field starts and ends on a multiple of eight bytes:

    i   integer       s64
    s   string        u32 length, bytes, NUL, padding; holds no NUL of its own
    b   bytes         the same, and may hold NULs
    v   strings       u32 count, u32 size of the rest, each string with its NUL, padding
    l   integers      u32 count, u32 zero, s64 each
"""

from __future__ import annotations

from _struct import Struct, pack

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    Value: TypeAlias = "int | str | bytes | Sequence[str] | Sequence[int]"

MAGIC = b"SBXPLAN\0"
VERSION = 1
MAX_BYTES = 4 << 20
FIRST_INIT_OP = 100

# name: (code, kinds of its fields, names of its fields)
OPS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    # --- settings of the monitor ---
    "id": (1, "s", ("id",)),
    "folders": (2, "sss", ("state", "run", "mount_point")),
    # flags: STDIO_*; size of the terminal
    "stdio": (3, "iii", ("flags", "rows", "columns")),
    # kept output: path of the current file, bytes a file, number of files
    "log": (4, "sii", ("path", "max_bytes", "max_files")),
    # 0 is no limit
    "limits": (5, "iii", ("wall_ms", "cpu_us", "output_bytes")),
    # one a hierarchy; version 1 or 2, controllers joined by commas
    "cgroup": (6, "iss", ("version", "controllers", "path")),
    # CLONE_NEW* flags for clone3 (CLONE_NEWCGROUP is an operation of init)
    "namespaces": (7, "i", ("flags",)),
    # join an existing namespace: CLONE_NEW* and a /proc/PID/ns/ or pinned path
    "join": (8, "is", ("kind", "path")),
    # text for uid_map and gid_map, as in user_namespaces(7)
    "id_map": (9, "ss", ("uid_map", "gid_map")),
    # flags: LIFETIME_*
    "lifetime": (10, "i", ("flags",)),
    # what the monitor becomes when all is over and the launcher is not there to know
    # (removes an --rm container)
    "exit_command": (11, "vv", ("argv", "env")),
    # policy: a place in RESTART_POLICIES; most restarts, 0 for no bound
    "restart": (12, "ii", ("policy", "max")),
    # a file system image for the writable layer, mounted through a loop device; its folders
    # "upper" and "work" take the place of root_overlay's when those are empty
    "disk": (13, "sss", ("path", "fstype", "options")),
    # join every namespace of this process instead of making any: an exec in its container, whose
    # groups stay somebody else's; the start time in clock ticks says that it is the very process
    "enter": (14, "ii", ("pid", "start_time")),
    # ask now and then whether the container is well: the plan of an exec, whose "enter" has zeros
    # for the monitor to fill in
    "health": (
        15,
        "biiiii",
        (
            "plan",
            "interval_ms",
            "timeout_ms",
            "retries",
            "start_period_ms",
            "start_interval_ms",
        ),
    ),
    # the log that the container's events are appended to; exec_id is empty but for an exec
    "events": (16, "ss", ("path", "exec_id")),
    # a pair of links, one operation each: ``link`` on the host, a port of ``bridge`` (made anew, it
    # has another index, which is filled in at each start), ``name`` in the container; flags:
    # ENDPOINT_*; the others are rtnetlink messages in a row.  make is for the monitor, in the
    # host's network: the first makes the pair, and its last four bytes are for the descriptor of
    # the container's network (IFLA_NET_NS_FD).  plumb is for init, in the container's, with
    # the operation "network": an address on the link 0 is one of ``name``.  settle is for init,
    # in the host's: questions, so that the kernel looks at its links at once.
    "endpoint": (17, "sssibbb", ("link", "name", "bridge", "flags", "make", "plumb", "settle")),
    # how many descriptors came over the launch socket, for the monitor to hold open
    "keep": (18, "i", ("count",)),
    # --- operations of init ---
    # mount(2) propagation flags for "/"
    "propagation": (100, "i", ("flags",)),
    # lowers: host paths, top first; flags: OVERLAY_*
    "root_overlay": (101, "vssi", ("lowers", "upper", "work", "flags")),
    # a plain folder as the root; flags: OVERLAY_READONLY
    "root_bind": (102, "si", ("path", "flags")),
    # a new file system; options are "key=value" or "flag"; flags: MOUNT_*
    "mount": (103, "sssivi", ("fstype", "source", "target", "attributes", "options", "flags")),
    # a host folder or file; attributes: MOUNT_ATTR_*; propagation: MS_*; flags: MOUNT_*
    "bind": (
        104,
        "ssiii",
        ("source", "target", "attributes", "propagation", "flags"),
    ),
    "mask": (105, "s", ("path",)),
    "readonly": (106, "s", ("path",)),
    "mkdir": (107, "siii", ("path", "mode", "uid", "gid")),
    "symlink": (108, "ss", ("target", "path")),
    # mode has the S_IFMT bits
    "mknod": (109, "siiiii", ("path", "mode", "major", "minor", "uid", "gid")),
    # make the pty from the container's own devpts, bind it on /dev/console, hand over the master
    "console": (110, "ii", ("uid", "gid")),
    "pivot": (111, "", ()),
    "root_readonly": (112, "", ()),
    # name with dots or slashes below /proc/sys
    "sysctl": (113, "ss", ("name", "value")),
    "hostname": (114, "s", ("name",)),
    "domainname": (115, "s", ("name",)),
    "loopback_up": (116, "", ()),
    "oom_score_adj": (117, "i", ("value",)),
    # -1 is RLIM_INFINITY
    "rlimit": (118, "iii", ("resource", "soft", "hard")),
    # flags: WORKDIR_*
    "workdir": (119, "si", ("path", "flags")),
    "umask": (120, "i", ("mask",)),
    # a new session keyring of this name
    "keyring": (121, "s", ("name",)),
    # setgroups, setresgid, setresuid; all capabilities are kept until "capabilities"
    "ids": (122, "iil", ("uid", "gid", "groups")),
    # bit sets, bit n is capability n; bounding first, then the others
    "capabilities": (
        123,
        "iiiii",
        ("bounding", "effective", "permitted", "inheritable", "ambient"),
    ),
    "no_new_privileges": (124, "", ()),
    # an array of struct sock_filter; flags: SECCOMP_FILTER_FLAG_*
    "seccomp": (125, "bi", ("program", "flags")),
    # program is looked up in env's PATH inside the root; flags: EXEC_*
    "exec": (126, "vvi", ("argv", "env", "flags")),
    # unshare(CLONE_NEWCGROUP), after the groups were joined
    "cgroup_namespace": (127, "", ()),
    # sched affinity is the cpuset's; nice value for setpriority
    "nice": (128, "i", ("value",)),
    # wait for the links of the endpoints and set them up; nothing without endpoints.  As the last
    # operation, in a container that is entered: no program, and an end with 0
    "network": (129, "", ()),
}

RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")  # by number

STDIO_TTY = 1  # a pty instead of pipes
STDIO_STDIN = 2  # stdin is open; without it the container reads /dev/null
STDIO_STDIN_ONCE = 4  # stdin closes when the first client's does

LIFETIME_WITH_LAUNCHER = 1  # everything dies when the launcher's socket closes

OVERLAY_VOLATILE = 1  # no fsync: the writable layer does not outlive the run
OVERLAY_READONLY = 2  # the root is read-only in the end
OVERLAY_HOST_ROOT = 4  # the lowest layer is the host's "/": stack a second overlay over it
OVERLAY_IDMAPPED = 8  # layers are mounted id-mapped, by the plan's id_map

MOUNT_OPTIONAL = 1  # a file system that this kernel does not have is left out
MOUNT_RECURSIVE = 2  # bind: what is mounted below comes along
MOUNT_RECURSIVE_ATTRIBUTES = 4  # bind: attributes hold for everything below
MOUNT_IDMAPPED = 8  # bind: id-mapped, by the plan's id_map
MOUNT_NO_CREATE = 16  # the target must exist already
MOUNT_COPY_UP = 32  # a tmpfs is filled with what the image has at the target

WORKDIR_CREATE = 1

ENDPOINT_IPV6 = 1  # the link has IPv6; without it, it has none at all

EXEC_INIT = 1  # a small reaper stays as process 1 and the program is its child

_pack_integer = Struct("<q").pack
_pack_length = Struct("<I").pack
_pack_head = Struct("<II").pack
_HEADER = Struct("<8sIIII")  # magic, version, size, number of operations, zero

_MESSAGES = ("make", "plumb", "settle")  # fields that are rtnetlink messages
_NETLINK = Struct("<IH")  # length, type
_NETLINK_WORDS = {
    16: "new link",
    18: "get link",
    19: "set link",
    20: "new address",
    24: "new route",
}

# What ends a string whose length and bytes leave this remainder: its NUL, and padding.
_ENDS = tuple(b"\0" * (8 - remainder) for remainder in range(8))


class Op(Record):
    """One operation: its name in `OPS` and its fields, in order."""

    name: str
    values: tuple[Value, ...]


def op(name: str, *values: Value) -> Op:
    """An operation; a wrong number of fields is a `ValueError`."""
    if len(values) != len(OPS[name][1]):
        raise ValueError(f"{name} takes {len(OPS[name][1])} fields, not {len(values)}")
    return Op(name=name, values=values)


def encode(ops: Iterable[Op]) -> bytes:
    """The plan's bytes.  A string with a NUL in it is a `ValueError`."""
    parts = [b""]
    put = parts.append
    size, count = 24, 0
    for each in ops:
        code, kinds, _names = OPS[each.name]
        fields = []
        for kind, value in zip(kinds, each.values, strict=True):
            # The two kinds that nearly all fields are have no function of their own: this loop
            # is a measurable part of every start.
            if kind == "i" and type(value) is int:
                fields.append(_pack_integer(value))
            elif kind == "s" and type(value) is str and "\0" not in value:
                data = value.encode("utf-8", "surrogateescape")
                length = len(data)
                fields.append(_pack_length(length) + data + _ENDS[(length + 4) % 8])
            else:
                fields.append(_ENCODERS[kind](value))
        body = b"".join(fields)
        put(_pack_head(code, len(body)))
        put(body)
        size += 8 + len(body)
        count += 1
    if size > MAX_BYTES:
        raise ValueError(f"the launch plan has {size} bytes, more than {MAX_BYTES}")
    parts[0] = _HEADER.pack(MAGIC, VERSION, size, count, 0)
    return b"".join(parts)


def with_settings(plan: bytes, ops: Iterable[Op]) -> bytes:
    """An encoded plan with more settings: what differs from start to start of one template.

    The operations are settings of the monitor (codes below `FIRST_INIT_OP`), and
    they come before those that the plan has; which ones it has is not looked at.
    """
    more = encode(ops)
    _, version, size, count, _ = _HEADER.unpack_from(plan)
    _, _, more_size, more_count, _ = _HEADER.unpack_from(more)
    size += more_size - _HEADER.size
    if size > MAX_BYTES:
        raise ValueError(f"the launch plan has {size} bytes, more than {MAX_BYTES}")
    head = _HEADER.pack(MAGIC, version, size, count + more_count, 0)
    return b"".join((head, more[_HEADER.size :], plan[_HEADER.size :]))


def describe(ops: Iterable[Op]) -> str:
    """One line an operation, for ``--debug`` and for comparing plans."""
    return "".join(_line(each) for each in ops)


def _line(each: Op) -> str:
    _code, kinds, names = OPS[each.name]
    fields = []
    for name, kind, value in zip(names, kinds, each.values, strict=True):
        if kind == "i":
            hexadecimal = name in ("flags", "attributes") and isinstance(value, int) and value > 9
            text = f"{value:#x}" if hexadecimal else str(value)
        elif kind == "b":
            text = _described(name, value if isinstance(value, bytes) else b"")
        else:
            text = repr(value)
        fields.append(f" {name}={text}")
    return f"{each.name}{''.join(fields)}\n"


def _described(name: str, value: bytes) -> str:
    if name not in _MESSAGES:
        return f"<{len(value)} bytes>"
    words = []
    at = 0
    while at + 16 <= len(value):
        length, kind = _NETLINK.unpack_from(value, at)
        words.append(_NETLINK_WORDS.get(kind, str(kind)))
        at += max(length, 16)
    return f"<{len(words)} messages: {', '.join(words)}>" if words else "<no messages>"


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 8)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    raise ValueError(f"{value!r} is not a string")


def _string(value: object) -> bytes:
    data = _bytes(value)
    if b"\0" in data:
        raise ValueError(f"{value!r} has a NUL in it")
    return data


def _encode_integer(value: Value) -> bytes:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not an integer")
    return pack("<q", value)


def _encode_string(value: Value) -> bytes:
    data = _string(value)
    return _pad(pack("<I", len(data)) + data + b"\0")


def _encode_bytes(value: Value) -> bytes:
    data = _bytes(value)
    return _pad(pack("<I", len(data)) + data + b"\0")


def _encode_strings(value: Value) -> bytes:
    if isinstance(value, (int, str, bytes)):
        raise ValueError(f"{value!r} is not a sequence of strings")
    rest = b"".join([_string(item) + b"\0" for item in value])
    return _pad(pack("<II", len(value), len(rest)) + rest)


def _encode_integers(value: Value) -> bytes:
    if isinstance(value, (int, str, bytes)):
        raise ValueError(f"{value!r} is not a sequence of integers")
    return pack(f"<II{len(value)}q", len(value), 0, *value)


_ENCODERS = {
    "i": _encode_integer,
    "s": _encode_string,
    "b": _encode_bytes,
    "v": _encode_strings,
    "l": _encode_integers,
}
