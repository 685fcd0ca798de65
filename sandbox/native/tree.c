/* Whole trees by handle.
 *
 * May assume: the tree was filled by a stranger, to any depth; for tree_remove, that nobody fills
 * it any more; for tree_size, nothing.  One walk serves both.  It recurses on the heap, not on the
 * stack; the first KEPT levels keep their descriptors, deeper ones are reached again through `..`,
 * which is believed only if it is the directory that was left (device and inode).  A directory is
 * read in batches, and each batch's subdirectories are visited before the next batch, so memory is
 * bounded by the depth and not by the number of entries.
 */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keyset.h"

#define KEPT 64
#define BATCH_BYTES (32u << 10)
#define MAX_PASSES 16

struct level {
    int fd; /* -1 when it is too deep to be kept */
    dev_t device;
    ino_t inode;
    off_t position;
    size_t names;    /* where this level's names begin in the walk's */
    unsigned passes; /* how often it was read from its start */
};

struct walk {
    struct level *levels;
    size_t depth, room;
    char *names; /* NUL-terminated, the deepest level's last */
    size_t names_len, names_room;
    char *batch;
    bool removes;
    struct keyset links;
    uint64_t bytes, disk_bytes, inodes;
};

static int enter(int parent, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, parent, name, &how, sizeof how);

    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        struct stat outer, inner;

        /* A filter around us forbids it: the device number shows most mounts. */
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 &&
            (fstat(parent, &outer) || fstat(fd, &inner) || outer.st_dev != inner.st_dev)) {
            close(fd);
            return -EXDEV;
        }
    }
    return fd >= 0 ? fd : -errno;
}

