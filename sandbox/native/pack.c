/* A tree becomes a tar stream.
 *
 * May assume: nothing of the tree; a stranger filled it, and may be changing it.  An object is
 * first taken by handle (O_PATH, no link followed), and all that is said of it is asked of that
 * handle; only what the handle says is a regular file or a directory is opened, so no device or
 * fifo is, whatever takes its name meanwhile.  What is gone when its turn comes is left out.  A
 * file has the size that it had when it was opened.
 *
 * The walk is on the heap, not on the stack; the first KEPT levels keep their descriptors, deeper
 * ones are reached again through `..`, which is believed only if it is the directory that was
 * left.  Memory: the names of the directories that lead to where the walk is, and one name for each
 * file that has several; both are bounded.
 */
#include "pack.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tarwriter.h"

#define KEPT 64
#define BATCH_BYTES (32u << 10)
#define MAX_NAMES_BYTES (512u << 20)
#define MAX_LINKS_BYTES (256u << 20)
#define MAX_XATTRS 4096u
#define MAX_PIECES 65536u
#define WHITEOUT ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct level {
    int fd; /* -1 when it is too deep to be kept */
    dev_t device;
    ino_t inode;
    size_t names;      /* where its names begin in the pack's */
    size_t first, end; /* its part of the pack's order */
    size_t next;
    size_t path_len;
};

/* A file with several names, and the one that it has in the archive. */
struct link {
    dev_t device;
    ino_t inode;
    size_t name; /* where in the texts, counted from 1; 0 is an empty place */
};

struct links {
    struct link *places;
    size_t size, used;
    char *texts;
    size_t len, room;
};

struct pack {
    const struct pack_options *options;
    struct pack_result *result;
    struct progress *progress;
    struct fault *fault;
    struct tar_writer writer;
    struct level *levels;
    size_t depth, level_room;
    char *names;
    size_t names_len, names_room;
    size_t *order;
    size_t order_len, order_room;
    char *batch, *listed, *value; /* BATCH_BYTES, XATTR_LIST_MAX + 1, XATTR_SIZE_MAX */
    struct links links;
    char path[PATH_MAX];
    size_t path_len;
};

/* What an object's attributes say of the layers below. */
struct marks {
    bool is_opaque, is_whiteout, is_elsewhere;
};

static int out_of_memory(struct pack *p)
{
    return fault_system(p->fault, "malloc", ENOMEM);
}

/* Room for `more` after `len` in an array of items of `size`. */
static int grow(struct pack *p, void **array, size_t *room, size_t len, size_t more, size_t size)
{
    size_t wanted = *room ? *room : 256;
    void *bigger;

    while (wanted - len < more)
        wanted *= 2;
    if (wanted == *room)
        return 0;
    bigger = realloc(*array, wanted * size);
    if (!bigger)
        return out_of_memory(p);
    *array = bigger;
    *room = wanted;
    return 0;
}

/* ---- names ---- */

static int set_path(struct pack *p, size_t parent_len, const char *prefix, const char *name)
{
    size_t slash = parent_len > 0, len = parent_len + slash + strlen(prefix) + strlen(name);

    if (len >= sizeof p->path)
        return fault_unsafe(p->fault, "a name of more than %zu bytes", sizeof p->path - 1);
    if (slash)
        p->path[parent_len] = '/';
    sprintf(p->path + parent_len + slash, "%s%s", prefix, name);
    p->path_len = len;
    return 0;
}

static int by_bytes(const void *left, const void *right, void *names)
{
    return strcmp((const char *)names + *(const size_t *)left,
                  (const char *)names + *(const size_t *)right);
}

static int add_name(struct pack *p, const char *name)
{
    size_t len = strlen(name) + 1;
    int error = 0;

    if (p->names_len + len > MAX_NAMES_BYTES)
        return fault_unsafe(p->fault, "more than %u bytes of names", MAX_NAMES_BYTES);
    error = grow(p, (void **)&p->names, &p->names_room, p->names_len, len, 1);
    if (!error)
        error = grow(p, (void **)&p->order, &p->order_room, p->order_len, 1, sizeof *p->order);
    if (error)
        return error;
    p->order[p->order_len++] = p->names_len;
    memcpy(p->names + p->names_len, name, len);
    p->names_len += len;
    return 0;
}

