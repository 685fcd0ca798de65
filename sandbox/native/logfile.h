/* The kept output of a container: one line a line of output, in the format of Kubernetes' CRI logs.
 *
 *     2026-11-23T07:06:48.927653377Z stdout F text
 *
 * F ends a line; P is a piece of one that goes on, or the unfinished last line of a stream.  The
 * text is the output's bytes as they are.  A line of the stream "system" is the monitor's own word.
 * The file grows to max_bytes, then becomes path.1, path.1 becomes path.2, and so on; max_files are
 * kept, the current one counted.
 */
#ifndef SANDBOX_LOGFILE_H
#define SANDBOX_LOGFILE_H

#include "launch.h"

#define LOG_PIECE (16u << 10) /* a longer line is cut in pieces of this size */
#define LOG_BATCH (64u << 10) /* written at once */
#define LOG_PREFIX 40         /* bytes before the text */

struct logfile {
    int fd; /* -1: nothing is kept */
    const char *path;
    int64_t size, max_bytes; /* 0 is no bound */
    int max_files;
    uint64_t dropped_bytes; /* output that is not in the log: no space */
    uint64_t unmarked;      /* the part of it that no marker tells of yet */
    int64_t second;         /* whose date is in `date` */
    char date[20];
    uint32_t used;
    struct {
        uint32_t length;
        char text[LOG_PIECE];
    } held[2]; /* unfinished lines of stdout and stderr */
    char batch[LOG_BATCH];
};

/* Open for appending; a NULL or empty path keeps nothing. */
int logfile_open(struct logfile *log, const char *path, int64_t max_bytes, int64_t max_files,
                 struct error_record *error);

/* Take output of a stream (0 stdout, 1 stderr).  Never fails: what cannot be written is counted. */
void logfile_append(struct logfile *log, int stream, const char *data, size_t size);

/* The stream has ended: write what is held of an unfinished line. */
void logfile_end(struct logfile *log, int stream);

void logfile_close(struct logfile *log);

#endif
