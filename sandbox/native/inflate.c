/* A compressed stream, read and inflated in a thread of its own.
 *
 * May assume: one consumer thread, which calls everything declared in inflate.h; a descriptor that
 * nobody else reads; input that may be hostile in every byte.  The producer thread reads, inflates,
 * hashes what comes in and what comes out, and checks the bounds; that is about as much work as
 * making the files is for the consumer.  Between them is a ring of SLOTS buffers under one mutex,
 * long enough to even out stretches of small files and of large ones.  Memory is fixed: the ring,
 * one input buffer, and what the inflater needs (zstd: at most its 128 MiB window, larger ones are
 * refused by the library).
 */
#include "inflate.h"

#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define SLOTS 16
#define SLOT_BYTES (256u << 10)
#define INPUT_BYTES (256u << 10)
#define CANCEL_POLL_MS 100

struct slot {
    uint8_t *data;
    size_t size;
};

struct stream {
    struct stream_options options;
    struct progress *progress;
    struct fault *fault;
    bool is_regular;

    /* producer's own */
    uint8_t *input;
    size_t input_at, input_end;
    bool input_over;
    bool between_members;
    bool only_waste_left;
    uint64_t size, plain_size;
    EVP_MD_CTX *digest, *plain_digest; /* the consumer's once all is over */
    struct inflate_state *gzip;
    ZSTD_DCtx *zstd;
    struct fault producer_fault;

    /* shared, under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    unsigned head, tail; /* slots produced, slots consumed */
    bool over, stop;
    struct slot slots[SLOTS];

    /* consumer's own */
    pthread_t thread;
    bool has_thread;
    bool has_window;
    size_t window_at;
};