/* All names of an open directory, sorted. */
static int read_names(struct pack *p, struct level *level)
{
    ssize_t n;

    while ((n = getdents64(level->fd, p->batch, BATCH_BYTES)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(p->batch + at);
            int error = 0;

            at += entry->d_reclen;
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                error = add_name(p, entry->d_name);
            if (error)
                return error;
        }
        if (p->progress && __atomic_load_n(&p->progress->cancel, __ATOMIC_RELAXED))
            return fault_set(p->fault, FAULT_CANCELLED, ECANCELED, "cancelled");
    }
    if (n < 0 && errno != ENOENT)
        return fault_system(p->fault, "getdents64", errno);
    level->end = p->order_len;
    if (level->end > level->first)
        qsort_r(p->order + level->first, level->end - level->first, sizeof *p->order, by_bytes,
                p->names);
    return 0;
}

/* ---- files with several names ---- */

static size_t place_of(const struct links *links, dev_t device, ino_t inode)
{
    uint64_t key = (uint64_t)inode ^ (uint64_t)device << 40;
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (links->size - 1);

    while (links->places[at].name &&
           (links->places[at].inode != inode || links->places[at].device != device))
        at = (at + 1) & (links->size - 1);
    return at;
}

static int widen(struct pack *p)
{
    struct links *links = &p->links;
    struct links bigger = {.size = links->size ? links->size * 2 : 256};

    bigger.places = calloc(bigger.size, sizeof *bigger.places);
    if (!bigger.places)
        return out_of_memory(p);
    for (size_t i = 0; i < links->size; i++) {
        const struct link *link = &links->places[i];

        if (link->name)
            bigger.places[place_of(&bigger, link->device, link->inode)] = *link;
    }
    free(links->places);
    links->places = bigger.places;
    links->size = bigger.size;
    return 0;
}

/* The name under which this file is in the archive, or NULL: then it is noted under the present. */
static int find_link(struct pack *p, const struct stat *st, const char **name)
{
    struct links *links = &p->links;
    struct link *place;
    int error = 0;

    *name = NULL;
    if (links->used * 2 >= links->size)
        error = widen(p);
    if (error)
        return error;
    place = &links->places[place_of(links, st->st_dev, st->st_ino)];
    if (place->name) {
        *name = links->texts + place->name - 1;
        return 0;
    }
    if (links->len + p->path_len + 1 > MAX_LINKS_BYTES)
        return fault_unsafe(p->fault, "more than %u bytes of names of hard links", MAX_LINKS_BYTES);
    error = grow(p, (void **)&links->texts, &links->room, links->len, p->path_len + 1, 1);
    if (error)
        return error;
    *place = (struct link){.device = st->st_dev, .inode = st->st_ino, .name = links->len + 1};
    memcpy(links->texts + links->len, p->path, p->path_len + 1);
    links->len += p->path_len + 1;
    links->used++;
    return 0;
}

/* ---- attributes ---- */

