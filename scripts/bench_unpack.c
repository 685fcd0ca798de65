/*
 * What an image costs when nothing but its bytes are paid for: the yardstick of
 * scripts/bench for load and pull.  Each layer is inflated by one thread, which
 * also hashes what comes in, while another hashes what comes out and makes the
 * files: names as they stand, no owner, mode, time, attribute, check or sync.
 *
 *     bench_unpack FOLDER LAYER...
 *
 * FOLDER is there and empty, a LAYER a gzip file; each goes into a folder of its
 * number.
 *
 * It may assume well-formed layers of somebody who means well: links are
 * followed, and a step that fails ends the program.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 8
#define SLOT_SIZE (256u << 10)
#define BLOCK 512

struct ring {
    uint8_t (*slots)[SLOT_SIZE];
    size_t sizes[SLOTS];
    sem_t filled, emptied;
    const uint8_t *layer;
    size_t layer_size;
    /* the reader's */
    EVP_MD_CTX *digest;
    unsigned slot;
    size_t at;
    bool has_slot;
};

static EVP_MD_CTX *new_digest(void)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    if (!digest || !EVP_DigestInit_ex(digest, EVP_sha256(), NULL))
        errx(1, "no sha256");
    return digest;
}

static void end_digest(EVP_MD_CTX *digest)
{
    uint8_t sum[EVP_MAX_MD_SIZE];

    if (!EVP_DigestFinal_ex(digest, sum, NULL))
        errx(1, "sha256");
    EVP_MD_CTX_free(digest);
}

/* Ends with a slot that is not full. */
static void *inflate_layer(void *argument)
{
    struct ring *ring = argument;
    struct inflate_state *gzip = malloc(sizeof *gzip);
    EVP_MD_CTX *digest = new_digest();
    size_t fed = 0;
    unsigned slot = 0;

    if (!gzip)
        err(1, "malloc");
    isal_inflate_init(gzip);
    gzip->crc_flag = ISAL_GZIP;
    do {
        sem_wait(&ring->emptied);
        gzip->next_out = ring->slots[slot];
        gzip->avail_out = SLOT_SIZE;
        while (gzip->avail_out > 0 && gzip->block_state != ISAL_BLOCK_FINISH) {
            if (gzip->avail_in == 0) {
                size_t part = ring->layer_size - fed;

                part = part < SLOT_SIZE ? part : SLOT_SIZE;
                gzip->next_in = (uint8_t *)ring->layer + fed;
                gzip->avail_in = (uint32_t)part;
                if (part == 0 || !EVP_DigestUpdate(digest, gzip->next_in, part))
                    errx(1, "layer cut short");
                fed += part;
            }
            if (isal_inflate(gzip) < 0)
                errx(1, "not gzip");
        }
        ring->sizes[slot] = SLOT_SIZE - gzip->avail_out;
        sem_post(&ring->filled);
        slot = (slot + 1) % SLOTS;
    } while (gzip->avail_out == 0);
    end_digest(digest);
    free(gzip);
    return NULL;
}

/* At most `want` bytes of the tar, hashed, good until the next call; 0 at its end. */
static size_t take(struct ring *ring, size_t want, const uint8_t **data)
{
    size_t left;

    if (ring->at == SLOT_SIZE) {
        sem_post(&ring->emptied);
        ring->slot = (ring->slot + 1) % SLOTS;
        ring->has_slot = false;
    }
    if (!ring->has_slot) {
        sem_wait(&ring->filled);
        ring->has_slot = true;
        ring->at = 0;
        if (!EVP_DigestUpdate(ring->digest, ring->slots[ring->slot], ring->sizes[ring->slot]))
            errx(1, "sha256");
    }
    left = ring->sizes[ring->slot] - ring->at;
    want = want < left ? want : left;
    *data = ring->slots[ring->slot] + ring->at;
    ring->at += want;
    return want;
}

static void pass(struct ring *ring, uint64_t size, int fd, char *text, size_t room)
{
    size_t kept = 0, n = 1;

    for (const uint8_t *data; size > 0 && n > 0; size -= n) {
        n = take(ring, size < SLOT_SIZE ? (size_t)size : SLOT_SIZE, &data);
        if (fd >= 0 && write(fd, data, n) != (ssize_t)n)
            err(1, "write");
        if (text && kept + n <= room) {
            memcpy(text + kept, data, n);
            kept += n;
        }
    }
}

