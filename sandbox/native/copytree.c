/* Copy a whole tree by handle.
 *
 * May assume: nobody else knows the folder that is filled, and its file system is ours.  The source
 * was filled by a stranger: nothing in it is followed, its depth and its number of entries are
 * bounded, and what it takes on the disk is what it took there, for holes stay holes and a hard
 * link is made again instead of copied.
 */
#include "copytree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sys.h"

#define MAX_DEPTH 200 /* each level holds two descriptors */
#define MAX_ENTRIES 10000000u
#define BATCH_BYTES (16u << 10)
#define COPY_BYTES (1u << 20)
#define XATTR_BYTES (64u << 10) /* the kernel's bound, of a value and of all names */

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* A file of several names: which it is, and the first name it got, from the top of the copy. */
struct linked {
    dev_t device;
    ino_t inode;
    size_t path; /* in copy.paths */
};

struct copy {
    int top;
    dev_t device; /* of the source's folders: another one is another mount */
    unsigned depth;
    uint32_t entries;
    char *buffer, *names, *value;
    struct linked *links; /* open addressing; path 0 is an empty slot */
    size_t links_used, links_size;
    char *paths; /* NUL-terminated; the first byte is nobody's */
    size_t paths_used, paths_size;
    char path[PATH_MAX]; /* of the present folder, from the top */
    size_t path_len;
};

static int copy_entries(struct copy *c, int from, int to);

/* ---- attributes ---- */

/* What an image may set (unpack.c), and the default ACL of a folder. */
static bool is_wanted_xattr(const char *name)
{
    if (!strncmp(name, "trusted.", 8))
        return strncmp(name, "trusted.overlay.", 16) != 0;
    if (!strncmp(name, "user.", 5))
        return strncmp(name, "user.overlay.", 13) != 0;
    return !strcmp(name, "security.capability") || !strncmp(name, "system.posix_acl_", 17);
}