static bool is_wanted_xattr(const char *name)
{
    if (!strncmp(name, "trusted.", 8))
        return strncmp(name, "trusted.overlay.", 16) != 0;
    if (!strncmp(name, "user.", 5))
        return strncmp(name, "user.overlay.", 13) != 0;
    return !strcmp(name, "security.capability") || !strcmp(name, "system.posix_acl_access") ||
           !strcmp(name, "system.posix_acl_default");
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void take_mark(const struct pack *p, const char *name, const char *value, ssize_t size,
                      struct marks *marks)
{
    size_t prefix = p->options->overlay ? strlen(p->options->overlay) : 0;

    if (prefix == 0 || strncmp(name, p->options->overlay, prefix) != 0)
        return;
    name += prefix;
    if (!strcmp(name, "opaque"))
        marks->is_opaque = size == 1 && value[0] == 'y';
    else if (!strcmp(name, "whiteout"))
        marks->is_whiteout = true;
    else if (!strcmp(name, "redirect") || !strcmp(name, "metacopy"))
        marks->is_elsewhere = true;
}

/* Records of the object's extended attributes, in order; overlay's own become *marks. */
static int take_xattrs(struct pack *p, int handle, struct marks *marks)
{
    char path[40], *names[MAX_XATTRS];
    size_t count = 0;
    ssize_t size;

    snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
    size = listxattr(path, p->listed, XATTR_LIST_MAX);
    if (size < 0)
        return errno == EOPNOTSUPP ? 0 : fault_system(p->fault, "listxattr", errno);
    p->listed[size] = 0;
    for (char *each = p->listed; each < p->listed + size && count < MAX_XATTRS;
         each += strlen(each) + 1)
        names[count++] = each;
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++) {
        int error = 0;

        size = getxattr(path, names[i], p->value, XATTR_SIZE_MAX);
        if (size < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
            continue;
        if (size < 0)
            return fault_system(p->fault, "getxattr", errno);
        take_mark(p, names[i], p->value, size, marks);
        if (!is_wanted_xattr(names[i]))
            continue;
        /* A record's key ends at its first `=`. */
        if (strchr(names[i], '='))
            p->result->passed_over++;
        else
            error =
                tar_writer_record(&p->writer, "SCHILY.xattr.", names[i], p->value, (size_t)size);
        if (error)
            return error;
    }
    return 0;
}

/* ---- entries ---- */

static struct tar_head head_of(struct pack *p, const struct stat *st, char type, const char *link)
{
    struct tar_head head = {
        .name = p->path,
        .link = link,
        .type = type,
        .mode = st->st_mode & 07777,
        .uid = id_inside(p->options->uids, p->options->uid_count, st->st_uid),
        .gid = id_inside(p->options->gids, p->options->gid_count, st->st_gid),
        .size = type == '0' ? (uint64_t)st->st_size : 0,
        .mtime = st->st_mtim.tv_sec,
        .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
    };

    if (type == '3' || type == '4') {
        head.major = major(st->st_rdev);
        head.minor = minor(st->st_rdev);
    }
    p->result->entries++;
    if (p->progress)
        __atomic_store_n(&p->progress->entries, p->result->entries, __ATOMIC_RELAXED);
    return head;
}

static int put_head(struct pack *p, const struct stat *st, char type, const char *link)
{
    struct tar_head head = head_of(p, st, type, link);

    return tar_writer_head(&p->writer, &head);
}

/* An empty file whose name is all that counts; p->path is that name already. */
static int put_mark(struct pack *p)
{
    const struct stat nothing = {.st_mode = 0600};

    p->writer.records.len = 0;
    return put_head(p, &nothing, '0', NULL);
}

static int put_whiteout(struct pack *p, size_t parent_len, const char *name)
{
    int error = set_path(p, parent_len, WHITEOUT, name);

    return error ? error : put_mark(p);
}

/* Where the file has data, in order; what is behind the last piece that there is room for belongs
 * to it.  -errno: this file system does not say. */
static ssize_t find_pieces(int fd, uint64_t size, struct tar_piece *pieces)
{
    off_t at = 0;
    size_t count = 0;

    while ((uint64_t)at < size) {
        off_t data = lseek(fd, at, SEEK_DATA), hole;

        if (data < 0)
            return errno == ENXIO ? (ssize_t)count : -errno; /* nothing but a hole to the end */
        if ((uint64_t)data >= size)
            break;
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        if ((uint64_t)hole > size || count == MAX_PIECES - 1)
            hole = (off_t)size;
        pieces[count++] = (struct tar_piece){(uint64_t)data, (uint64_t)(hole - data)};
        at = hole;
    }
    return (ssize_t)count;
}

/* 1: it has no holes, or nobody wants to know. */
static int put_sparse(struct pack *p, int fd, const struct stat *st, bool *is_short)
{
    struct tar_piece *pieces;
    struct tar_head head;
    ssize_t count;
    int error;

    if (!(p->options->flags & PACK_SPARSE) || st->st_blocks >= (st->st_size + 511) / 512)
        return 1;
    pieces = malloc(MAX_PIECES * sizeof *pieces);
    if (!pieces)
        return out_of_memory(p);
    count = find_pieces(fd, (uint64_t)st->st_size, pieces);
    if (count < 0) {
        free(pieces);
        return lseek(fd, 0, SEEK_SET) < 0 ? fault_system(p->fault, "lseek", errno) : 1;
    }
    head = head_of(p, st, '0', NULL);
    error = tar_writer_sparse(&p->writer, &head, fd, pieces, (size_t)count, is_short);
    free(pieces);
    return error;
}

static int put_file(struct pack *p, int handle)
{
    struct stat st;
    char path[40];
    bool is_short;
    int fd, error;

    snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
    /* Read without a trace, where that is allowed. */
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
    if (fd < 0 && errno == EPERM)
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fault_system(p->fault, "open", errno);
    error =
        fstat(fd, &st) ? fault_system(p->fault, "fstat", errno) : put_sparse(p, fd, &st, &is_short);
    if (error == 1) {
        error = put_head(p, &st, '0', NULL);
        if (!error)
            error = tar_writer_content(&p->writer, fd, (uint64_t)st.st_size, &is_short);
    }
    if (!error)
        p->result->changed += is_short;
    close(fd);
    return error;
}

static int put_symlink(struct pack *p, int handle, const struct stat *st)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(handle, "", target, sizeof target - 1);

    if (size < 0)
        return fault_system(p->fault, "readlinkat", errno);
    target[size] = 0;
    return put_head(p, st, '2', target);
}