/* The value of a pax record, if there is one of the key. */
static void pax_value(const char *text, uint64_t size, const char *key, char *value, size_t room)
{
    const char *found = memmem(text, size, key, strlen(key));
    const char *end = found ? memchr(found, '\n', size - (size_t)(found - text)) : NULL;

    if (end)
        snprintf(value, room, "%.*s", (int)(end - found - (long)strlen(key)), found + strlen(key));
}

/* Of a folder that is there, or lies in one that the layer does not list, nothing is said. */
static void make(struct ring *ring, int root, char type, const char *name, const char *link,
                 uint64_t size)
{
    int fd;

    if (type == '5')
        mkdirat(root, name, 0755);
    else if (type == '2')
        symlinkat(link, root, name);
    else if (type == '1')
        linkat(root, link, root, name, 0);
    else if (type == '0' || type == 0) {
        fd = openat(root, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        pass(ring, size, fd, NULL, 0);
        if (fd >= 0)
            close(fd);
        /* What is left is padding. */
        size = (BLOCK - size % BLOCK) % BLOCK;
        pass(ring, size, -1, NULL, 0);
        return;
    }
    pass(ring, size + (BLOCK - size % BLOCK) % BLOCK, -1, NULL, 0);
}

static void make_files(struct ring *ring, int root)
{
    static char text[1 << 20];
    char name[4096] = "", link[4096] = "";

    for (;;) {
        char header[BLOCK];
        const uint8_t *data;
        uint64_t size;
        size_t got = 0, n;

        while (got < BLOCK && (n = take(ring, BLOCK - got, &data)) > 0) {
            memcpy(header + got, data, n);
            got += n;
        }
        if (got < BLOCK || header[0] == 0)
            break;
        size = strtoull(header + 124, NULL, 8);
        if (header[156] == 'x' || header[156] == 'g') {
            pass(ring, (size + BLOCK - 1) / BLOCK * BLOCK, -1, text, sizeof text);
            pax_value(text, size, " path=", name, sizeof name);
            pax_value(text, size, " linkpath=", link, sizeof link);
            continue;
        }
        if (name[0] == 0)
            snprintf(name, sizeof name, "%.155s%s%.100s",
                     !memcmp(header + 257, "ustar", 6) ? header + 345 : "",
                     !memcmp(header + 257, "ustar", 6) && header[345] ? "/" : "", header);
        if (link[0] == 0)
            snprintf(link, sizeof link, "%.100s", header + 157);
        make(ring, root, header[156], name, link, size);
        name[0] = link[0] = 0;
    }
    /* The rest is hashed too. */
    for (const uint8_t *data; take(ring, SLOT_SIZE, &data) > 0;)
        ;
}

static void unpack(const char *path, const char *folder)
{
    struct ring ring = {.digest = new_digest()};
    int fd = open(path, O_RDONLY | O_CLOEXEC), root;
    pthread_t thread;
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        err(1, "%s", path);
    ring.layer_size = (size_t)st.st_size;
    ring.layer = mmap(NULL, ring.layer_size, PROT_READ, MAP_PRIVATE, fd, 0);
    ring.slots = malloc(SLOTS * sizeof *ring.slots);
    root = mkdir(folder, 0755) ? -1 : open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (ring.layer == MAP_FAILED || !ring.slots || root < 0)
        err(1, "%s", folder);
    sem_init(&ring.filled, 0, 0);
    sem_init(&ring.emptied, 0, SLOTS);
    if (pthread_create(&thread, NULL, inflate_layer, &ring))
        errx(1, "no thread");
    make_files(&ring, root);
    pthread_join(thread, NULL);
    end_digest(ring.digest);
    munmap((void *)ring.layer, ring.layer_size);
    free(ring.slots);
    close(root);
    close(fd);
}

int main(int argc, char **argv)
{
    char folder[4096];

    if (argc < 3) {
        fputs("usage: bench_unpack FOLDER LAYER...\n", stderr);
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        snprintf(folder, sizeof folder, "%s/%d", argv[1], i - 1);
        unpack(argv[i], folder);
    }
    return 0;
}
