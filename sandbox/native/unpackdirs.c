/* Directories get their final mode, default ACL and times at the end, deepest first.
 *
 * May assume: a struct unpack whose fault, options and entry are set.  Until the end a directory is
 * accessible to its owner and without set-group-id and default ACL, so that what is made in it can
 * be made and has the owner and mode that the archive says.  A directory is known by its device and
 * inode: the last record for one holds, and a record whose path leads to another inode by now is of
 * something that a later entry replaced.  The records are bounded by RECORD_BYTES in all.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "inroot.h"
#include "unpacker.h"

#define RECORD_BYTES (256u << 20)

/* What is still to be done to a directory at the end. */
struct directory {
    uint64_t device, inode;
    uint64_t order;
    uint64_t path; /* offsets into the texts */
    uint64_t acl;
    uint32_t acl_size;
    uint32_t depth;
    uint32_t mode;
    uint32_t mtime_ns;
    int64_t mtime;
    bool is_implied;
};

static uint32_t depth_of(const char *path)
{
    uint32_t depth = *path != 0;

    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

static int keep_text(struct unpack *u, const void *text, size_t size, uint64_t *offset)
{
    if (u->texts_len + size > u->texts_room) {
        size_t room = u->texts_room ? u->texts_room * 2 : 65536;
        char *bigger;

        while (room < u->texts_len + size)
            room *= 2;
        if (room > RECORD_BYTES)
            return fault_unsafe(u->fault, "too many directories");
        bigger = realloc(u->texts, room);
        if (!bigger)
            return fault_system(u->fault, "malloc", ENOMEM);
        u->texts = bigger;
        u->texts_room = room;
    }
    *offset = u->texts_len;
    memcpy(u->texts + u->texts_len, text, size);
    u->texts_len += size;
    return 0;
}

static const struct tar_xattr *default_acl(const struct tar_entry *entry)
{
    for (size_t i = 0; i < entry->xattr_count; i++)
        if (!strcmp(entry->xattrs[i].name, "system.posix_acl_default"))
            return &entry->xattrs[i];
    return NULL;
}

int keep_directory(struct unpack *u, int fd, const char *path, bool is_implied)
{
    const struct tar_entry *entry = u->entry;
    const struct tar_xattr *acl = is_implied || is_stripped(u) ? NULL : default_acl(entry);
    struct directory *d;
    struct stat st;
    int error;

    if (fstat(fd, &st))
        return fault_system(u->fault, "fstat", errno);
    if (u->directory_count == u->directory_room) {
        size_t room = u->directory_room ? u->directory_room * 2 : 1024;
        struct directory *bigger;

        if (room * sizeof *bigger > RECORD_BYTES)
            return fault_unsafe(u->fault, "too many directories");
        bigger = realloc(u->directories, room * sizeof *bigger);
        if (!bigger)
            return fault_system(u->fault, "malloc", ENOMEM);
        u->directories = bigger;
        u->directory_room = room;
    }
    d = &u->directories[u->directory_count];
    *d = (struct directory){
        .device = st.st_dev,
        .inode = st.st_ino,
        .order = u->directory_count,
        .depth = depth_of(path),
        .mode = is_implied ? 0755 : mode_for(u, entry->mode),
        .mtime = entry->mtime,
        .mtime_ns = entry->mtime_ns,
        .is_implied = is_implied,
    };
    error = keep_text(u, path, strlen(path) + 1, &d->path);
    if (!error && acl) {
        d->acl_size = (uint32_t)acl->size;
        error = keep_text(u, acl->value, acl->size, &d->acl);
    }
    u->directory_count++;
    return error;
}

static int by_inode(const void *left, const void *right)
{
    const struct directory *a = left, *b = right;

    if (a->device != b->device)
        return a->device < b->device ? -1 : 1;
    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static int deepest_first(const void *left, const void *right)
{
    const struct directory *a = left, *b = right;

    if (a->depth != b->depth)
        return a->depth > b->depth ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static int add_implied(struct unpack *u, const char *path)
{
    struct unpack_result *r = u->result;
    size_t len = strlen(path) + 1;
    char *bigger = realloc(r->implied, r->implied_bytes + len);

    if (!bigger)
        return fault_system(u->fault, "malloc", ENOMEM);
    r->implied = bigger;
    memcpy(r->implied + r->implied_bytes, path, len);
    r->implied_bytes += len;
    return 0;
}

static int set_default_acl(struct unpack *u, int fd, const struct directory *d)
{
    if (!d->acl_size ||
        !fsetxattr(fd, "system.posix_acl_default", u->texts + d->acl, d->acl_size, 0))
        return 0;
    if (errno == EOPNOTSUPP) {
        u->result->passed_over++;
        return 0;
    }
    if (errno == EINVAL)
        return fault_damaged(u->fault, "invalid default ACL");
    return fault_system(u->fault, "fsetxattr", errno);
}

static int finish_directory(struct unpack *u, const struct directory *d)
{
    const char *path = u->texts + d->path;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = d->mtime, .tv_nsec = d->mtime_ns}};
    struct stat st;
    int error = 0, fd;

    fd = inroot_open_plain(u->options->root, *path ? path : ".", O_RDONLY | O_DIRECTORY);
    /* It was replaced by a later entry. */
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
        return 0;
    if (fd < 0)
        return fault_system(u->fault, "openat2", -fd);
    if (fstat(fd, &st)) {
        error = fault_system(u->fault, "fstat", errno);
    } else if (st.st_ino == d->inode && st.st_dev == d->device) {
        error = set_default_acl(u, fd, d);
        if (!error && (st.st_mode & 07777) != d->mode && fchmod(fd, d->mode))
            error = fault_system(u->fault, "fchmod", errno);
        if (!error && futimens(fd, times))
            error = fault_system(u->fault, "futimens", errno);
        if (!error && d->is_implied)
            error = add_implied(u, path);
    }
    close(fd);
    return error;
}

/* A layer that does not list its root says nothing of it: the root of the layers below goes on. */
static bool lists_root(const struct unpack *u)
{
    for (size_t i = 0; i < u->directory_count; i++)
        if (u->texts[u->directories[i].path] == '\0')
            return true;
    return false;
}

int finish_directories(struct unpack *u)
{
    struct directory *all = u->directories;
    size_t kept = 0;
    int error = 0;

    if (!is_applied(u) && !is_copy(u) && !lists_root(u))
        error = add_implied(u, "");
    if (error || u->directory_count == 0)
        return error;
    qsort(all, u->directory_count, sizeof *all, by_inode);
    for (size_t i = 0; i < u->directory_count; i++)
        if (i + 1 == u->directory_count || all[i].inode != all[i + 1].inode ||
            all[i].device != all[i + 1].device)
            all[kept++] = all[i];
    qsort(all, kept, sizeof *all, deepest_first);
    for (size_t i = 0; i < kept && !error; i++) {
        error = finish_directory(u, &all[i]);
        if (error)
            snprintf(u->fault->entry, sizeof u->fault->entry, "%s", u->texts + all[i].path);
    }
    return error;
}
