/* The log of a container.  Assumes one writer for one path (the monitor, which holds the
 * container's lock), and a folder that only the engine writes to.  Output is taken as it comes;
 * lines are held until they end, at most LOG_PIECE bytes of each stream, so a killed monitor loses
 * that much at most. */
#define _GNU_SOURCE
#include "logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* gmtime() reads the time zone's files and allocates. */
static void format_date(int64_t second, char date[20])
{
    int64_t days = second / 86400, rest = second % 86400;
    int64_t shifted = days + 719468; /* from 0000-03-01 */
    int64_t era = shifted / 146097, day_of_era = shifted % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    unsigned day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
    unsigned civil = (unsigned)(month < 10 ? month + 3 : month - 9);
    unsigned year = (unsigned)(year_of_era + era * 400 + (civil <= 2));
    char text[40];
    snprintf(text, sizeof(text), "%04u-%02u-%02uT%02u:%02u:%02u", year % 10000, civil, day,
             (unsigned)(rest / 3600), (unsigned)(rest / 60 % 60), (unsigned)(rest % 60));
    memcpy(date, text, 19);
}

static void format_prefix(struct logfile *log, const char *stream, char prefix[LOG_PREFIX])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (log->second != now.tv_sec) {
        log->second = now.tv_sec;
        format_date(now.tv_sec, log->date);
    }
    memcpy(prefix, log->date, 19);
    prefix[19] = '.';
    long fraction = now.tv_nsec;
    for (int i = 28; i >= 20; i--, fraction /= 10)
        prefix[i] = (char)('0' + fraction % 10);
    memcpy(prefix + 29, "Z ", 2);
    memcpy(prefix + 31, stream, 6);
    memcpy(prefix + 37, " F ", 3);
}

/* All or less: how much was written. */
static size_t write_all(int fd, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, data + done, size - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            break;
    }
    return done;
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
}

static void count_drop(struct logfile *log, uint64_t bytes)
{
    log->dropped_bytes += bytes;
    log->unmarked += bytes;
}

static bool write_marker(struct logfile *log)
{
    char text[LOG_PREFIX + 96];
    format_prefix(log, "system", text);
    int n =
        snprintf(text + LOG_PREFIX, sizeof(text) - LOG_PREFIX,
                 "[sandbox: %llu bytes not logged: no space]\n", (unsigned long long)log->unmarked);
    size_t size = LOG_PREFIX + (size_t)n;
    if (write_all(log->fd, text, size) == size) {
        log->size += (int64_t)size;
        log->unmarked = 0;
        return true;
    }
    /* A line cut short would swallow the next one. */
    if (ftruncate(log->fd, log->size) < 0)
        return false;
    return false;
}

static void flush(struct logfile *log)
{
    size_t used = log->used, written = 0, kept = 0;
    log->used = 0;
    if (used == 0)
        return;
    if (log->unmarked == 0 || write_marker(log))
        written = write_all(log->fd, log->batch, used);
    if (written == used) {
        log->size += (int64_t)used;
        return;
    }
    uint64_t lost = 0;
    for (size_t at = 0; at < used;) {
        const char *end = memchr(log->batch + at + LOG_PREFIX, '\n', used - at - LOG_PREFIX);
        size_t next = (size_t)(end - log->batch) + 1;
        if (next <= written)
            kept = next;
        else
            lost += next - at - LOG_PREFIX - (log->batch[at + 38] == 'P');
        at = next;
    }
    log->size += (int64_t)kept;
    if (ftruncate(log->fd, log->size) < 0)
        lost += 0; /* the reader skips the half line */
    count_drop(log, lost);
}

static int rotate(struct logfile *log)
{
    if (log->max_files <= 1) {
        if (ftruncate(log->fd, 0) < 0)
            return -errno;
        log->size = 0;
        return 0;
    }
    char from[PATH_MAX], to[PATH_MAX];
    for (int i = log->max_files - 1; i > 0; i--) {
        snprintf(to, sizeof(to), "%s.%d", log->path, i);
        if (i > 1)
            snprintf(from, sizeof(from), "%s.%d", log->path, i - 1);
        else
            snprintf(from, sizeof(from), "%s", log->path);
        if (rename(from, to) < 0 && errno != ENOENT)
            return -errno;
    }
    int fd = open_file(log->path);
    if (fd < 0)
        return -errno;
    close(log->fd);
    log->fd = fd;
    log->size = 0;
    return 0;
}

static void emit(struct logfile *log, int stream, char *prefix, char tag, const char *data,
                 size_t size)
{
    size_t held = log->held[stream].length;
    size_t whole = LOG_PREFIX + held + size + 1;
    log->held[stream].length = 0;
    if (log->used + whole > LOG_BATCH)
        flush(log);
    if (log->max_bytes > 0 && log->size + log->used > 0 &&
        log->size + log->used + (int64_t)whole > log->max_bytes) {
        flush(log);
        if (rotate(log) < 0) {
            count_drop(log, held + size + (tag == 'F'));
            return;
        }
    }
    char *at = log->batch + log->used;
    prefix[38] = tag;
    memcpy(at, prefix, LOG_PREFIX);
    memcpy(at + LOG_PREFIX, log->held[stream].text, held);
    memcpy(at + LOG_PREFIX + held, data, size);
    at[whole - 1] = '\n';
    log->used += (uint32_t)whole;
}

int logfile_open(struct logfile *log, const char *path, int64_t max_bytes, int64_t max_files,
                 struct error_record *error)
{
    log->fd = -1;
    log->second = -1;
    if (path == NULL || path[0] == '\0')
        return 0;
    if (strlen(path) > PATH_MAX - 16)
        return fail(error, NULL, ENAMETOOLONG, "open", path);
    log->path = path;
    log->max_bytes = max_bytes;
    log->max_files = max_files < 1 ? 1 : max_files > 1000 ? 1000 : (int)max_files;
    log->fd = open_file(path);
    if (log->fd < 0)
        return fail(error, NULL, errno, "open", path);
    struct stat st;
    if (fstat(log->fd, &st) < 0)
        return fail(error, NULL, errno, "fstat", path);
    if (!S_ISREG(st.st_mode))
        return fail(error, NULL, EINVAL, "open", path);
    log->size = st.st_size;
    if (log->size > 0) {
        /* A monitor that died while it wrote may have left half a line. */
        char last = '\n';
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && pread(fd, &last, 1, log->size - 1) == 1 && last != '\n')
            log->size += (int64_t)write_all(log->fd, "\n", 1);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

void logfile_append(struct logfile *log, int stream, const char *data, size_t size)
{
    char prefix[LOG_PREFIX];
    if (log->fd < 0 || size == 0)
        return;
    format_prefix(log, stream == 0 ? "stdout" : "stderr", prefix);
    while (size > 0) {
        size_t room = LOG_PIECE - log->held[stream].length;
        const char *newline = memchr(data, '\n', size < room + 1 ? size : room + 1);
        size_t length = newline != NULL ? (size_t)(newline - data) : size;
        if (newline != NULL) {
            emit(log, stream, prefix, 'F', data, length);
            length++;
        } else if (length >= room) {
            length = room;
            emit(log, stream, prefix, 'P', data, length);
        } else {
            memcpy(log->held[stream].text + log->held[stream].length, data, length);
            log->held[stream].length += (uint32_t)length;
        }
        data += length;
        size -= length;
    }
    flush(log);
}

void logfile_end(struct logfile *log, int stream)
{
    char prefix[LOG_PREFIX];
    if (log->fd < 0 || log->held[stream].length == 0)
        return;
    format_prefix(log, stream == 0 ? "stdout" : "stderr", prefix);
    emit(log, stream, prefix, 'P', "", 0);
    flush(log);
}

void logfile_close(struct logfile *log)
{
    if (log->fd < 0)
        return;
    if (log->unmarked > 0)
        write_marker(log);
    close(log->fd);
    log->fd = -1;
}
