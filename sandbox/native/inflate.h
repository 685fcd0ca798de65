/* A compressed stream, read and inflated in a thread of its own, handed on in large windows. */
#ifndef SANDBOX_INFLATE_H
#define SANDBOX_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"

enum compression {
    COMPRESSION_DETECT, /* by the first bytes */
    COMPRESSION_NONE,
    COMPRESSION_GZIP,
    COMPRESSION_ZSTD,
};

/* Written by the threads here, read by anyone; `cancel` the other way round. */
struct progress {
    uint64_t read;    /* compressed bytes so far */
    uint64_t entries; /* archive entries so far */
    int cancel;
};

struct stream_options {
    int fd;                /* borrowed; read to its end */
    int compression;       /* enum compression */
    int64_t expected_size; /* compressed bytes, or -1 */
    uint64_t max_bytes;    /* inflated bytes */
    uint64_t max_ratio;    /* inflated bytes to compressed bytes ... */
    uint64_t ratio_floor;  /* ... once there are more inflated bytes than this */
};

struct stream_sums {
    uint64_t size;       /* compressed bytes */
    uint64_t plain_size; /* inflated bytes */
    uint8_t digest[32];  /* sha256 of the compressed bytes */
    uint8_t plain_digest[32];
    int compression; /* what it was */
};

struct stream;

/* Start.  `fault` and `progress` must outlive the stream; progress may be NULL. */
int stream_open(struct stream **stream, const struct stream_options *options,
                struct progress *progress, struct fault *fault);

/* The bytes at hand, at least one; *size is 0 at the clean end of the stream.  They stay valid
 * until stream_advance has passed them. */
int stream_window(struct stream *stream, const uint8_t **data, size_t *size);
void stream_advance(struct stream *stream, size_t size);

/* Take all that is left and fill in the sums. */
int stream_finish(struct stream *stream, struct stream_sums *sums);

/* True when the end of the input is known to be its real end: the compression has a mark for it, or
 * the caller knew the size. */
bool stream_end_is_proven(const struct stream *stream);

/* Stop the thread and free; NULL is fine. */
void stream_close(struct stream *stream);

/* Inflate all of options->fd into out_fd. */
int stream_copy(const struct stream_options *options, int out_fd, struct progress *progress,
                struct stream_sums *sums, struct fault *fault);

#endif
