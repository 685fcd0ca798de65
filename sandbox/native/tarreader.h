/* What the files of the archive reader share; outside them there is tar.h. */
#ifndef SANDBOX_TARREADER_H
#define SANDBOX_TARREADER_H

#include "tar.h"

#define BLOCK 512u
#define MAX_DIGITS 20

struct pax {
    bool has_uid, has_gid, has_size, has_mtime;
    int64_t uid, gid, size, mtime;
    uint32_t mtime_ns;
    const char *path, *linkpath;
    /* GNU.sparse.* */
    const char *sparse_name, *sparse_map;
    bool has_real_size, has_major;
    int64_t real_size, sparse_major, sparse_minor, sparse_offset;
    bool has_offset, has_pairs;
};

struct tar {
    struct stream *stream;
    struct fault *fault;
    struct tar_bounds bounds;
    uint64_t left;    /* data of the present entry not yet taken */
    uint32_t padding; /* behind it */
    uint8_t block[BLOCK];
    char *name, *link; /* max_path + 1 bytes each */
    bool has_long_name, has_long_link;
    char *extended; /* the extended headers of this entry, one behind the other */
    size_t extended_len;
    struct pax global;
    struct tar_xattr *xattrs;
    size_t xattr_count, xattr_room;
    struct tar_segment *segments;
    size_t segment_count, segment_room;
};

/* Where things are in a header block. */
#define AT_NAME 0
#define AT_MODE 100
#define AT_UID 108
#define AT_GID 116
#define AT_SIZE 124
#define AT_MTIME 136
#define AT_CHECKSUM 148
#define AT_TYPE 156
#define AT_LINK 157
#define AT_MAGIC 257
#define AT_MAJOR 329
#define AT_MINOR 337
#define AT_PREFIX 345
#define AT_GNU_SPARSE 386
#define AT_GNU_EXTENDED 482
#define AT_GNU_REAL_SIZE 483
#define AT_STAR_TRAILER 508

static inline uint32_t padding_of(uint64_t size)
{
    return (uint32_t)(-size & (BLOCK - 1));
}

/* ---- tar.c ---- */

int bad_header(struct tar *t, const char *what);

/* Copy `size` bytes.  An end before the first is said through *at_end, if that is not NULL; any
 * other end is a fault. */
int take(struct tar *t, void *into, size_t size, bool *at_end);
int skip(struct tar *t, uint64_t size);

/* A number field of a header, octal or base-256; field_at also refuses what is not in 0..most. */
int parse_field(const uint8_t *field, size_t size, int64_t *value);
int field_at(struct tar *t, size_t at, size_t size, int64_t most, const char *what, int64_t *value);

/* Digits and nothing else. */
int parse_decimal(const char *text, size_t len, int64_t *value);

/* ---- pax.c ---- */

/* Take the records of one or more extended headers into *pax and the reader's lists.  `text` is
 * changed: keys and values get a NUL behind them. */
int parse_pax(struct tar *t, struct pax *pax, bool is_global, char *text, size_t len);

/* ---- sparse.c ---- */

int add_segment(struct tar *t, int64_t offset, int64_t size);

/* The map of an 'S' entry, and of an entry with GNU.sparse records; both set entry->size. */
int read_old_gnu_map(struct tar *t, struct tar_entry *entry);
int read_pax_sparse(struct tar *t, const struct pax *pax, struct tar_entry *entry);

/* In order, inside the file, and as long together as the data. */
int check_segments(struct tar *t, const struct tar_entry *entry);

/* Room for one more in an array of the reader's, of `most` at most. */
int grow(struct tar *t, void **array, size_t *room, size_t size, size_t most);

#endif