/* An owner may have taken his own permission away. */
static int force_open(int parent, const char *name)
{
    char path[40];
    int handle;

    handle = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (handle < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
    if (chmod(path, 0700)) {
        int error = -errno;

        close(handle);
        return error;
    }
    close(handle);
    return enter(parent, name);
}

static int push(struct walk *w, int fd)
{
    struct stat st;
    struct level *level;

    if (fstat(fd, &st)) {
        int error = -errno;

        close(fd);
        return error;
    }
    if (w->depth == w->room) {
        size_t room = w->room ? w->room * 2 : KEPT;
        struct level *bigger = realloc(w->levels, room * sizeof *bigger);

        if (!bigger) {
            close(fd);
            return -ENOMEM;
        }
        w->levels = bigger;
        w->room = room;
    }
    level = &w->levels[w->depth++];
    *level = (struct level){
        .fd = fd, .device = st.st_dev, .inode = st.st_ino, .names = w->names_len, .passes = 1};
    return 0;
}

static int remember(struct walk *w, const char *name)
{
    size_t len = strlen(name) + 1;

    if (w->names_len + len > w->names_room) {
        size_t room = w->names_room ? w->names_room * 2 : BATCH_BYTES;
        char *bigger = realloc(w->names, room);

        if (!bigger)
            return -ENOMEM;
        w->names = bigger;
        w->names_room = room;
    }
    memcpy(w->names + w->names_len, name, len);
    w->names_len += len;
    return 0;
}

static char *last_name(const struct walk *w)
{
    char *name = w->names + w->names_len - 1;

    while (name > w->names && name[-1] != 0)
        name--;
    return name;
}

static void forget_last(struct walk *w)
{
    w->names_len = (size_t)(last_name(w) - w->names);
}

static int count(struct walk *w, int fd, const char *name, bool *is_directory)
{
    struct stat st;

    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -errno;
    *is_directory = S_ISDIR(st.st_mode);
    if (st.st_nlink > 1 && !*is_directory) {
        int added = keyset_add(&w->links, st.st_ino);

        if (added <= 0)
            return added;
    }
    w->inodes++;
    w->disk_bytes += (uint64_t)st.st_blocks * 512;
    if (!*is_directory)
        w->bytes += (uint64_t)st.st_size;
    return 0;
}

/* unlinkat in a directory whose owner may have taken his own permission away. */
static int unlink_in(int fd, const char *name, int flags)
{
    if (unlinkat(fd, name, flags) == 0)
        return 0;
    if (errno == EACCES && fchmod(fd, 0700) == 0 && unlinkat(fd, name, flags) == 0)
        return 0;
    return -1;
}

static int remove_entry(int fd, const struct dirent64 *entry, bool *is_directory)
{
    *is_directory = entry->d_type == DT_DIR;
    if (*is_directory || unlink_in(fd, entry->d_name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno == EISDIR || (errno == EPERM && entry->d_type == DT_UNKNOWN)) {
        *is_directory = true;
        return 0;
    }
    return -errno;
}

/* Handle one batch of entries; 1: there may be more, 0: the end, -errno. */
static int read_batch(struct walk *w, int fd)
{
    ssize_t n = getdents64(fd, w->batch, BATCH_BYTES);

    if (n < 0)
        return -errno;
    for (ssize_t at = 0; at < n;) {
        const struct dirent64 *entry = (const struct dirent64 *)(w->batch + at);
        bool is_directory = false;
        int error;

        at += entry->d_reclen;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (w->removes)
            error = remove_entry(fd, entry, &is_directory);
        else
            error = count(w, fd, entry->d_name, &is_directory);
        if (!error && is_directory)
            error = remember(w, entry->d_name);
        if (error)
            return error;
    }
    return n > 0;
}

/* Leave the deepest level; its parent's descriptor is open again afterwards. */
static int pop(struct walk *w)
{
    struct level *child = &w->levels[w->depth - 1];
    struct level *level = child - 1;
    int error = 0;

    if (level->fd < 0) {
        struct stat st;

        level->fd = openat(child->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (level->fd < 0 || fstat(level->fd, &st))
            error = -errno;
        else if (st.st_dev != level->device || st.st_ino != level->inode)
            error = -ESTALE;
        else if (lseek(level->fd, w->removes ? 0 : level->position, SEEK_SET) < 0)
            error = -errno;
    }
    w->names_len = child->names;
    close(child->fd);
    w->depth--;
    return error;
}

static int descend(struct walk *w)
{
    struct level *level = &w->levels[w->depth - 1];
    int fd = enter(level->fd, last_name(w));

    if (fd == -EACCES && w->removes)
        fd = force_open(level->fd, last_name(w));
    if (fd < 0)
        return fd;
    if (w->depth > KEPT) {
        level->position = lseek(level->fd, 0, SEEK_CUR);
        close(level->fd);
        level->fd = -1;
    }
    return push(w, fd);
}

/* The directory at the deepest level is done: take it away, in its parent. */
static int finish_level(struct walk *w)
{
    struct level *level = &w->levels[w->depth - 1];
    int error = pop(w);

    level--;
    if (error)
        return error;
    if (w->removes && unlink_in(level->fd, last_name(w), AT_REMOVEDIR)) {
        /* Some filesystems skip entries when others are removed meanwhile. */
        if (errno == ENOTEMPTY && ++level->passes <= MAX_PASSES)
            return 0;
        if (errno != ENOENT)
            return -errno;
    }
    forget_last(w);
    return 0;
}

static int walk(struct walk *w)
{
    for (;;) {
        struct level *level = &w->levels[w->depth - 1];
        int result;

        if (w->names_len > level->names) {
            result = descend(w);
            if (!w->removes && (result == -ENOENT || result == -EXDEV || result == -ENOTDIR ||
                                result == -ELOOP || result == -EACCES)) {
                forget_last(w);
                result = 0;
            }
        } else {
            result = read_batch(w, level->fd);
            if (result == 0) {
                if (w->depth == 1)
                    return 0;
                result = finish_level(w);
            }
        }
        if (result < 0)
            return result;
    }
}

static void walk_free(struct walk *w)
{
    for (size_t i = 0; i < w->depth; i++)
        if (w->levels[i].fd >= 0)
            close(w->levels[i].fd);
    free(w->levels);
    free(w->names);
    free(w->batch);
    keyset_free(&w->links);
}

static int remove_below(int fd)
{
    struct walk w = {.removes = true, .batch = malloc(BATCH_BYTES)};
    int error;

    if (!w.batch) {
        close(fd);
        return -ENOMEM;
    }
    error = push(&w, fd);
    if (!error)
        error = walk(&w);
    walk_free(&w);
    return error;
}

int tree_remove(int dir, const char *name)
{
    int error, fd;

    if (name[0] == 0 || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return -EINVAL;
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    error = -errno;
    for (int pass = 0; pass < MAX_PASSES; pass++) {
        if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
            return 0;
        if (errno == ENOTDIR)
            return error;
        if (errno != ENOTEMPTY && errno != EEXIST)
            return -errno;
        fd = enter(dir, name);
        if (fd == -EACCES)
            fd = force_open(dir, name);
        if (fd < 0)
            return fd;
        error = remove_below(fd);
        if (error)
            return error;
    }
    return -ENOTEMPTY;
}

int tree_size(int dir, uint64_t *bytes, uint64_t *inodes, uint64_t *disk_bytes)
{
    struct walk w = {.batch = malloc(BATCH_BYTES), .inodes = 1};
    struct stat st;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 ? -errno : push(&w, fd);

    if (!error && fstat(fd, &st) == 0)
        w.disk_bytes = (uint64_t)st.st_blocks * 512;
    if (!error)
        error = w.batch ? walk(&w) : -ENOMEM;
    if (error == -ESTALE)
        error = 0;
    *bytes = w.bytes;
    *inodes = w.inodes;
    *disk_bytes = w.disk_bytes;
    walk_free(&w);
    return error;
}