static int copy_xattrs(struct copy *c, int from, int to)
{
    ssize_t size = flistxattr(from, c->names, XATTR_BYTES);

    if (size < 0)
        return errno == EOPNOTSUPP ? 0 : -errno;
    for (const char *name = c->names; name < c->names + size; name += strlen(name) + 1) {
        ssize_t length;

        if (!is_wanted_xattr(name))
            continue;
        length = fgetxattr(from, name, c->value, XATTR_BYTES);
        if (length < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
            continue;
        if (length < 0)
            return -errno;
        if (fsetxattr(to, name, c->value, (size_t)length, 0) && errno != EOPNOTSUPP)
            return -errno;
    }
    return 0;
}

/* Owner first: chown takes set-user-id and capabilities away.  Times last. */
static int copy_attributes(struct copy *c, int from, int to)
{
    struct stat st;
    int error;

    if (fstat(from, &st) || fchown(to, st.st_uid, st.st_gid) || fchmod(to, st.st_mode & 07777))
        return -errno;
    error = copy_xattrs(c, from, to);
    if (error)
        return error;
    return or_errno(futimens(to, (struct timespec[]){st.st_atim, st.st_mtim}));
}

/* ---- files of several names ---- */

static struct linked *slot_of(struct linked *links, size_t size, dev_t device, ino_t inode)
{
    size_t at = (size_t)(((uint64_t)inode ^ device) * 0x9e3779b97f4a7c15u >> 20) & (size - 1);

    while (links[at].path && (links[at].inode != inode || links[at].device != device))
        at = (at + 1) & (size - 1);
    return &links[at];
}

static int grow_links(struct copy *c)
{
    size_t size = c->links_size ? c->links_size * 2 : 256;
    struct linked *bigger = calloc(size, sizeof *bigger);

    if (!bigger)
        return -ENOMEM;
    for (size_t i = 0; i < c->links_size; i++)
        if (c->links[i].path)
            *slot_of(bigger, size, c->links[i].device, c->links[i].inode) = c->links[i];
    free(c->links);
    c->links = bigger;
    c->links_size = size;
    return 0;
}

static int remember_path(struct copy *c, const char *name)
{
    size_t len = strlen(name), whole = c->path_len + len + 2;

    if (c->paths_used + whole > c->paths_size) {
        size_t size = (c->paths_size ? c->paths_size : BATCH_BYTES) * 2;
        char *bigger = realloc(c->paths, size);

        if (!bigger)
            return -ENOMEM;
        c->paths = bigger;
        c->paths_size = size;
    }
    memcpy(c->paths + c->paths_used, c->path, c->path_len);
    memcpy(c->paths + c->paths_used + c->path_len, name, len + 1);
    c->paths_used += c->path_len + len + 1;
    return 0;
}

/* 1: it was here before, and has this name now too; 0: it is new, -errno. */
static int link_again(struct copy *c, const struct stat *st, int to, const char *name)
{
    struct linked *slot;
    size_t path = c->paths_used;
    int error;

    if (c->links_used * 2 >= c->links_size) {
        error = grow_links(c);
        if (error)
            return error;
    }
    slot = slot_of(c->links, c->links_size, st->st_dev, st->st_ino);
    if (slot->path)
        return linkat(c->top, c->paths + slot->path, to, name, 0) ? -errno : 1;
    error = remember_path(c, name);
    if (error)
        return error;
    *slot = (struct linked){.device = st->st_dev, .inode = st->st_ino, .path = path};
    c->links_used++;
    return 0;
}

/* ---- entries ---- */

static int copy_range(struct copy *c, int in, int out, off_t at, off_t end)
{
    while (at < end) {
        size_t wanted = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        ssize_t got = pread(in, c->buffer, wanted, at);

        if (got < 0)
            return -errno;
        if (got == 0)
            return 0;
        for (ssize_t done = 0; done < got;) {
            ssize_t n = pwrite(out, c->buffer + done, (size_t)(got - done), at + done);

            if (n < 0)
                return -errno;
            done += n;
        }
        at += got;
    }
    return 0;
}

static int copy_bytes(struct copy *c, int in, int out, off_t size)
{
    off_t at = 0;

    while (at < size) {
        off_t start = lseek(in, at, SEEK_DATA), end;
        int error;

        if (start < 0 && errno == ENXIO)
            break; /* a hole up to its end */
        end = start < 0 ? size : lseek(in, start, SEEK_HOLE);
        if (start < 0)
            start = at; /* a file system that does not know its holes */
        if (end < 0 || end > size)
            end = size;
        error = copy_range(c, in, out, start, end);
        if (error)
            return error;
        at = end;
    }
    return ftruncate(out, size) ? -errno : 0;
}

static int copy_file(struct copy *c, int from, int to, const char *name)
{
    cleanup_fd int in =
        or_errno(openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    cleanup_fd int out = -1;
    struct stat st;
    int result;

    if (in < 0)
        return in;
    if (fstat(in, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EXDEV; /* it was swapped since it was looked at */
    out = or_errno(openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (out < 0)
        return out;
    result = copy_bytes(c, in, out, st.st_size);
    return result ? result : copy_attributes(c, in, out);
}

static int set_attributes_at(int to, const char *name, const struct stat *st)
{
    if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW))
        return -errno;
    return or_errno(
        utimensat(to, name, (struct timespec[]){st->st_atim, st->st_mtim}, AT_SYMLINK_NOFOLLOW));
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(from, name, target, sizeof target - 1);

    if (size < 0)
        return -errno;
    target[size] = 0;
    if (symlinkat(target, to, name))
        return -errno;
    return set_attributes_at(to, name, st);
}

static int copy_fifo(int to, const char *name, const struct stat *st)
{
    if (mknodat(to, name, S_IFIFO | 0600, 0))
        return -errno;
    if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) ||
        fchmodat(to, name, st->st_mode & 07777, 0))
        return -errno;
    return set_attributes_at(to, name, st);
}

static int copy_folder(struct copy *c, int from, int to, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    cleanup_fd int in = or_errno(openat(from, name, flags));
    cleanup_fd int out = -1;
    size_t before = c->path_len, len = strlen(name);
    struct stat st;
    int result;

    if (in < 0)
        return in;
    if (fstat(in, &st))
        return -errno;
    if (st.st_dev != c->device)
        return 0;
    if (++c->depth > MAX_DEPTH)
        return -ELOOP;
    if (before + len + 1 + NAME_MAX + 1 > sizeof c->path)
        return -ENAMETOOLONG;
    if (mkdirat(to, name, 0700))
        return -errno;
    out = or_errno(openat(to, name, flags));
    if (out < 0)
        return out;
    memcpy(c->path + before, name, len);
    c->path[before + len] = '/';
    c->path_len = before + len + 1;
    result = copy_entries(c, in, out);
    c->path_len = before;
    c->depth--;
    return result ? result : copy_attributes(c, in, out);
}

static int copy_entry(struct copy *c, int from, int to, const char *name)
{
    struct stat st;

    if (!strcmp(name, ".") || !strcmp(name, ".."))
        return 0;
    if (++c->entries > MAX_ENTRIES)
        return -E2BIG;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (S_ISDIR(st.st_mode))
        return copy_folder(c, from, to, name);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) && !S_ISFIFO(st.st_mode))
        return 0;
    if (st.st_nlink > 1) {
        int linked = link_again(c, &st, to, name);

        if (linked)
            return linked < 0 ? linked : 0;
    }
    if (S_ISREG(st.st_mode))
        return copy_file(c, from, to, name);
    return S_ISLNK(st.st_mode) ? copy_link(from, to, name, &st) : copy_fifo(to, name, &st);
}

static int copy_entries(struct copy *c, int from, int to)
{
    char *batch = malloc(BATCH_BYTES);
    int error = batch ? 0 : -ENOMEM;

    while (!error) {
        ssize_t n = getdents64(from, batch, BATCH_BYTES);

        if (n <= 0) {
            error = n < 0 ? -errno : 0;
            break;
        }
        for (ssize_t at = 0; at < n && !error;) {
            const struct dirent64 *entry = (const struct dirent64 *)(batch + at);

            at += entry->d_reclen;
            error = copy_entry(c, from, to, entry->d_name);
        }
    }
    free(batch);
    return error;
}

/* ---- the whole ---- */

static int copy_open(struct copy *c)
{
    *c = (struct copy){.paths_used = 1};
    c->buffer = malloc(COPY_BYTES);
    c->names = malloc(XATTR_BYTES);
    c->value = malloc(XATTR_BYTES);
    return c->buffer && c->names && c->value ? 0 : -ENOMEM;
}

static void copy_close(struct copy *c)
{
    free(c->buffer);
    free(c->names);
    free(c->value);
    free(c->links);
    free(c->paths);
}

int tree_copy(int from, int to, bool durable)
{
    cleanup_fd int in = or_errno(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct copy copy;
    struct stat st;
    int error = copy_open(&copy);

    copy.top = to;
    if (!error && (in < 0 || fstat(in, &st)))
        error = in < 0 ? in : -errno;
    if (!error) {
        copy.device = st.st_dev;
        error = copy_entries(&copy, in, to);
    }
    if (!error)
        error = copy_attributes(&copy, in, to);
    if (!error && durable)
        error = or_errno(syncfs(to));
    copy_close(&copy);
    return error;
}

int tree_move(int from, int to)
{
    struct copy copy;
    struct stat st; /* moving changes the times */
    int error = copy_open(&copy);
    bool moved = true;

    if (!error && fstat(from, &st))
        error = -errno;

    /* A folder that changes while it is read may show only a part: until nothing is left to move.
     */
    while (!error && moved) {
        ssize_t n;

        moved = false;
        if (lseek(from, 0, SEEK_SET) < 0) {
            error = -errno;
            break;
        }
        while (!error && (n = getdents64(from, copy.buffer, COPY_BYTES)) != 0) {
            if (n < 0) {
                error = -errno;
                break;
            }
            for (ssize_t at = 0; at < n && !error;) {
                const struct dirent64 *entry = (const struct dirent64 *)(copy.buffer + at);
                const char *name = entry->d_name;

                at += entry->d_reclen;
                if (!strcmp(name, ".") || !strcmp(name, ".."))
                    continue;
                if (renameat2(from, name, to, name, RENAME_NOREPLACE) == 0)
                    moved = true;
                else if (errno != EEXIST && errno != ENOENT)
                    error = -errno;
            }
        }
    }
    if (!error)
        error = copy_attributes(&copy, from, to);
    if (!error)
        error = or_errno(futimens(to, (struct timespec[]){st.st_atim, st.st_mtim}));
    copy_close(&copy);
    return error;
}
