/* Entries of a tar stream: v7, ustar, old GNU and pax, with every size and number checked. */
#ifndef SANDBOX_TAR_H
#define SANDBOX_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "inflate.h"

struct tar_bounds {
    uint32_t max_path;     /* bytes of a name or link target, at most 4095 */
    uint32_t max_pax;      /* bytes of all extended headers of one entry */
    uint32_t max_xattr;    /* bytes of one value */
    uint32_t max_segments; /* of one sparse file */
};

struct tar_xattr {
    const char *name;
    const uint8_t *value;
    size_t size;
};

struct tar_segment {
    uint64_t offset, size;
};

/* Pointers are good until the next call of tar_next. */
struct tar_entry {
    char type; /* '0' file, '1' hard link, '2' link, '3' '4' devices, '5' directory, '6' fifo */
    const char *name; /* as it is in the archive; not empty, no NUL inside */
    const char *link;
    uint64_t size; /* of the content, holes included; 0 when there is none */
    uint32_t mode, uid, gid, major, minor;
    int64_t mtime;
    uint32_t mtime_ns;
    const struct tar_xattr *xattrs;
    size_t xattr_count;
    bool is_sparse;
    const struct tar_segment *segments; /* in order, inside `size`, as long together as the data */
    size_t segment_count;
};

struct tar;

/* stream, fault must outlive the reader. */
int tar_open(struct tar **tar, struct stream *stream, const struct tar_bounds *bounds,
             struct fault *fault);

/* 1: *entry is the next one, 0: the end of the archive, -errno. */
int tar_next(struct tar *tar, struct tar_entry *entry);

/* The data of the entry as stored (without holes), as much as is at hand; *size is 0 when there is
 * no more.  tar_advance takes it. */
int tar_data(struct tar *tar, const uint8_t **data, size_t *size);
void tar_advance(struct tar *tar, size_t size);

void tar_close(struct tar *tar);

#endif
