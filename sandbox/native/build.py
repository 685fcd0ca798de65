"""Build ``sandbox.native._launch``, the compiled half of ``sandbox.native``.

``python sandbox/native/build.py`` builds it in place; a packaging back end calls
``ffibuilder.compile(tmpdir=ROOT)``.  ``SANDBOX_SANITIZE=address,undefined`` makes
a build for tests (the interpreter then needs the sanitizer preloaded).  The
monitor is a program of its own and is not built here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from cffi import FFI

MODULE = "sandbox.native._launch"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = (
    "pack.c",
    "tarwriter.c",
    "unpack.c",
    "unpackdirs.c",
    "whiteouts.c",
    "tar.c",
    "pax.c",
    "sparse.c",
    "inflate.c",
    "tree.c",
    "copytree.c",
    "inroot.c",
    "overlay.c",
    "imagedisk.c",
    "view.c",
    "filter.c",
)
LIBRARIES = ("isal", "zstd", "crypto", "seccomp")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
HARDENING = (
    "-O2",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    "-fstack-protector-strong",
    "-fvisibility=hidden",
)
LINKING = ("-Wl,-z,relro,-z,now", "-Wl,--as-needed")

# What Python sees of the headers: spelled as there, "..." where Python need not know.
DECLARATIONS = """
enum { FAULT_NONE, FAULT_SYSTEM, FAULT_DAMAGED, FAULT_UNSAFE, FAULT_CANCELLED };
struct fault { int kind; int error; char call[24]; char entry[4097]; char problem[200]; };

enum { COMPRESSION_DETECT, COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };
struct progress { uint64_t read; uint64_t entries; int cancel; };
struct stream_options {
    int fd;
    int compression;
    int64_t expected_size;
    uint64_t max_bytes;
    uint64_t max_ratio;
    uint64_t ratio_floor;
};
struct stream_sums {
    uint64_t size;
    uint64_t plain_size;
    uint8_t digest[32];
    uint8_t plain_digest[32];
    int compression;
};
int stream_copy(const struct stream_options *, int out_fd, struct progress *,
                struct stream_sums *, struct fault *);

struct tar_bounds {
    uint32_t max_path; uint32_t max_pax; uint32_t max_xattr; uint32_t max_segments;
};

struct id_range { uint32_t inside; uint32_t outside; uint32_t count; };

enum {
    UNPACK_APPLY = 1, UNPACK_ROOTLESS = 2, UNPACK_COPY = 4, UNPACK_OWNED = 8, UNPACK_STRIPPED = 16
};
struct unpack_options {
    struct stream_options stream;
    struct tar_bounds tar;
    uint64_t max_entries;
    int root;
    int flags;
    const char *opaque_xattr;
    uint32_t uid;
    uint32_t gid;
    const struct id_range *uids;
    const struct id_range *gids;
    uint32_t uid_count;
    uint32_t gid_count;
};
struct unpack_result {
    struct stream_sums sums;
    uint64_t entries;
    uint64_t content_bytes;
    uint64_t passed_over;
    char *implied;
    uint64_t implied_bytes;
};
int unpack_layer(const struct unpack_options *, struct progress *, struct unpack_result *,
                 struct fault *);
void unpack_result_free(struct unpack_result *);

enum { PACK_ONE_MOUNT = 1, PACK_NO_KERNEL = 2, PACK_SPARSE = 4 };
struct pack_options {
    int dir;
    const char *entry;
    int out;
    const char *name;
    int flags;
    const char *overlay;
    uint64_t max_bytes;
    const struct id_range *uids;
    const struct id_range *gids;
    uint32_t uid_count;
    uint32_t gid_count;
};
struct pack_result {
    uint64_t entries;
    uint64_t bytes;
    uint64_t passed_over;
    uint64_t changed;
};
int pack_tree(const struct pack_options *, struct progress *, struct pack_result *,
              struct fault *);

int tree_remove(int dir, const char *name);
int tree_size(int dir, uint64_t *bytes, uint64_t *inodes, uint64_t *disk_bytes);
int tree_copy(int from, int to, bool durable);
int tree_move(int from, int to);
int inroot_open(int root, const char *path, int flags, unsigned int mode);

enum { VIEW_READONLY = 1, VIEW_VOLATILE = 2, VIEW_USER_XATTR = 4, VIEW_HOST_ROOT = 8 };
struct view_bind { const char *source; const char *target; int is_readonly; int is_recursive; };
struct view_options {
    const char *lowers;
    uint32_t lower_count;
    const char *upper;
    const char *work;
    const char *mount_point;
    const struct view_bind *binds;
    uint32_t bind_count;
    int disk;
    int flags;
};
int view_open(const struct view_options *, struct fault *);

struct imagedisk {
    const char *path;
    const char *fstype;
    const char *options;
    bool is_in_use;
    const char *call;
};
int imagedisk_mount(struct imagedisk *);

struct filter_condition { uint32_t argument; uint32_t op; uint64_t value; uint64_t value2; };
struct filter_rule {
    const char *name;
    uint32_t action;
    uint32_t condition_count;
    struct filter_condition conditions[6];
};
struct filter_options {
    uint32_t default_action;
    uint32_t bad_arch_action;
    const uint32_t *architectures;
    size_t architecture_count;
    const struct filter_rule *rules;
    size_t rule_count;
};
int filter_compile(const struct filter_options *, uint8_t **program, size_t *size,
                   size_t *bad_rule);
void filter_free(uint8_t *program);
uint32_t filter_architecture(const char *name);
"""

PREAMBLE = """
#include "sandbox/native/copytree.h"
#include "sandbox/native/filter.h"
#include "sandbox/native/inroot.h"
#include "sandbox/native/pack.h"
#include "sandbox/native/tree.h"
#include "sandbox/native/unpack.h"
#include "sandbox/native/imagedisk.h"
#include "sandbox/native/view.h"
/* The wrappers that cffi writes are not ours to keep free of these. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
"""


def _sanitizer() -> list[str]:
    wanted = os.environ.get("SANDBOX_SANITIZE", "")
    return [f"-fsanitize={wanted}", "-fno-omit-frame-pointer", "-g"] if wanted else []


def _builder() -> FFI:
    builder = FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source(
        MODULE,
        PREAMBLE,
        sources=[f"sandbox/native/{name}" for name in SOURCES],
        include_dirs=["."],
        libraries=list(LIBRARIES),
        define_macros=[("_GNU_SOURCE", None)],
        extra_compile_args=["-std=gnu11", *HARDENING, *WARNINGS, *_sanitizer()],
        extra_link_args=[*LINKING, *_sanitizer()],
    )
    return builder


ffibuilder = _builder()


def build_in_place() -> Path:
    """Compile in a scratch folder and put the module beside this file, in one rename."""
    with tempfile.TemporaryDirectory(prefix="sandbox-build-") as scratch:
        copy = Path(scratch) / "sandbox" / "native"
        copy.mkdir(parents=True)
        for source in HERE.glob("*.[ch]"):
            shutil.copy2(source, copy)
        built = Path(ffibuilder.compile(tmpdir=scratch))
        # cffi keeps to the stable ABI, whatever name its compile() gives.
        final = HERE / "_launch.abi3.so"
        # Beside the target first: a rename does not cross filesystems.
        with tempfile.NamedTemporaryFile(dir=HERE, suffix=".so", delete=False) as beside:
            shutil.copyfile(built, beside.name)
        Path(beside.name).chmod(0o755)
        Path(beside.name).replace(final)
    return final


if __name__ == "__main__":
    build_in_place()