static int put_other(struct pack *p, int handle, const struct stat *st)
{
    const char *first = NULL;
    int error = 0;

    if (p->path_len == 0)
        error = fault_system(p->fault, "openat", ENOTDIR); /* only a directory needs no name */
    else if (st->st_nlink > 1)
        error = find_link(p, st, &first);
    if (error)
        return error;
    if (first) {
        p->writer.records.len = 0; /* they are said where the file is */
        return put_head(p, st, '1', first);
    }
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return put_file(p, handle);
    case S_IFLNK:
        return put_symlink(p, handle, st);
    case S_IFCHR:
        return put_head(p, st, '3', NULL);
    case S_IFBLK:
        return put_head(p, st, '4', NULL);
    default:
        return put_head(p, st, '6', NULL);
    }
}

/* ---- the walk ---- */

static int push(struct pack *p, int fd)
{
    struct level *level;
    struct stat st;
    int error = fstat(fd, &st) ? fault_system(p->fault, "fstat", errno) : 0;

    if (!error)
        error = grow(p, (void **)&p->levels, &p->level_room, p->depth, 1, sizeof *p->levels);
    if (error) {
        close(fd);
        return error;
    }
    if (p->depth > KEPT) {
        close(p->levels[p->depth - 1].fd);
        p->levels[p->depth - 1].fd = -1;
    }
    level = &p->levels[p->depth++];
    *level = (struct level){.fd = fd,
                            .device = st.st_dev,
                            .inode = st.st_ino,
                            .names = p->names_len,
                            .first = p->order_len,
                            .next = p->order_len,
                            .end = p->order_len,
                            .path_len = p->path_len};
    return read_names(p, level);
}

/* Leave the deepest level; its parent's descriptor is open again afterwards. */
static int pop(struct pack *p)
{
    struct level *child = &p->levels[p->depth - 1], *level = child - 1;
    int error = 0;

    if (p->depth > 1 && level->fd < 0) {
        struct stat st;

        level->fd = openat(child->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (level->fd < 0 || fstat(level->fd, &st))
            error = fault_system(p->fault, "openat", errno);
        else if (st.st_dev != level->device || st.st_ino != level->inode)
            error = fault_system(p->fault, "openat", ESTALE);
    }
    p->names_len = child->names;
    p->order_len = child->first;
    close(child->fd);
    p->depth--;
    return error;
}

/* Its files are made up when they are read, and some have effects. */
static bool is_kernels(int fd)
{
    struct statfs info;

    if (fstatfs(fd, &info))
        return false;
    return info.f_type == PROC_SUPER_MAGIC || info.f_type == SYSFS_MAGIC ||
           info.f_type == CGROUP_SUPER_MAGIC || info.f_type == CGROUP2_SUPER_MAGIC;
}

/* The directory's entry, and what is below it is next. */
static int put_directory(struct pack *p, int handle, const struct stat *st,
                         const struct marks *marks)
{
    size_t len = p->path_len;
    int fd, error = len > 0 ? put_head(p, st, '5', NULL) : 0;

    p->writer.records.len = 0;
    if (!error && marks->is_opaque) {
        error = set_path(p, len, "", WHITEOUT_OPAQUE);
        if (!error)
            error = put_mark(p);
    }
    if (error)
        return error;
    p->path_len = len;
    p->path[len] = 0;
    fd = openat(handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fault_system(p->fault, "openat", errno);
    if (p->options->flags & PACK_NO_KERNEL && p->depth > 0 && is_kernels(fd)) {
        close(fd);
        return 0;
    }
    return push(p, fd);
}

/* A handle on `name` itself, or -errno; -EXDEV when something is mounted there and not wanted. */
static int take_handle(const struct pack *p, int dir, const char *name)
{
    const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    struct open_how how = {.flags = (uint64_t)flags, .resolve = RESOLVE_NO_XDEV};
    int fd = -1;

    errno = ENOSYS;
    if (p->options->flags & PACK_ONE_MOUNT)
        fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        struct stat outer, inner;

        fd = openat(dir, name, flags);
        /* A filter around us forbids it: the device number shows most mounts. */
        if (fd >= 0 && p->options->flags & PACK_ONE_MOUNT &&
            (fstat(dir, &outer) || fstat(fd, &inner) || outer.st_dev != inner.st_dev)) {
            close(fd);
            return -EXDEV;
        }
    }
    return fd >= 0 ? fd : -errno;
}

/* Something is mounted there: the empty place. */
static int put_mount_point(struct pack *p, int dir, const char *name)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : fault_system(p->fault, "fstatat", errno);
    st.st_size = 0;
    return put_head(p, &st, S_ISDIR(st.st_mode) ? '5' : '0', NULL);
}

