"""The compiled half, typed: the only importer of ``_launch``.

One thin function for each call, which raises `OSError` with errno and path, or
`Fault` where the C says more than a number.  What it means is said above.  The
interpreter's lock is released during every call.  Importing this loads four shared
libraries (about a millisecond): a hot path imports it where it is needed.
"""

from __future__ import annotations

import os

from ..record import Record
from ._launch import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._launch import Fault as CFault
    from ._launch import IdRanges, StreamOptions, StreamSums

    Condition = tuple[int, str, int, int]
    SeccompRule = tuple[str, str, int | None, Sequence[Condition]]

SYSTEM, DAMAGED, UNSAFE, CANCELLED = (
    lib.FAULT_SYSTEM,
    lib.FAULT_DAMAGED,
    lib.FAULT_UNSAFE,
    lib.FAULT_CANCELLED,
)

_COMPRESSIONS = {
    None: lib.COMPRESSION_DETECT,
    "none": lib.COMPRESSION_NONE,
    "gzip": lib.COMPRESSION_GZIP,
    "zstd": lib.COMPRESSION_ZSTD,
}
_NO_BOUND = (1 << 64) - 1
_COMPRESSION_NAMES = {number: name for name, number in _COMPRESSIONS.items()}


class Fault(Exception):
    """What the C said: ``kind`` is SYSTEM, DAMAGED, UNSAFE or CANCELLED."""

    def __init__(self, *, kind: int, errno: int, call: str, entry: str, problem: str) -> None:
        super().__init__(problem or f"{call}: {os.strerror(errno)}")
        self.kind, self.errno, self.call = kind, errno, call
        self.entry, self.problem = entry, problem


class Progress:
    """Counts that grow while a call in another thread works, and a way to stop it."""

    def __init__(self) -> None:
        self._counts = ffi.new("struct progress *")

    @property
    def read(self) -> int:
        """Compressed bytes so far, or those of the archive that is written."""
        return self._counts.read

    @property
    def entries(self) -> int:
        """Archive entries so far."""
        return self._counts.entries

    @property
    def is_cancelled(self) -> bool:
        """Somebody wants it to end."""
        return bool(self._counts.cancel)

    def cancel(self) -> None:
        """Make the call end soon, with `Fault` of kind CANCELLED."""
        self._counts.cancel = 1


class Sums(Record):
    """A stream and what it inflated to."""

    digest: str
    size: int
    plain_digest: str
    plain_size: int
    compression: str


class StreamBounds(Record):
    """What a compressed stream may grow to."""

    max_bytes: int
    max_ratio: int
    ratio_floor: int


class TarBounds(Record):
    """What one entry of an archive may hold."""

    max_entries: int
    max_path: int
    max_pax: int
    max_xattr: int
    max_segments: int


class CopyRules(Record):
    """How files are copied into a tree that others use.

    ``owner`` (user, group) is given everything, or nothing when it is None.  Ids are
    those of a user namespace with ``uids`` and ``gids``, ranges of (inside, outside,
    count), or the host's without.  ``is_stripped`` passes over what gives rights to
    others: devices, attributes, set-id bits.
    """

    owner: tuple[int, int] | None = None
    uids: tuple[tuple[int, int, int], ...] = ()
    gids: tuple[tuple[int, int, int], ...] = ()
    is_stripped: bool = False


class Unpacked(Record):
    """What became of a layer."""

    sums: Sums
    entries: int
    content_bytes: int
    passed_over: int
    implied: tuple[str, ...]


class Packed(Record):
    """A tree that is an archive now.

    ``passed_over`` counts sockets, and attributes that no archive can name; ``changed``
    the files that were shorter when they were read than a moment before.
    """

    entries: int
    bytes: int
    passed_over: int
    changed: int


