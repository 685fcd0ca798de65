/* One layer: a compressed tar stream becomes a tree below an open directory. */
#ifndef SANDBOX_UNPACK_H
#define SANDBOX_UNPACK_H

#include <stdint.h>

#include "fault.h"
#include "idrange.h"
#include "inflate.h"
#include "tar.h"

enum unpack_flags {
    /* Whiteouts delete in the tree that is there; else they become overlay's marks. */
    UNPACK_APPLY = 1,
    /* No owners; devices and attributes that are not allowed are passed over. */
    UNPACK_ROOTLESS = 2,
    /* No layer but files, into a tree that others may use and change meanwhile: `.wh.` means
     * nothing, directories are merged, and what is one never replaces what is none. */
    UNPACK_COPY = 4,
    /* Everything belongs to options->uid and gid, whoever the archive says. */
    UNPACK_OWNED = 8,
    /* What gives rights to others is passed over: devices, attributes, set-id bits. */
    UNPACK_STRIPPED = 16,
};

struct unpack_options {
    struct stream_options stream;
    struct tar_bounds tar;
    uint64_t max_entries;
    int root; /* borrowed */
    int flags;
    const char *opaque_xattr;
    uint32_t uid, gid; /* UNPACK_OWNED; as the archive's ids are */
    const struct id_range *uids, *gids;
    uint32_t uid_count, gid_count; /* 0: ids are the host's */
};

struct unpack_result {
    struct stream_sums sums;
    uint64_t entries;
    uint64_t content_bytes; /* of regular files, holes included, each file once */
    uint64_t passed_over;   /* devices and attributes that this host or caller cannot have */
    char *implied; /* directories made for entries that came without one: each with a NUL */
    uint64_t implied_bytes;
};

/* Returns 0 or -errno with *fault filled; then the tree is half made and the caller's to remove.
 * Never changes anything that is not below options->root. */
int unpack_layer(const struct unpack_options *options, struct progress *progress,
                 struct unpack_result *result, struct fault *fault);

/* Free what `result` points to. */
void unpack_result_free(struct unpack_result *result);

#endif
