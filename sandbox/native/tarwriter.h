/* A tar stream, written: ustar headers, pax records where those do not suffice. */
#ifndef SANDBOX_TARWRITER_H
#define SANDBOX_TARWRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "inflate.h"

/* What one header says.  Nothing of the host: no names of users, no times but the last change. */
struct tar_head {
    const char *name; /* a directory's without the slash at its end */
    const char *link; /* of types '1' and '2', else NULL */
    char type;
    uint32_t mode; /* permissions alone */
    uint32_t uid, gid;
    uint64_t size;
    int64_t mtime;
    uint32_t mtime_ns;
    uint32_t major, minor;
};

struct tar_text {
    char *at;
    size_t len, room;
};

struct tar_writer {
    int fd; /* borrowed */
    bool waits;
    uint8_t *buffer;
    size_t used;
    struct tar_text records; /* of the next header, one behind the other */
    uint64_t written, max_bytes;
    struct progress *progress;
    struct fault *fault;
};

/* Begin.  `progress` may be NULL; its `read` becomes the bytes written. */
int tar_writer_open(struct tar_writer *w, int fd, uint64_t max_bytes, struct progress *progress,
                    struct fault *fault);
void tar_writer_close(struct tar_writer *w);

/* Add a pax record to the next header. */
int tar_writer_record(struct tar_writer *w, const char *key, const char *detail, const void *value,
                      size_t size);

/* The header, with the records so far. */
int tar_writer_head(struct tar_writer *w, const struct tar_head *head);

/* A regular file's content: exactly `size` bytes and their padding.  What the file has more is left
 * away, what it has less is zeros, which *is_short says. */
int tar_writer_content(struct tar_writer *w, int fd, uint64_t size, bool *is_short);

struct tar_piece {
    uint64_t offset, size;
};

/* Header and content of a regular file with holes: only the pieces are written, in order. */
int tar_writer_sparse(struct tar_writer *w, const struct tar_head *head, int fd,
                      const struct tar_piece *pieces, size_t count, bool *is_short);

/* The end mark, and all that is still in the buffer. */
int tar_writer_finish(struct tar_writer *w);

#endif
