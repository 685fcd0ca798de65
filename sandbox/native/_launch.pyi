"""Types of the compiled module, by hand; what they mean is in the headers."""

from collections.abc import Sequence
from typing import Final, Literal, overload

class Array:
    """A C array or pointer, opaque but for `FFI.string` and `FFI.buffer`."""

    def __getitem__(self, index: int) -> int: ...

class Pointer:
    """A pointer to a number or to a pointer."""

    def __getitem__(self, index: int) -> int: ...

class OwnedBytes:
    def __getitem__(self, index: int) -> Array: ...

class Fault:
    kind: int
    error: int
    call: Array
    entry: Array
    problem: Array

class Progress:
    read: int
    entries: int
    cancel: int

class StreamOptions:
    fd: int
    compression: int
    expected_size: int
    max_bytes: int
    max_ratio: int
    ratio_floor: int

class StreamSums:
    size: int
    plain_size: int
    digest: Array
    plain_digest: Array
    compression: int

class TarBounds:
    max_path: int
    max_pax: int
    max_xattr: int
    max_segments: int

class UnpackOptions:
    stream: StreamOptions
    tar: TarBounds
    max_entries: int
    root: int
    flags: int
    opaque_xattr: Array
    uid: int
    gid: int
    uids: IdRanges
    gids: IdRanges
    uid_count: int
    gid_count: int

class IdRange:
    inside: int
    outside: int
    count: int

class IdRanges:
    def __getitem__(self, index: int) -> IdRange: ...

class UnpackResult:
    sums: StreamSums
    entries: int
    content_bytes: int
    passed_over: int
    implied: Array
    implied_bytes: int

class PackOptions:
    dir: int
    entry: Array
    out: int
    name: Array
    flags: int
    overlay: Array
    max_bytes: int
    uids: IdRanges
    gids: IdRanges
    uid_count: int
    gid_count: int

class PackResult:
    entries: int
    bytes: int
    passed_over: int
    changed: int

class ViewBind:
    source: Array
    target: Array
    is_readonly: int
    is_recursive: int

class ViewBinds:
    def __getitem__(self, index: int) -> ViewBind: ...

class ViewOptions:
    lowers: Array
    lower_count: int
    upper: Array
    work: Array
    mount_point: Array
    binds: ViewBinds
    bind_count: int
    disk: int
    flags: int

class ImageDisk:
    path: Array
    fstype: Array
    options: Array
    is_in_use: bool
    call: Array

class FilterCondition:
    argument: int
    op: int
    value: int
    value2: int

class FilterRule:
    name: Array
    action: int
    condition_count: int
    conditions: Sequence[FilterCondition]

class FilterRules:
    def __getitem__(self, index: int) -> FilterRule: ...

class FilterOptions:
    default_action: int
    bad_arch_action: int
    architectures: Array
    architecture_count: int
    rules: FilterRules
    rule_count: int

class FFI:
    NULL: Final[Array]

    @overload
    def new(self, cdecl: Literal["struct fault *"]) -> Fault: ...
    @overload
    def new(self, cdecl: Literal["struct progress *"]) -> Progress: ...
    @overload
    def new(self, cdecl: Literal["struct stream_options *"]) -> StreamOptions: ...
    @overload
    def new(self, cdecl: Literal["struct stream_sums *"]) -> StreamSums: ...
    @overload
    def new(self, cdecl: Literal["struct unpack_options *"]) -> UnpackOptions: ...
    @overload
    def new(self, cdecl: Literal["struct unpack_result *"]) -> UnpackResult: ...
    @overload
    def new(self, cdecl: Literal["struct pack_options *"]) -> PackOptions: ...
    @overload
    def new(self, cdecl: Literal["struct pack_result *"]) -> PackResult: ...
    @overload
    def new(self, cdecl: Literal["struct id_range[]"], init: int) -> IdRanges: ...
    @overload
    def new(self, cdecl: Literal["struct view_options *"]) -> ViewOptions: ...
    @overload
    def new(self, cdecl: Literal["struct imagedisk *"]) -> ImageDisk: ...
    @overload
    def new(self, cdecl: Literal["struct view_bind[]"], init: int) -> ViewBinds: ...
    @overload
    def new(self, cdecl: Literal["struct filter_options *"]) -> FilterOptions: ...
    @overload
    def new(self, cdecl: Literal["struct filter_rule[]"], init: int) -> FilterRules: ...
    @overload
    def new(self, cdecl: Literal["uint32_t[]"], init: Sequence[int]) -> Array: ...
    @overload
    def new(self, cdecl: Literal["char[]"], init: bytes) -> Array: ...
    @overload
    def new(self, cdecl: Literal["uint64_t *", "size_t *"]) -> Pointer: ...
    @overload
    def new(self, cdecl: Literal["uint8_t **"]) -> OwnedBytes: ...
    def string(self, cdata: Array) -> bytes: ...
    def buffer(self, cdata: Array, size: int = ...) -> memoryview: ...

class Lib:
    FAULT_NONE: Final[int]
    FAULT_SYSTEM: Final[int]
    FAULT_DAMAGED: Final[int]
    FAULT_UNSAFE: Final[int]
    FAULT_CANCELLED: Final[int]
    COMPRESSION_DETECT: Final[int]
    COMPRESSION_NONE: Final[int]
    COMPRESSION_GZIP: Final[int]
    COMPRESSION_ZSTD: Final[int]
    UNPACK_APPLY: Final[int]
    UNPACK_ROOTLESS: Final[int]
    PACK_ONE_MOUNT: Final[int]
    PACK_NO_KERNEL: Final[int]
    PACK_SPARSE: Final[int]
    UNPACK_COPY: Final[int]
    UNPACK_OWNED: Final[int]
    UNPACK_STRIPPED: Final[int]
    VIEW_READONLY: Final[int]
    VIEW_VOLATILE: Final[int]
    VIEW_USER_XATTR: Final[int]
    VIEW_HOST_ROOT: Final[int]

    def unpack_layer(
        self, options: UnpackOptions, progress: Progress, result: UnpackResult, fault: Fault
    ) -> int: ...
    def unpack_result_free(self, result: UnpackResult) -> None: ...
    def stream_copy(
        self,
        options: StreamOptions,
        out_fd: int,
        progress: Progress,
        sums: StreamSums,
        fault: Fault,
    ) -> int: ...
    def pack_tree(
        self, options: PackOptions, progress: Progress, result: PackResult, fault: Fault
    ) -> int: ...
    def tree_remove(self, dir_fd: int, name: bytes) -> int: ...
    def tree_size(
        self, dir_fd: int, size: Pointer, inodes: Pointer, disk_bytes: Pointer
    ) -> int: ...
    def tree_copy(self, from_fd: int, to_fd: int, durable: bool) -> int: ...
    def tree_move(self, from_fd: int, to_fd: int) -> int: ...
    def inroot_open(self, root: int, path: bytes, flags: int, mode: int) -> int: ...
    def view_open(self, options: ViewOptions, fault: Fault) -> int: ...
    def imagedisk_mount(self, disk: ImageDisk) -> int: ...
    def filter_compile(
        self, options: FilterOptions, program: OwnedBytes, size: Pointer, bad_rule: Pointer
    ) -> int: ...
    def filter_free(self, program: Array) -> None: ...
    def filter_architecture(self, name: bytes) -> int: ...

ffi: Final[FFI]
lib: Final[Lib]