def unpack(
    fd: int,
    root_fd: int,
    *,
    compression: str | None,
    expected_size: int | None,
    stream: StreamBounds,
    tar: TarBounds,
    opaque_xattr: str,
    is_applied: bool,
    is_rootless: bool,
    progress: Progress,
    copy: CopyRules | None = None,
) -> Unpacked:
    """Unpack a layer below ``root_fd``; both descriptors are borrowed.  Raises `Fault`.

    With ``copy`` the archive is no layer but files.
    """
    options = ffi.new("struct unpack_options *")
    name = ffi.new("char[]", opaque_xattr.encode())
    _fill(options.stream, fd, compression, expected_size, stream)
    options.tar.max_path = tar.max_path
    options.tar.max_pax = tar.max_pax
    options.tar.max_xattr = tar.max_xattr
    options.tar.max_segments = tar.max_segments
    options.max_entries = tar.max_entries
    options.root = root_fd
    options.flags = (lib.UNPACK_APPLY if is_applied else 0) | (
        lib.UNPACK_ROOTLESS if is_rootless else 0
    )
    options.opaque_xattr = name
    if copy is not None:
        options.flags |= lib.UNPACK_COPY
    copy = copy or CopyRules()
    uids, gids = _ranges(copy.uids), _ranges(copy.gids)
    options.uids, options.uid_count = uids, len(copy.uids)
    options.gids, options.gid_count = gids, len(copy.gids)
    if copy.owner is not None:
        options.flags |= lib.UNPACK_OWNED
        options.uid, options.gid = copy.owner
    if copy.is_stripped:
        options.flags |= lib.UNPACK_STRIPPED
    result = ffi.new("struct unpack_result *")
    fault = ffi.new("struct fault *")
    if lib.unpack_layer(options, progress._counts, result, fault) < 0:
        raise _fault(fault)
    try:
        implied = _names(bytes(ffi.buffer(result.implied, result.implied_bytes)))
    finally:
        lib.unpack_result_free(result)
    return Unpacked(
        sums=_sums(result.sums),
        entries=result.entries,
        content_bytes=result.content_bytes,
        passed_over=result.passed_over,
        implied=implied,
    )


def inflate(
    fd: int,
    out_fd: int,
    *,
    compression: str | None,
    expected_size: int | None,
    stream: StreamBounds,
    progress: Progress,
) -> Sums:
    """Write what ``fd`` inflates to; both descriptors are borrowed.  Raises `Fault`."""
    options = ffi.new("struct stream_options *")
    _fill(options, fd, compression, expected_size, stream)
    sums = ffi.new("struct stream_sums *")
    fault = ffi.new("struct fault *")
    if lib.stream_copy(options, out_fd, progress._counts, sums, fault) < 0:
        raise _fault(fault)
    return _sums(sums)


