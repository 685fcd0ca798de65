/* A tree below an open directory, or one file of it, becomes a tar stream. */
#ifndef SANDBOX_PACK_H
#define SANDBOX_PACK_H

#include <stdint.h>

#include "fault.h"
#include "idrange.h"
#include "inflate.h"

enum pack_flags {
    PACK_ONE_MOUNT = 1, /* what is mounted below shows as the empty place that it is mounted on */
    /* Nor is what the kernel makes up (proc, sysfs, cgroup) entered, unless it is asked for. */
    PACK_NO_KERNEL = 2,
    /* Holes of files stay holes.  Where they are is the file system's: the same tree no longer
     * gives the same bytes everywhere. */
    PACK_SPARSE = 4,
};

struct pack_options {
    int dir;           /* borrowed; O_PATH will do */
    const char *entry; /* what of it, one component; NULL for the directory itself */
    int out;           /* borrowed */
    const char *name;  /* what it is called in the archive; "" for a directory: no entry of its own
                          and nothing in front of the names below */
    int flags;
    /* What the names of overlay's own attributes begin with ("trusted.overlay."): its marks become
     * a layer's whiteouts.  NULL: a plain tree. */
    const char *overlay;
    uint64_t max_bytes; /* of the archive */
    const struct id_range *uids, *gids;
    uint32_t uid_count, gid_count; /* 0: ids are the tree's */
};

struct pack_result {
    uint64_t entries;
    uint64_t bytes;       /* of the archive */
    uint64_t passed_over; /* sockets, and attributes that no archive can name */
    uint64_t changed;     /* files that were shorter when they were read than a moment before */
};

/* Returns 0 or -errno with *fault filled; what is in `out` then is no archive.  Entries come in the
 * order of their bytes and say nothing of the host, so the same tree gives the same bytes. */
int pack_tree(const struct pack_options *options, struct progress *progress,
              struct pack_result *result, struct fault *fault);

#endif