static int put_handle(struct pack *p, int handle, size_t parent_len, const char *name)
{
    struct marks marks = {0};
    struct stat st;
    int error;

    if (fstat(handle, &st))
        return fault_system(p->fault, "fstat", errno);
    if (S_ISSOCK(st.st_mode)) {
        p->result->passed_over++;
        return 0;
    }
    if (p->options->overlay && p->depth > 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0)
        return put_whiteout(p, parent_len, name);
    p->writer.records.len = 0;
    error = take_xattrs(p, handle, &marks);
    if (error)
        return error;
    if (marks.is_elsewhere)
        return fault_unsafe(p->fault, "its content is in another layer");
    if (marks.is_whiteout && S_ISREG(st.st_mode) && st.st_size == 0)
        return put_whiteout(p, parent_len, name);
    if (p->options->overlay && !strncmp(name, WHITEOUT, strlen(WHITEOUT)))
        return fault_unsafe(p->fault, "a layer cannot hold a name that begins with " WHITEOUT);
    return S_ISDIR(st.st_mode) ? put_directory(p, handle, &st, &marks) : put_other(p, handle, &st);
}

/* What `name` in the open directory is; p->path is its name in the archive. */
static int pack_entry(struct pack *p, int dir, size_t parent_len, const char *name)
{
    int handle = take_handle(p, dir, name), error;

    if (handle == -ENOENT && p->depth > 0)
        return 0;
    if (handle == -EXDEV && p->depth > 0)
        return put_mount_point(p, dir, name);
    if (handle < 0)
        return fault_system(p->fault, "openat", -handle);
    error = put_handle(p, handle, parent_len, name);
    close(handle);
    return error;
}

static int pack_next(struct pack *p)
{
    struct level *level = &p->levels[p->depth - 1];
    const char *name;
    int error;

    if (level->next == level->end)
        return pop(p);
    name = p->names + p->order[level->next++];
    error = set_path(p, level->path_len, "", name);
    if (error)
        return error;
    /* push moves the levels, add_name the names. */
    return pack_entry(p, level->fd, level->path_len, name);
}

static int pack_root(struct pack *p)
{
    const struct pack_options *options = p->options;
    int error = set_path(p, 0, "", options->name), handle;

    if (error)
        return error;
    if (options->entry)
        return pack_entry(p, options->dir, 0, options->entry);
    handle = openat(options->dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (handle < 0)
        return fault_system(p->fault, "openat", errno);
    error = put_handle(p, handle, 0, "");
    close(handle);
    return error;
}

static int pack_all(struct pack *p)
{
    int error = pack_root(p);

    while (!error && p->depth > 0)
        error = pack_next(p);
    if (error && !p->fault->entry[0])
        snprintf(p->fault->entry, sizeof p->fault->entry, "%s", p->path);
    if (!error)
        error = tar_writer_finish(&p->writer);
    return error;
}

static void pack_free(struct pack *p)
{
    for (size_t i = 0; i < p->depth; i++)
        if (p->levels[i].fd >= 0)
            close(p->levels[i].fd);
    tar_writer_close(&p->writer);
    free(p->links.places);
    free(p->links.texts);
    free(p->levels);
    free(p->names);
    free(p->order);
    free(p->batch);
    free(p->listed);
    free(p->value);
    free(p);
}

int pack_tree(const struct pack_options *options, struct progress *progress,
              struct pack_result *result, struct fault *fault)
{
    struct pack *p = calloc(1, sizeof *p);
    int error;

    *result = (struct pack_result){0};
    if (!p)
        return fault_system(fault, "malloc", ENOMEM);
    p->options = options;
    p->result = result;
    p->progress = progress;
    p->fault = fault;
    p->batch = malloc(BATCH_BYTES);
    p->listed = malloc(XATTR_LIST_MAX + 1);
    p->value = malloc(XATTR_SIZE_MAX);
    error = tar_writer_open(&p->writer, options->out, options->max_bytes, progress, fault);
    if (!error && (!p->batch || !p->listed || !p->value))
        error = out_of_memory(p);
    if (!error && options->entry &&
        (!options->entry[0] || strchr(options->entry, '/') || !strcmp(options->entry, "..")))
        error = fault_system(fault, "openat", EINVAL);
    if (!error)
        error = pack_all(p);
    result->bytes = p->writer.written;
    pack_free(p);
    return error;
}