def pack(
    dir_fd: int,
    out_fd: int,
    *,
    entry: bytes | None = None,
    name: bytes = b"",
    overlay: bytes = b"",
    is_one_mount: bool = False,
    with_kernels: bool = True,
    with_holes: bool = False,
    uids: Sequence[tuple[int, int, int]] = (),
    gids: Sequence[tuple[int, int, int]] = (),
    max_bytes: int = _NO_BOUND,
    progress: Progress | None = None,
) -> Packed:
    """Write what is below ``dir_fd`` as a tar stream; both descriptors are borrowed.

    Without ``entry`` it is the directory itself, otherwise what has that name in it: a
    file, a link or a directory.  ``name`` is what it is called in the archive; a
    directory without a name (and only that) has no entry of its own, and the names
    below it have nothing in front.  ``overlay``, the prefix of overlayfs' attributes, makes it
    a layer: overlayfs' marks become whiteouts.
    With ``is_one_mount`` mounts below it are not entered and show as empty places.
    ``with_holes`` keeps the holes of files, in GNU's format.
    Without ``with_kernels`` nor are file systems that the kernel makes up.  ``uids`` and
    ``gids`` are a user namespace's ranges (inside, outside, count), whose ids the archive
    gets.
    Raises `Fault`; ``out_fd`` holds no archive then.
    """
    options = ffi.new("struct pack_options *")
    kept = [ffi.new("char[]", _whole(text)) for text in (entry or b"", name, overlay)]
    options.dir, options.out = dir_fd, out_fd
    options.entry = ffi.NULL if entry is None else kept[0]
    options.name = kept[1]
    options.overlay = kept[2] if overlay else ffi.NULL
    options.flags = lib.PACK_ONE_MOUNT * is_one_mount | lib.PACK_NO_KERNEL * (not with_kernels)
    options.flags |= lib.PACK_SPARSE * with_holes
    ranges = _ranges(uids), _ranges(gids)
    options.uids, options.uid_count = ranges[0], len(uids)
    options.gids, options.gid_count = ranges[1], len(gids)
    options.max_bytes = max_bytes
    result = ffi.new("struct pack_result *")
    fault = ffi.new("struct fault *")
    if lib.pack_tree(options, (progress or Progress())._counts, result, fault) < 0:
        raise _fault(fault)
    return Packed(
        entries=result.entries,
        bytes=result.bytes,
        passed_over=result.passed_over,
        changed=result.changed,
    )


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path`` as a process chrooted to ``root_fd`` would; magic links are refused.

    The descriptor is the caller's, close-on-exec always.
    """
    fd = lib.inroot_open(root_fd, _encoded(path), flags, mode)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd


def remove_tree(dir_fd: int, name: str) -> None:
    """Delete the file, link or tree ``name`` in ``dir_fd``; it may be gone already.

    Follows no link and enters no other mount (``EXDEV``).
    """
    error = lib.tree_remove(dir_fd, _encoded(name))
    if error < 0:
        raised = OSError(-error, os.strerror(-error), name)
        if not isinstance(raised, FileNotFoundError):
            raise raised


def tree_size(dir_fd: int) -> tuple[int, int]:
    """Apparent bytes of all below ``dir_fd`` that is no directory, each inode once; the inodes."""
    size, inodes, _disk_bytes = _measured(dir_fd)
    return size, inodes


def tree_disk_bytes(dir_fd: int) -> int:
    """What ``dir_fd`` and all below it take of the disk, as du(1) counts: each inode once."""
    return _measured(dir_fd)[2]


def _measured(dir_fd: int) -> tuple[int, int, int]:
    counts = [ffi.new("uint64_t *") for _ in range(3)]
    error = lib.tree_size(dir_fd, *counts)
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return counts[0][0], counts[1][0], counts[2][0]


def copy_tree(from_fd: int, to_fd: int, *, durable: bool) -> None:
    """Make the empty folder ``to_fd`` what ``from_fd`` is, with everything below it.

    Owners, modes, times, extended attributes, hard links and holes are kept; devices
    and sockets are left out; nothing is followed.
    """
    error = lib.tree_copy(from_fd, to_fd, durable)
    if error < 0:
        raise OSError(-error, os.strerror(-error))


def move_tree(from_fd: int, to_fd: int) -> None:
    """Move all that is in one folder into another, which then becomes what the first was.

    What the other has by the same name stays.
    """
    error = lib.tree_move(from_fd, to_fd)
    if error < 0:
        raise OSError(-error, os.strerror(-error))


class Bind(Record):
    """A place of the host that is seen in a container."""

    source: str
    target: str
    is_readonly: bool = False
    is_recursive: bool = False


def open_view(
    lowers: Sequence[str],
    *,
    upper: str = "",
    work: str = "",
    mount_point: str,
    binds: Sequence[Bind] = (),
    is_readonly: bool,
    disk: int = -1,
    is_volatile: bool = False,
    in_user_namespace: bool = False,
    is_host_root: bool = False,
) -> int:
    """The root of a container that does not run, as a tree of mounts that is attached nowhere.

    The descriptor is the caller's; the mounts go with the last one opened through it.
    ``lowers`` are host folders, top first, ``mount_point`` an empty folder.  Some folders may
    lie on ``disk``, a mount that is attached nowhere and goes when the view is made.  Raises
    `Fault`.
    """
    options = ffi.new("struct view_options *")
    lines = b"".join(_encoded(path) + b"\0" for path in lowers)
    paths = (lines, *(_encoded(path) for path in (upper, work, mount_point)))
    texts = [ffi.new("char[]", path) for path in paths]
    options.lowers, options.upper, options.work, options.mount_point = texts
    options.lower_count = len(lowers)
    table = ffi.new("struct view_bind[]", len(binds))
    for number, each in enumerate(binds):
        row = table[number]
        texts += [ffi.new("char[]", _encoded(path)) for path in (each.source, each.target)]
        row.source, row.target = texts[-2:]
        row.is_readonly, row.is_recursive = each.is_readonly, each.is_recursive
    options.binds, options.bind_count = table, len(binds)
    options.disk = disk
    options.flags = (
        lib.VIEW_READONLY * is_readonly
        | lib.VIEW_VOLATILE * is_volatile
        | lib.VIEW_USER_XATTR * in_user_namespace
        | lib.VIEW_HOST_ROOT * is_host_root
    )
    fault = ffi.new("struct fault *")
    fd = lib.view_open(options, fault)
    if fd < 0:
        raise _fault(fault)
    return fd


def mount_disk(path: str, *, fstype: str, options: str, is_in_use: bool) -> int:
    """Mount a file system image; a descriptor of its root, which is attached nowhere.

    One that is mounted already becomes the same file system.  With ``is_in_use`` it must be.
    The mount goes with the last descriptor of it.  Raises `OSError`.
    """
    disk = ffi.new("struct imagedisk *")
    kept = [ffi.new("char[]", _encoded(text)) for text in (path, fstype, options)]
    disk.path, disk.fstype, disk.options = kept
    disk.is_in_use = is_in_use
    fd = lib.imagedisk_mount(disk)
    if fd < 0:
        call = ffi.string(disk.call).decode("ascii")
        raise OSError(-fd, f"{call}: {os.strerror(-fd).lower()}", path)
    return fd


_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_BESIDE = {"SCMP_ARCH_X86_64": ("SCMP_ARCH_X86", "SCMP_ARCH_X32")}
_EPERM = 1


def seccomp_compile(
    default_action: str,
    rules: Sequence[SeccompRule],
    architectures: Sequence[str],
    *,
    default_errno: int = _EPERM,
    bad_arch_action: str = "SCMP_ACT_KILL_PROCESS",
    bad_arch_errno: int = _EPERM,
) -> bytes:
    """Compile a seccomp profile to the kernel's filter program.

    The names are the OCI specification's.  A rule is (system call, action, errno or
    None for EPERM, conditions), a condition (argument, op, value, value2); several
    conditions on one argument are alternatives, on different ones hold together.
    A system call that libseccomp does not know is passed over.  x86_64 brings x86
    and x32 with it, as in docker's profile.  `ValueError` for a word that the
    specification does not have, `OSError` when the rules cannot be compiled.
    """
    expanded = [each for rule in rules for each in _alternatives(rule)]
    numbers = ffi.new("uint32_t[]", _architectures(architectures))
    table = ffi.new("struct filter_rule[]", len(expanded))
    names = [ffi.new("char[]", name.encode()) for name, *_ in expanded]
    for number, (_, action, errno, conditions) in enumerate(expanded):
        row = table[number]
        row.name = names[number]
        row.action = _action(action, errno)
        row.condition_count = len(conditions)
        for cell, condition in zip(row.conditions, conditions, strict=False):
            cell.argument, cell.op = condition[0], _word(_OPS, condition[1])
            cell.value, cell.value2 = condition[2], condition[3]
    options = ffi.new("struct filter_options *")
    options.default_action = _action(default_action, default_errno)
    options.bad_arch_action = _action(bad_arch_action, bad_arch_errno)
    options.architectures = numbers
    options.architecture_count = len(_architectures(architectures))
    options.rules = table
    options.rule_count = len(expanded)
    program, size, bad = ffi.new("uint8_t **"), ffi.new("size_t *"), ffi.new("size_t *")
    error = lib.filter_compile(options, program, size, bad)
    if error < 0:
        about = expanded[bad[0]][0] if bad[0] < len(expanded) else "seccomp"
        raise OSError(-error, os.strerror(-error), about)
    try:
        return bytes(ffi.buffer(program[0], size[0]))
    finally:
        lib.filter_free(program[0])


def _alternatives(rule: SeccompRule) -> list[SeccompRule]:
    name, action, errno, conditions = rule
    if len(conditions) > 6 or len({condition[0] for condition in conditions}) < len(conditions):
        return [(name, action, errno, (condition,)) for condition in conditions]
    return [rule]


def _architectures(names: Sequence[str]) -> list[int]:
    wanted = dict.fromkeys(names)
    for name in names:
        wanted |= dict.fromkeys(_BESIDE.get(name, ()))
    numbers = []
    for name in wanted:
        number = lib.filter_architecture(name.removeprefix("SCMP_ARCH_").lower().encode())
        if not number:
            raise ValueError(f"unknown seccomp architecture {name!r}")
        numbers.append(number)
    return numbers


def _action(name: str, errno: int | None) -> int:
    number = _word(_ACTIONS, name)
    if name in _WITH_NUMBER:
        number |= (_EPERM if errno is None else errno) & 0xFFFF
    return number


def _word(table: dict[str, int], word: str) -> int:
    try:
        return table[word]
    except KeyError:
        raise ValueError(f"unknown seccomp word {word!r}") from None


def _ranges(ranges: Sequence[tuple[int, int, int]]) -> IdRanges:
    table = ffi.new("struct id_range[]", len(ranges))
    for number, (inside, outside, count) in enumerate(ranges):
        row = table[number]
        row.inside, row.outside, row.count = inside, outside, count
    return table


def _fill(
    options: StreamOptions,
    fd: int,
    compression: str | None,
    expected_size: int | None,
    bounds: StreamBounds,
) -> None:
    if compression not in _COMPRESSIONS:
        raise ValueError(f"unknown compression {compression!r}")
    options.fd = fd
    options.compression = _COMPRESSIONS[compression]
    options.expected_size = -1 if expected_size is None else expected_size
    options.max_bytes = bounds.max_bytes
    options.max_ratio = bounds.max_ratio
    options.ratio_floor = bounds.ratio_floor


def _sums(sums: StreamSums) -> Sums:
    return Sums(
        digest="sha256:" + bytes(ffi.buffer(sums.digest)).hex(),
        size=sums.size,
        plain_digest="sha256:" + bytes(ffi.buffer(sums.plain_digest)).hex(),
        plain_size=sums.plain_size,
        compression=_COMPRESSION_NAMES[sums.compression] or "none",
    )


def _fault(fault: CFault) -> Fault:
    return Fault(
        kind=fault.kind,
        errno=fault.error,
        call=_text(ffi.string(fault.call)),
        entry=_text(ffi.string(fault.entry)),
        problem=_text(ffi.string(fault.problem)),
    )


def _names(raw: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(name) for name in raw.split(b"\0")[:-1])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _encoded(path: str) -> bytes:
    return _whole(os.fsencode(path))


def _whole(raw: bytes) -> bytes:
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw
