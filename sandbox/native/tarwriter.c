/* A tar stream, written.
 *
 * May assume: names are shorter than PATH_MAX.  A reader that stands still must not hold a caller
 * who wants to stop: into a pipe or socket goes no more than it has room for, and between two looks
 * at its room `cancel` is looked at.  Memory: one buffer, and the records of one entry.
 */
#include "tarwriter.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tarreader.h"

#define BUFFER_BYTES (256u << 10)
#define WAIT_MS 100
#define MAX_FIELD 077777777777LL /* eleven octal digits */
#define MAX_ID 07777777u
#define SHORT_NAME 100u

int tar_writer_open(struct tar_writer *w, int fd, uint64_t max_bytes, struct progress *progress,
                    struct fault *fault)
{
    struct stat st;

    *w = (struct tar_writer){.fd = fd, .max_bytes = max_bytes, .progress = progress};
    w->fault = fault;
    if (fstat(fd, &st))
        return fault_system(fault, "fstat", errno);
    w->waits = !S_ISREG(st.st_mode);
    w->buffer = malloc(BUFFER_BYTES);
    return w->buffer ? 0 : fault_system(fault, "malloc", ENOMEM);
}

void tar_writer_close(struct tar_writer *w)
{
    free(w->buffer);
    free(w->records.at);
    w->buffer = NULL;
    w->records = (struct tar_text){0};
}

static int check_cancel(struct tar_writer *w)
{
    if (w->progress && __atomic_load_n(&w->progress->cancel, __ATOMIC_RELAXED))
        return fault_set(w->fault, FAULT_CANCELLED, ECANCELED, "cancelled");
    return 0;
}

/* Wait until PIPE_BUF bytes can be written without waiting. */
static int wait_for_room(struct tar_writer *w)
{
    for (;;) {
        struct pollfd ready = {.fd = w->fd, .events = POLLOUT};
        int error = check_cancel(w), count;

        if (error)
            return error;
        count = poll(&ready, 1, WAIT_MS);
        if (count > 0)
            return 0; /* also when the reader is gone, which write says */
        if (count < 0 && errno != EINTR)
            return fault_system(w->fault, "poll", errno);
    }
}

static int flush(struct tar_writer *w)
{
    for (size_t done = 0; done < w->used;) {
        size_t size = w->used - done;
        ssize_t n;
        int error = w->waits ? wait_for_room(w) : check_cancel(w);

        if (error)
            return error;
        if (w->waits && size > PIPE_BUF)
            size = PIPE_BUF;
        n = write(w->fd, w->buffer + done, size);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return fault_system(w->fault, "write", errno);
        if (n > 0)
            done += (size_t)n;
    }
    w->written += w->used;
    w->used = 0;
    if (w->progress)
        __atomic_store_n(&w->progress->read, w->written, __ATOMIC_RELAXED);
    if (w->written > w->max_bytes)
        return fault_unsafe(w->fault, "more than %llu bytes", (unsigned long long)w->max_bytes);
    return 0;
}

static int put(struct tar_writer *w, const void *data, size_t size)
{
    const uint8_t *from = data;

    while (size > 0) {
        size_t room = BUFFER_BYTES - w->used, part = size < room ? size : room;

        memcpy(w->buffer + w->used, from, part);
        w->used += part;
        from += part;
        size -= part;
        if (w->used == BUFFER_BYTES) {
            int error = flush(w);

            if (error)
                return error;
        }
    }
    return 0;
}

static int put_zeros(struct tar_writer *w, uint64_t size)
{
    static const uint8_t ZEROS[4096];
    int error = 0;

    while (!error && size > 0) {
        size_t part = size < sizeof ZEROS ? (size_t)size : sizeof ZEROS;

        error = put(w, ZEROS, part);
        size -= part;
    }
    return error;
}

/* ---- records ---- */

static int reserve(struct tar_writer *w, size_t size)
{
    struct tar_text *text = &w->records;
    size_t room = text->room ? text->room : 4096;
    char *bigger;

    while (room - text->len < size)
        room *= 2;
    if (room == text->room)
        return 0;
    bigger = realloc(text->at, room);
    if (!bigger)
        return fault_system(w->fault, "malloc", ENOMEM);
    text->at = bigger;
    text->room = room;
    return 0;
}

/* "LENGTH KEY=VALUE\n", LENGTH counting its own digits. */
int tar_writer_record(struct tar_writer *w, const char *key, const char *detail, const void *value,
                      size_t size)
{
    size_t bare = strlen(key) + strlen(detail) + size + 3, length = bare + 1;
    struct tar_text *text = &w->records;
    char digits[24];
    int error;

    while (length != bare + (size_t)snprintf(digits, sizeof digits, "%zu", length))
        length = bare + strlen(digits);
    error = reserve(w, length + 1);
    if (error)
        return error;
    text->len += (size_t)sprintf(text->at + text->len, "%zu %s%s=", length, key, detail);
    memcpy(text->at + text->len, value, size);
    text->len += size;
    text->at[text->len++] = '\n';
    return 0;
}

static int text_record(struct tar_writer *w, const char *key, const char *value)
{
    return tar_writer_record(w, key, "", value, strlen(value));
}

static int number_record(struct tar_writer *w, const char *key, uint64_t value)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    return text_record(w, key, digits);
}

/* The kernel counts nanoseconds upwards from the second; a decimal fraction goes away from 0. */
static int time_record(struct tar_writer *w, int64_t seconds, uint32_t nanoseconds)
{
    bool is_negative = seconds < 0;
    char text[48];

    if (is_negative && nanoseconds > 0) {
        seconds++;
        nanoseconds = 1000000000u - nanoseconds;
    }
    if (nanoseconds > 0)
        snprintf(text, sizeof text, "%s%llu.%09u", is_negative ? "-" : "",
                 (unsigned long long)(is_negative ? -seconds : seconds), nanoseconds);
    else
        snprintf(text, sizeof text, "%lld", (long long)seconds);
    return text_record(w, "mtime", text);
}

/* ---- headers ---- */

static void put_octal(uint8_t *block, size_t at, size_t digits, uint64_t value)
{
    for (size_t i = digits; i-- > 0; value >>= 3)
        block[at + i] = (uint8_t)('0' + (value & 7));
}

static int put_block(struct tar_writer *w, const struct tar_head *head, const char *slash)
{
    uint8_t block[BLOCK] = {0};
    size_t name = strlen(head->name), link = head->link ? strlen(head->link) : 0;
    unsigned sum = 0;

    memcpy(block + AT_NAME, head->name, name < SHORT_NAME ? name : SHORT_NAME);
    if (name < SHORT_NAME)
        memcpy(block + AT_NAME + name, slash, strlen(slash));
    put_octal(block, AT_MODE, 7, head->mode);
    put_octal(block, AT_UID, 7, head->uid > MAX_ID ? 0 : head->uid);
    put_octal(block, AT_GID, 7, head->gid > MAX_ID ? 0 : head->gid);
    put_octal(block, AT_SIZE, 11, head->size > MAX_FIELD ? 0 : head->size);
    put_octal(block, AT_MTIME, 11,
              head->mtime < 0 || head->mtime > MAX_FIELD ? 0 : (uint64_t)head->mtime);
    block[AT_TYPE] = (uint8_t)head->type;
    if (link)
        memcpy(block + AT_LINK, head->link, link < SHORT_NAME ? link : SHORT_NAME);
    memcpy(block + AT_MAGIC, "ustar\00000", 8);
    put_octal(block, AT_MAJOR, 7, head->major);
    put_octal(block, AT_MINOR, 7, head->minor);
    memset(block + AT_CHECKSUM, ' ', 8);
    for (size_t i = 0; i < sizeof block; i++)
        sum += block[i];
    put_octal(block, AT_CHECKSUM, 6, sum);
    block[AT_CHECKSUM + 6] = 0;
    return put(w, block, sizeof block);
}

static int add_records(struct tar_writer *w, const struct tar_head *head, const char *slash)
{
    int error = 0;

    if (strlen(head->name) + strlen(slash) > SHORT_NAME) {
        char path[PATH_MAX + 2];

        snprintf(path, sizeof path, "%s%s", head->name, slash);
        error = text_record(w, "path", path);
    }
    if (!error && head->link && strlen(head->link) > SHORT_NAME)
        error = text_record(w, "linkpath", head->link);
    if (!error && (head->mtime_ns || head->mtime < 0 || head->mtime > MAX_FIELD))
        error = time_record(w, head->mtime, head->mtime_ns);
    if (!error && head->uid > MAX_ID)
        error = number_record(w, "uid", head->uid);
    if (!error && head->gid > MAX_ID)
        error = number_record(w, "gid", head->gid);
    if (!error && head->size > MAX_FIELD)
        error = number_record(w, "size", head->size);
    return error;
}

int tar_writer_head(struct tar_writer *w, const struct tar_head *head)
{
    const char *slash = head->type == '5' ? "/" : "", *last = strrchr(head->name, '/');
    int error = add_records(w, head, slash);

    if (!error && w->records.len > 0) {
        char name[SHORT_NAME + 1];
        struct tar_head extended = {
            .name = name, .type = 'x', .mode = 0644, .size = w->records.len};

        snprintf(name, sizeof name, "PaxHeaders/%.80s", last ? last + 1 : head->name);
        error = put_block(w, &extended, "");
        if (!error)
            error = put(w, w->records.at, w->records.len);
        if (!error)
            error = put_zeros(w, padding_of(w->records.len));
        w->records.len = 0;
    }
    return error ? error : put_block(w, head, slash);
}

/* Exactly `size` bytes from where the file stands. */
static int put_bytes(struct tar_writer *w, int fd, uint64_t size, bool *is_short)
{
    uint64_t left = size;

    while (left > 0) {
        size_t room = BUFFER_BYTES - w->used;
        ssize_t n = read(fd, w->buffer + w->used, left < room ? (size_t)left : room);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_system(w->fault, "read", errno);
        if (n == 0)
            break;
        w->used += (size_t)n;
        left -= (uint64_t)n;
        if (w->used == BUFFER_BYTES) {
            int error = flush(w);

            if (error)
                return error;
        }
    }
    *is_short = *is_short || left > 0;
    return put_zeros(w, left);
}

int tar_writer_content(struct tar_writer *w, int fd, uint64_t size, bool *is_short)
{
    int error;

    *is_short = false;
    error = put_bytes(w, fd, size, is_short);
    return error ? error : put_zeros(w, padding_of(size));
}

/* ---- files with holes: the GNU format 1.0, a list of lines in front of the pieces ---- */

static size_t line_of(char text[24], uint64_t value)
{
    return (size_t)snprintf(text, 24, "%llu\n", (unsigned long long)value);
}

static int put_map(struct tar_writer *w, const struct tar_piece *pieces, size_t count)
{
    char text[24];
    size_t size = line_of(text, count), total = size;
    int error = put(w, text, size);

    for (size_t i = 0; !error && i < count; i++) {
        size = line_of(text, pieces[i].offset);
        total += size;
        error = put(w, text, size);
        size = line_of(text, pieces[i].size);
        total += size;
        if (!error)
            error = put(w, text, size);
    }
    return error ? error : put_zeros(w, padding_of(total));
}

static uint64_t map_size(const struct tar_piece *pieces, size_t count)
{
    char text[24];
    uint64_t total = line_of(text, count);

    for (size_t i = 0; i < count; i++)
        total += line_of(text, pieces[i].offset) + line_of(text, pieces[i].size);
    return total + padding_of(total);
}

int tar_writer_sparse(struct tar_writer *w, const struct tar_head *head, int fd,
                      const struct tar_piece *pieces, size_t count, bool *is_short)
{
    struct tar_head stored = *head;
    uint64_t data = 0;
    int error = text_record(w, "GNU.sparse.major", "1");

    *is_short = false;
    for (size_t i = 0; i < count; i++)
        data += pieces[i].size;
    stored.size = map_size(pieces, count) + data;
    if (!error)
        error = text_record(w, "GNU.sparse.minor", "0");
    if (!error)
        error = text_record(w, "GNU.sparse.name", head->name);
    if (!error)
        error = number_record(w, "GNU.sparse.realsize", head->size);
    if (!error)
        error = tar_writer_head(w, &stored);
    if (!error)
        error = put_map(w, pieces, count);
    for (size_t i = 0; !error && i < count; i++) {
        if (lseek(fd, (off_t)pieces[i].offset, SEEK_SET) < 0)
            return fault_system(w->fault, "lseek", errno);
        error = put_bytes(w, fd, pieces[i].size, is_short);
    }
    return error ? error : put_zeros(w, padding_of(data));
}

int tar_writer_finish(struct tar_writer *w)
{
    int error = put_zeros(w, 2 * BLOCK);

    return error ? error : flush(w);
}
