/* Copy a folder's content by handle, into a file system that is not attached yet.
 *
 * Runs in init.  The source is an image's, so nothing in it is followed and everything is bounded;
 * what is no folder, file or link (a device, a socket) is left out.  The destination is seen by
 * nobody else. */
#include "init.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_DEPTH 32
#define MAX_ENTRIES 100000

struct entry { /* struct linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

struct copy {
    int entries;
    int depth;
};

static int copy_entries(struct copy *copy, int from, int to);

static int copy_owner(int to, const struct stat *info)
{
    if (fchown(to, info->st_uid, info->st_gid) < 0)
        return -errno;
    /* After chown, which takes the set-id bits away. */
    return or_errno(fchmod(to, info->st_mode & 07777));
}

static int copy_bytes(int from, int to)
{
    char buffer[16384];

    for (;;) {
        ssize_t size = read(from, buffer, sizeof buffer);

        if (size <= 0)
            return size < 0 ? -errno : 0;
        for (ssize_t done = 0; done < size;) {
            ssize_t written = write(to, buffer + done, (size_t)(size - done));

            if (written < 0)
                return -errno;
            done += written;
        }
    }
}

static int copy_file(int from, int to, const char *name)
{
    cleanup_fd int in =
        or_errno(openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    cleanup_fd int out = -1;
    struct stat info;
    int result;

    if (in < 0)
        return in;
    if (fstat(in, &info) < 0)
        return -errno;
    if (!S_ISREG(info.st_mode))
        return -EXDEV; /* it was swapped since it was looked at */
    out = or_errno(openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (out < 0)
        return out;
    result = copy_bytes(in, out);
    return result < 0 ? result : copy_owner(out, &info);
}

static int copy_link(int from, int to, const char *name, const struct stat *info)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(from, name, target, sizeof target - 1);

    if (size < 0)
        return -errno;
    target[size] = 0;
    if (symlinkat(target, to, name) < 0)
        return -errno;
    return or_errno(fchownat(to, name, info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW));
}

static int copy_subfolder(struct copy *copy, int from, int to, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    cleanup_fd int in = or_errno(openat(from, name, flags));
    cleanup_fd int out = -1;
    struct stat info;
    int result;

    if (in < 0)
        return in;
    if (++copy->depth > MAX_DEPTH)
        return -ELOOP;
    if (fstat(in, &info) < 0 || mkdirat(to, name, 0700) < 0)
        return -errno;
    out = or_errno(openat(to, name, flags));
    if (out < 0)
        return out;
    result = copy_entries(copy, in, out);
    copy->depth--;
    return result < 0 ? result : copy_owner(out, &info);
}

static int copy_entry(struct copy *copy, int from, int to, const char *name)
{
    struct stat info;

    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (++copy->entries > MAX_ENTRIES)
        return -E2BIG;
    if (fstatat(from, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (S_ISDIR(info.st_mode))
        return copy_subfolder(copy, from, to, name);
    if (S_ISREG(info.st_mode))
        return copy_file(from, to, name);
    if (S_ISLNK(info.st_mode))
        return copy_link(from, to, name, &info);
    return 0;
}

static int copy_entries(struct copy *copy, int from, int to)
{
    char buffer[4096] __attribute__((aligned(8)));

    for (;;) {
        int size = or_errno(syscall(SYS_getdents64, from, buffer, sizeof buffer));

        if (size <= 0)
            return size;
        for (int at = 0; at < size;) {
            const struct entry *entry = (const void *)(buffer + at);
            int result = copy_entry(copy, from, to, entry->name);

            if (result < 0)
                return result;
            at += entry->size;
        }
    }
}

/* `from` and `to` may be O_PATH handles. */
int copy_folder(int from, int to)
{
    cleanup_fd int in = or_errno(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    cleanup_fd int out = or_errno(openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct copy copy = {0};
    struct stat info;
    int result;

    if (in < 0 || out < 0)
        return in < 0 ? in : out;
    if (fstat(in, &info) < 0)
        return -errno;
    result = copy_entries(&copy, in, out);
    return result < 0 ? result : copy_owner(out, &info);
}