static bool is_cancelled(struct stream *s)
{
    bool stop;

    if (s->progress && __atomic_load_n(&s->progress->cancel, __ATOMIC_RELAXED))
        return true;
    pthread_mutex_lock(&s->lock);
    stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* One read(2) of compressed bytes; 0 at the end of the input. */
static ssize_t read_some(struct stream *s, uint8_t *into, size_t room)
{
    struct fault *fault = &s->producer_fault;

    for (;;) {
        ssize_t n;

        if (is_cancelled(s))
            return fault_set(fault, FAULT_CANCELLED, ECANCELED, "cancelled");
        if (!s->is_regular) {
            struct pollfd wait = {.fd = s->options.fd, .events = POLLIN};
            int ready = poll(&wait, 1, CANCEL_POLL_MS);

            if (ready == 0 || (ready < 0 && errno == EINTR))
                continue;
            if (ready < 0)
                return fault_system(fault, "poll", errno);
        }
        n = read(s->options.fd, into, room);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return fault_system(fault, "read", errno);
        if (n == 0) {
            s->input_over = true;
            return 0;
        }
        s->size += (uint64_t)n;
        if (s->progress)
            __atomic_store_n(&s->progress->read, s->size, __ATOMIC_RELAXED);
        if (s->options.expected_size >= 0 && s->size > (uint64_t)s->options.expected_size)
            return fault_damaged(fault, "longer than the %lld bytes it should have",
                                 (long long)s->options.expected_size);
        /* What is not compressed is hashed once, as what comes out. */
        if (s->options.compression != COMPRESSION_NONE &&
            !EVP_DigestUpdate(s->digest, into, (size_t)n))
            return fault_system(fault, "EVP_DigestUpdate", EIO);
        return n;
    }
}

static size_t input_size(const struct stream *s)
{
    return s->input_end - s->input_at;
}

/* Have at least `want` bytes at hand, unless the input ends before. */
static int want_input(struct stream *s, size_t want)
{
    if (input_size(s) >= want || s->input_over)
        return 0;
    memmove(s->input, s->input + s->input_at, input_size(s));
    s->input_end -= s->input_at;
    s->input_at = 0;
    while (s->input_end < want && !s->input_over) {
        ssize_t n = read_some(s, s->input + s->input_end, INPUT_BYTES - s->input_end);

        if (n < 0)
            return (int)n;
        s->input_end += (size_t)n;
    }
    return 0;
}

static int read_the_waste(struct stream *s)
{
    s->input_at = s->input_end = 0;
    while (!s->input_over) {
        ssize_t n = read_some(s, s->input, INPUT_BYTES);

        if (n < 0)
            return (int)n;
    }
    return 0;
}

static bool is_gzip(const uint8_t *p, size_t n)
{
    return n >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

static bool is_zstd(const uint8_t *p, size_t n)
{
    static const uint8_t frame[4] = {0x28, 0xb5, 0x2f, 0xfd};

    if (n < 4)
        return false;
    return !memcmp(p, frame, 4) ||
           ((p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18);
}

static int choose_compression(struct stream *s)
{
    struct fault *fault = &s->producer_fault;
    const uint8_t *p = s->input;
    int error = want_input(s, 6);
    size_t n = input_size(s);

    if (error)
        return error;
    if (s->options.compression == COMPRESSION_DETECT) {
        if (is_gzip(p, n))
            s->options.compression = COMPRESSION_GZIP;
        else if (is_zstd(p, n))
            s->options.compression = COMPRESSION_ZSTD;
        else if (n >= 6 && !memcmp(p,
                                   "\xfd"
                                   "7zXZ",
                                   6))
            return fault_damaged(fault, "xz compression is not supported");
        else if (n >= 4 && !memcmp(p, "BZh", 3) && p[3] >= '1' && p[3] <= '9')
            return fault_damaged(fault, "bzip2 compression is not supported");
        else
            s->options.compression = COMPRESSION_NONE;
    }
    if (s->options.compression == COMPRESSION_GZIP) {
        if (!is_gzip(p, n))
            return fault_damaged(fault, n < 2 ? "unexpected EOF" : "gzip: invalid header");
        s->gzip = malloc(sizeof *s->gzip);
        if (!s->gzip)
            return fault_system(fault, "malloc", ENOMEM);
        isal_inflate_init(s->gzip);
        s->gzip->crc_flag = ISAL_GZIP;
    } else if (s->options.compression == COMPRESSION_ZSTD) {
        if (!is_zstd(p, n))
            return fault_damaged(fault, n < 4 ? "unexpected EOF" : "zstd: invalid header");
        s->zstd = ZSTD_createDCtx();
        if (!s->zstd)
            return fault_system(fault, "malloc", ENOMEM);
    }
    return 0;
}

static int fill_plain(struct stream *s, struct slot *slot)
{
    size_t at_hand = input_size(s);

    memcpy(slot->data, s->input + s->input_at, at_hand);
    s->input_at = s->input_end;
    slot->size = at_hand;
    while (slot->size < SLOT_BYTES && !s->input_over) {
        ssize_t n = read_some(s, slot->data + slot->size, SLOT_BYTES - slot->size);

        if (n < 0)
            return (int)n;
        slot->size += (size_t)n;
    }
    return 0;
}

/* Several members are one stream; anything else behind a member is passed over, as gzip does. */
static int next_gzip_member(struct stream *s)
{
    int error = want_input(s, 2);

    if (error)
        return error;
    if (!is_gzip(s->input + s->input_at, input_size(s))) {
        s->only_waste_left = true;
        return read_the_waste(s);
    }
    isal_inflate_reset(s->gzip);
    s->gzip->crc_flag = ISAL_GZIP;
    s->between_members = false;
    return 0;
}

static int fill_gzip(struct stream *s, struct slot *slot)
{
    struct fault *fault = &s->producer_fault;
    struct inflate_state *z = s->gzip;

    while (slot->size < SLOT_BYTES && !s->only_waste_left) {
        size_t before_in, before_out = slot->size;
        int result, error;

        if (s->between_members) {
            error = next_gzip_member(s);
            if (error)
                return error;
            continue;
        }
        before_in = input_size(s);
        z->next_in = s->input + s->input_at;
        z->avail_in = (uint32_t)before_in;
        z->next_out = slot->data + slot->size;
        z->avail_out = (uint32_t)(SLOT_BYTES - slot->size);
        result = isal_inflate(z);
        s->input_at = s->input_end - z->avail_in;
        slot->size = SLOT_BYTES - z->avail_out;
        if (result < 0)
            return fault_damaged(fault, "gzip: %s",
                                 result == ISAL_INCORRECT_CHECKSUM ? "invalid checksum"
                                 : result == ISAL_INVALID_WRAPPER  ? "invalid header"
                                                                   : "corrupt input");
        if (z->block_state == ISAL_BLOCK_FINISH) {
            s->between_members = true;
        } else if (input_size(s) == before_in && slot->size == before_out) {
            if (before_in > 0)
                return fault_damaged(fault, "gzip: corrupt input");
            error = want_input(s, 1);
            if (error)
                return error;
            if (input_size(s) == 0)
                return fault_damaged(fault, "unexpected EOF");
        }
    }
    return 0;
}

static int fill_zstd(struct stream *s, struct slot *slot)
{
    struct fault *fault = &s->producer_fault;

    while (slot->size < SLOT_BYTES) {
        ZSTD_inBuffer in = {.src = s->input + s->input_at, .size = input_size(s)};
        ZSTD_outBuffer out = {.dst = slot->data, .size = SLOT_BYTES, .pos = slot->size};
        size_t result;

        if (s->between_members) {
            int error = want_input(s, 1);

            if (error)
                return error;
            if (input_size(s) == 0)
                return 0;
            s->between_members = false;
            continue;
        }
        result = ZSTD_decompressStream(s->zstd, &out, &in);
        if (ZSTD_isError(result))
            return fault_damaged(fault, "zstd: %s", ZSTD_getErrorName(result));
        s->input_at += in.pos;
        if (result == 0) {
            s->between_members = true;
        } else if (in.pos == 0 && out.pos == slot->size) {
            int error = want_input(s, input_size(s) + 1);

            if (error)
                return error;
            if (s->input_over)
                return fault_damaged(fault, "unexpected EOF");
        }
        slot->size = out.pos;
    }
    return 0;
}

static int check_bounds(struct stream *s)
{
    const struct stream_options *o = &s->options;

    if (s->plain_size > o->max_bytes)
        return fault_unsafe(&s->producer_fault, "more than %llu bytes when inflated",
                            (unsigned long long)o->max_bytes);
    if (o->compression != COMPRESSION_NONE && s->plain_size > o->ratio_floor &&
        s->plain_size / o->max_ratio > s->size)
        return fault_unsafe(&s->producer_fault, "inflates to more than %llu times its size",
                            (unsigned long long)o->max_ratio);
    return 0;
}

/* Fill one slot; a slot that is not full is the last one. */
static int fill(struct stream *s, struct slot *slot)
{
    int error;

    slot->size = 0;
    if (s->options.compression == COMPRESSION_GZIP)
        error = fill_gzip(s, slot);
    else if (s->options.compression == COMPRESSION_ZSTD)
        error = fill_zstd(s, slot);
    else
        error = fill_plain(s, slot);
    if (error)
        return error;
    s->plain_size += slot->size;
    error = check_bounds(s);
    if (error)
        return error;
    if (!EVP_DigestUpdate(s->plain_digest, slot->data, slot->size))
        return fault_system(&s->producer_fault, "EVP_DigestUpdate", EIO);
    if (slot->size < SLOT_BYTES && s->options.expected_size >= 0 &&
        s->size != (uint64_t)s->options.expected_size)
        return fault_damaged(&s->producer_fault, "unexpected EOF: %llu bytes instead of %lld",
                             (unsigned long long)s->size, (long long)s->options.expected_size);
    return 0;
}

static void *produce(void *argument)
{
    struct stream *s = argument;
    int error = choose_compression(s);
    bool last = false;

    while (!error && !last) {
        struct slot *slot;

        pthread_mutex_lock(&s->lock);
        while (s->head - s->tail == SLOTS && !s->stop)
            pthread_cond_wait(&s->emptied, &s->lock);
        if (s->stop) {
            pthread_mutex_unlock(&s->lock);
            break;
        }
        slot = &s->slots[s->head % SLOTS];
        pthread_mutex_unlock(&s->lock);

        error = fill(s, slot);
        last = slot->size < SLOT_BYTES;

        pthread_mutex_lock(&s->lock);
        if (slot->size > 0)
            s->head++;
        pthread_cond_signal(&s->filled);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_cond_signal(&s->filled);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int start_thread(struct stream *s)
{
    sigset_t all, before;
    int error;

    /* Signals belong to the threads that know what to do with them. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    error = pthread_create(&s->thread, NULL, produce, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return fault_system(s->fault, "pthread_create", error);
    s->has_thread = true;
    return 0;
}

static EVP_MD_CTX *new_digest(void)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    if (digest && !EVP_DigestInit_ex(digest, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(digest);
        digest = NULL;
    }
    return digest;
}

int stream_open(struct stream **stream, const struct stream_options *options,
                struct progress *progress, struct fault *fault)
{
    struct stream *s = calloc(1, sizeof *s);
    struct stat st;
    int error;

    *stream = NULL;
    if (!s)
        return fault_system(fault, "malloc", ENOMEM);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->filled, NULL);
    pthread_cond_init(&s->emptied, NULL);
    s->options = *options;
    s->progress = progress;
    s->fault = fault;
    if (s->options.max_ratio == 0)
        s->options.max_ratio = 1;
    s->is_regular = fstat(options->fd, &st) == 0 && S_ISREG(st.st_mode);
    s->input = malloc(INPUT_BYTES);
    s->slots[0].data = malloc(SLOTS * (size_t)SLOT_BYTES);
    s->digest = new_digest();
    s->plain_digest = new_digest();
    if (!s->input || !s->slots[0].data || !s->digest || !s->plain_digest) {
        error = fault_system(fault, "malloc", ENOMEM);
    } else {
        for (unsigned i = 1; i < SLOTS; i++)
            s->slots[i].data = s->slots[0].data + i * (size_t)SLOT_BYTES;
        error = start_thread(s);
    }
    if (error) {
        stream_close(s);
        return error;
    }
    *stream = s;
    return 0;
}

int stream_window(struct stream *s, const uint8_t **data, size_t *size)
{
    struct slot *slot = &s->slots[s->tail % SLOTS];

    if (!s->has_window) {
        pthread_mutex_lock(&s->lock);
        while (s->head == s->tail && !s->over)
            pthread_cond_wait(&s->filled, &s->lock);
        s->has_window = s->head != s->tail;
        pthread_mutex_unlock(&s->lock);
        if (!s->has_window) {
            *data = NULL;
            *size = 0;
            if (s->producer_fault.kind == FAULT_NONE)
                return 0;
            if (s->fault->kind == FAULT_NONE)
                *s->fault = s->producer_fault;
            return -s->producer_fault.error;
        }
        s->window_at = 0;
    }
    *data = slot->data + s->window_at;
    *size = slot->size - s->window_at;
    return 0;
}

void stream_advance(struct stream *s, size_t size)
{
    s->window_at += size;
    if (s->has_window && s->window_at >= s->slots[s->tail % SLOTS].size) {
        s->has_window = false;
        pthread_mutex_lock(&s->lock);
        s->tail++;
        pthread_cond_signal(&s->emptied);
        pthread_mutex_unlock(&s->lock);
    }
}

int stream_finish(struct stream *s, struct stream_sums *sums)
{
    const uint8_t *data;
    size_t size;

    do {
        int error = stream_window(s, &data, &size);

        if (error)
            return error;
        stream_advance(s, size);
    } while (size > 0);
    sums->size = s->size;
    sums->plain_size = s->plain_size;
    sums->compression = s->options.compression;
    if (!EVP_DigestFinal_ex(s->digest, sums->digest, NULL) ||
        !EVP_DigestFinal_ex(s->plain_digest, sums->plain_digest, NULL))
        return fault_system(s->fault, "EVP_DigestFinal_ex", EIO);
    if (s->options.compression == COMPRESSION_NONE)
        memcpy(sums->digest, sums->plain_digest, sizeof sums->digest);
    return 0;
}

bool stream_end_is_proven(const struct stream *s)
{
    return s->options.compression != COMPRESSION_NONE || s->options.expected_size >= 0;
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    if (s->has_thread) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->emptied);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->filled);
    pthread_cond_destroy(&s->emptied);
    EVP_MD_CTX_free(s->digest);
    EVP_MD_CTX_free(s->plain_digest);
    ZSTD_freeDCtx(s->zstd);
    free(s->gzip);
    free(s->slots[0].data);
    free(s->input);
    free(s);
}

int stream_copy(const struct stream_options *options, int out_fd, struct progress *progress,
                struct stream_sums *sums, struct fault *fault)
{
    struct stream *s;
    int error = stream_open(&s, options, progress, fault);
    const uint8_t *data;
    size_t size;

    if (error)
        return error;
    do {
        ssize_t n = 0;

        error = stream_window(s, &data, &size);
        if (error || size == 0)
            break;
        n = write(out_fd, data, size);
        if (n < 0 && errno != EINTR)
            error = fault_system(fault, "write", errno);
        if (n > 0)
            stream_advance(s, (size_t)n);
    } while (!error);
    if (!error)
        error = stream_finish(s, sums);
    stream_close(s);
    return error;
}
