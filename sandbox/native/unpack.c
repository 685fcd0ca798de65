/* One layer becomes a tree.
 *
 * May assume: nobody else changes the tree below `root` meanwhile (it is a staging folder of ours),
 * unless it is a copy: then whoever lives there may change it, and gets no further by that than
 * `root`.  Everything in the archive is hostile.  Every name is cut into parent and last component;
 * the parent is found below root by handle (inroot.c: links in it are followed as a process
 * chrooted to root would, so `lib/x` under a link `lib -> usr/lib` lands in usr/lib, and no link
 * leads outside), and every object is made with an *at call on the parent's handle that does not
 * follow the last component.  Metadata goes through the new object's own descriptor.
 *
 * The last entry for a name wins.  Memory: the reader's, one handle, and one record for each
 * directory.  Whiteouts are in whiteouts.c, what is done to directories at the end in unpackdirs.c.
 */
#include "unpacker.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "inroot.h"
#include "tree.h"

static size_t parent_len_of(const struct name *name)
{
    const char *slash = memrchr(name->path, '/', name->len);

    return slash ? (size_t)(slash - name->path) : 0;
}

/* Cut `raw` into clean components.  A leading slash means the root of the tree, as everywhere. */
static int clean_name(struct unpack *u, const char *raw, struct name *name)
{
    name->len = 0;
    for (const char *at = raw; *at;) {
        size_t len = strcspn(at, "/");

        /* What a whiteout names may be as long as any name. */
        if (len > NAME_MAX + (strncmp(at, WHITEOUT, strlen(WHITEOUT)) ? 0 : strlen(WHITEOUT)))
            return fault_unsafe(u->fault, "a name component of %zu bytes", len);
        if (len == 2 && at[0] == '.' && at[1] == '.') {
            if (name->len == 0)
                return fault_unsafe(u->fault, "`..` leaves the root");
            name->len = parent_len_of(name);
        } else if (len > 0 && !(len == 1 && at[0] == '.')) {
            if (name->len + 1 + len > u->options->tar.max_path ||
                name->len + 2 + len > sizeof name->path)
                return fault_unsafe(u->fault, "a name of more than %u bytes",
                                    u->options->tar.max_path);
            if (name->len > 0)
                name->path[name->len++] = '/';
            memcpy(name->path + name->len, at, len);
            name->len += len;
        }
        at += len + (at[len] == '/');
    }
    name->path[name->len] = 0;
    name->parent_len = parent_len_of(name);
    name->last = name->path + name->parent_len + (name->parent_len > 0);
    return 0;
}

/* ---- owners ---- */

static int outside_id(struct unpack *u, const struct id_range *ranges, uint32_t count,
                      uint32_t inside, uint32_t *outside)
{
    if (id_outside(ranges, count, inside, outside))
        return 0;
    return fault_set(u->fault, FAULT_UNSAFE, EOVERFLOW,
                     "the id %u is not mapped in the container's user namespace", inside);
}

/* Through the descriptor, or the name in u->parent.  `is_ours`: the archive did not list it. */
static int set_owner(struct unpack *u, int fd, const char *name, bool is_ours)
{
    const struct unpack_options *o = u->options;
    bool is_given = o->flags & UNPACK_OWNED;
    uint32_t uid = is_given ? o->uid : is_ours ? 0 : u->entry->uid;
    uint32_t gid = is_given ? o->gid : is_ours ? 0 : u->entry->gid;
    int error;

    if (is_rootless(u))
        return 0;
    error = outside_id(u, o->uids, o->uid_count, uid, &uid);
    if (!error)
        error = outside_id(u, o->gids, o->gid_count, gid, &gid);
    if (error)
        return error;
    if (name ? fchownat(u->parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) : fchown(fd, uid, gid))
        return fault_system(u->fault, name ? "fchownat" : "fchown", errno);
    return 0;
}

/* In a file system of a user namespace only who is mapped there can make files.  This thread's
 * file system ids become the namespace's root, with all capabilities that it may have. */
static int act_as(uint32_t uid, uint32_t gid)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    setfsgid(gid);
    setfsuid(uid);
    if (syscall(SYS_capget, &header, data))
        return -errno;
    for (size_t i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* ---- parents ---- */

static void forget_parent(struct unpack *u)
{
    if (u->parent >= 0 && u->parent != u->options->root)
        close(u->parent);
    u->parent = -1;
}

/* Something was taken away, and the handle at hand may have been reached through it: it serves this
 * entry to its end, the next one looks for its own.  No clean name has a slash in front. */
void distrust_parent(struct unpack *u)
{
    memcpy(u->parent_path, "/", 2);
}

/* docker's `cp`: a directory never replaces what is none, nor the other way round. */
static int refuse_kind(struct unpack *u, bool is_directory)
{
    return fault_set(u->fault, FAULT_UNSAFE, is_directory ? EISDIR : ENOTDIR, "%s",
                     is_directory ? "there is a directory of that name"
                                  : "what has that name is not a directory");
}

/* Take away what has the name.  *was_whiteout: it was a mark of ours, so what comes now hides all
 * that lower layers have there. */
static int clear_place(struct unpack *u, int parent, const char *name, bool *was_whiteout)
{
    struct stat st;
    int error = 0;

    *was_whiteout = false;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return fault_system(u->fault, "fstatat", errno);
    if (is_copy(u) && S_ISDIR(st.st_mode))
        return refuse_kind(u, true);
    *was_whiteout = is_whiteout(&st) && !is_applied(u) && !is_copy(u);
    if (S_ISDIR(st.st_mode))
        error = tree_remove(parent, name);
    else if (unlinkat(parent, name, 0))
        error = -errno;
    distrust_parent(u);
    return error ? fault_system(u->fault, "unlinkat", -error) : 0;
}

/* inroot_maker: make a directory that the archive did not list (or not yet). */
static int make_implied(void *context, int parent, const char *name, const char *path, int error)
{
    struct unpack *u = context;
    bool is_opaque = false;
    struct stat st = {0};
    int fd;

    if (error == ENOTDIR) {
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
            return fault_system(u->fault, "fstatat", errno);
        if (is_applied(u) || is_copy(u) || !is_whiteout(&st))
            return fault_unsafe(u->fault, "its parent %.120s is not a directory", path);
        if (unlinkat(parent, name, 0))
            return fault_system(u->fault, "unlinkat", errno);
        is_opaque = true;
    }
    if (mkdirat(parent, name, 0700))
        return fault_system(u->fault, "mkdirat", errno);
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fault_system(u->fault, "openat", errno);
    error = set_owner(u, fd, NULL, true);
    if (!error && fchmod(fd, 0755))
        error = fault_system(u->fault, "fchmod", errno);
    if (!error && is_opaque)
        error = mark_opaque(u, fd);
    if (!error && is_applied(u) && fstat(parent, &st))
        error = fault_system(u->fault, "fstat", errno);
    if (!error)
        error = note_made(u, st.st_ino, name);
    if (!error)
        error = keep_directory(u, fd, path, true);
    close(fd);
    return error;
}

/* A failure of inroot_*, in words. */
static int bad_parent(struct unpack *u, const char *path, int error)
{
    switch (-error) {
    case ELOOP:
        return fault_unsafe(u->fault, "too many links in %.120s", path);
    case ENOTDIR:
        return fault_unsafe(u->fault, "%.120s is not a directory", path);
    case ENAMETOOLONG:
        return fault_unsafe(u->fault, "name too long through links in %.120s", path);
    default:
        return fault_system(u->fault, "openat2", -error);
    }
}

static int use_parent(struct unpack *u, int fd, const char *path, const char *real)
{
    forget_parent(u);
    u->parent = fd;
    memcpy(u->parent_path, path, strlen(path) + 1);
    memcpy(u->parent_real, real, strlen(real) + 1);
    if (is_applied(u)) {
        struct stat st;

        if (fstat(fd, &st))
            return fault_system(u->fault, "fstat", errno);
        u->parent_inode = st.st_ino;
        return note_holders(u, fd);
    }
    return 0;
}

/* Have the parent of u->name open as u->parent. */
static int find_parent(struct unpack *u)
{
    const struct inroot_maker maker = {.directory = make_implied, .context = u};
    struct name *name = &u->name;
    char path[PATH_MAX], real[PATH_MAX];
    int fd;

    if (u->parent >= 0 && strlen(u->parent_path) == name->parent_len &&
        !memcmp(u->parent_path, name->path, name->parent_len))
        return 0;
    memcpy(path, name->path, name->parent_len);
    path[name->parent_len] = 0;
    if (path[0] == 0)
        return use_parent(u, u->options->root, path, path);
    memcpy(real, path, name->parent_len + 1);
    fd = inroot_open_plain(u->options->root, path, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
        fd = inroot_make(u->options->root, path, &maker, real);
    if (fd < 0)
        return bad_parent(u, path, fd);
    return use_parent(u, fd, path, real);
}

/* ---- attributes ---- */

static bool is_wanted_xattr(const char *name)
{
    if (!strncmp(name, "trusted.", 8))
        return strncmp(name, "trusted.overlay.", 16) != 0;
    if (!strncmp(name, "user.", 5))
        return strncmp(name, "user.overlay.", 13) != 0;
    return !strcmp(name, "security.capability") || !strcmp(name, "system.posix_acl_access");
}

/* Through the descriptor, or, for what cannot be opened, through the parent's and the name. */
static int set_xattr(int fd, int parent, const char *name, const struct tar_xattr *xattr)
{
    char path[40 + NAME_MAX];

    if (fd >= 0)
        return fsetxattr(fd, xattr->name, xattr->value, xattr->size, 0) ? -errno : 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", parent, name);
    return lsetxattr(path, xattr->name, xattr->value, xattr->size, 0) ? -errno : 0;
}

static int set_xattrs(struct unpack *u, int fd, const char *name)
{
    bool may_lack = is_rootless(u) || u->options->uid_count > 0;

    if (is_stripped(u))
        return 0;
    for (size_t i = 0; i < u->entry->xattr_count; i++) {
        const struct tar_xattr *xattr = &u->entry->xattrs[i];
        int error;

        if (!is_wanted_xattr(xattr->name))
            continue;
        error = set_xattr(fd, u->parent, name, xattr);
        /* The filesystem has none of that kind, or links cannot have them. */
        if (error == -EOPNOTSUPP || (error == -EPERM && (may_lack || fd < 0)))
            u->result->passed_over++;
        else if (error == -EINVAL)
            return fault_damaged(u->fault, "invalid value of the extended attribute %s",
                                 xattr->name);
        else if (error)
            return fault_system(u->fault, "setxattr", -error);
    }
    return 0;
}

/* Owner first: chown takes set-user-id and capabilities away. */
static int set_metadata(struct unpack *u, int fd, uint32_t mode)
{
    int error = set_owner(u, fd, NULL, false);

    if (!error && fchmod(fd, mode_for(u, mode)))
        error = fault_system(u->fault, "fchmod", errno);
    return error || !u->entry->xattr_count ? error : set_xattrs(u, fd, NULL);
}

/* Of what cannot be opened.  In a tree that others use it may be a link by now. */
static int set_mode_at(struct unpack *u, const char *name, uint32_t mode)
{
    int fd = openat(u->parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char path[40];
    struct stat st;
    int error = 0;

    if (fd < 0)
        return fault_system(u->fault, "openat", errno);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fstat(fd, &st))
        error = fault_system(u->fault, "fstat", errno);
    else if (S_ISLNK(st.st_mode))
        error = fault_system(u->fault, "chmod", ELOOP);
    else if (chmod(path, mode))
        error = fault_system(u->fault, "chmod", errno);
    close(fd);
    return error;
}

static int set_metadata_at(struct unpack *u, const char *name)
{
    const struct tar_entry *entry = u->entry;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = entry->mtime, .tv_nsec = entry->mtime_ns}};
    int error;

    error = set_owner(u, -1, name, false);
    if (!error && entry->type != '2')
        error = set_mode_at(u, name, mode_for(u, entry->mode));
    if (!error && entry->xattr_count)
        error = set_xattrs(u, -1, name);
    if (error)
        return error;
    if (utimensat(u->parent, name, times, AT_SYMLINK_NOFOLLOW))
        return fault_system(u->fault, "utimensat", errno);
    return 0;
}

/* ---- one function a kind of entry ---- */

static int write_all(struct unpack *u, int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n < 0 && errno != EINTR)
            return fault_system(u->fault, "write", errno);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int write_content(struct unpack *u, int fd)
{
    for (;;) {
        const uint8_t *data;
        size_t size;
        int error = tar_data(u->tar, &data, &size);

        if (error || size == 0)
            return error;
        error = write_all(u, fd, data, size);
        if (error)
            return error;
        tar_advance(u->tar, size);
    }
}

static int write_segment(struct unpack *u, int fd, const struct tar_segment *segment)
{
    uint64_t left = segment->size;

    if (lseek(fd, (off_t)segment->offset, SEEK_SET) < 0)
        return fault_system(u->fault, "lseek", errno);
    while (left > 0) {
        const uint8_t *data;
        size_t size;
        int error = tar_data(u->tar, &data, &size);

        if (error)
            return error;
        if (size > left)
            size = (size_t)left;
        error = write_all(u, fd, data, size);
        if (error)
            return error;
        tar_advance(u->tar, size);
        left -= size;
    }
    return 0;
}

static int write_sparse(struct unpack *u, int fd)
{
    for (size_t i = 0; i < u->entry->segment_count; i++) {
        int error = write_segment(u, fd, &u->entry->segments[i]);

        if (error)
            return error;
    }
    if (ftruncate(fd, (off_t)u->entry->size))
        return fault_system(u->fault, "ftruncate", errno);
    return 0;
}

/* Mode and owner of a new file.  Most have what they get by being made. */
static int settle_file(struct unpack *u, int fd)
{
    const struct tar_entry *entry = u->entry;
    struct stat st;

    if (is_copy(u) || is_rootless(u) || u->options->flags & UNPACK_OWNED ||
        u->options->uid_count > 0 || entry->xattr_count > 0)
        return set_metadata(u, fd, entry->mode);
    if (fstat(fd, &st))
        return fault_system(u->fault, "fstat", errno);
    if (st.st_uid == entry->uid && st.st_gid == entry->gid &&
        (st.st_mode & 07777) == mode_for(u, entry->mode))
        return 0;
    return set_metadata(u, fd, entry->mode);
}

static int make_file(struct unpack *u, const char *name)
{
    const struct tar_entry *entry = u->entry;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = entry->mtime, .tv_nsec = entry->mtime_ns}};
    uint64_t room = u->options->stream.max_bytes - u->result->content_bytes;
    /* Nobody gets at a layer that is being unpacked; in somebody's tree it is for its owner. */
    const mode_t made_as = is_copy(u) ? 0600 : entry->mode & 0777;
    bool was_whiteout;
    int fd, error;

    if (entry->size > room)
        return fault_unsafe(u->fault, "more than %llu bytes of content",
                            (unsigned long long)u->options->stream.max_bytes);
    u->result->content_bytes += entry->size;
    fd = openat(u->parent, name, flags, made_as);
    if (fd < 0 && errno == EEXIST) {
        error = clear_place(u, u->parent, name, &was_whiteout);
        if (error)
            return error;
        fd = openat(u->parent, name, flags, made_as);
    }
    if (fd < 0)
        return fault_system(u->fault, "openat", errno);
    error = entry->is_sparse ? write_sparse(u, fd) : write_content(u, fd);
    if (!error)
        error = settle_file(u, fd);
    if (!error && futimens(fd, times))
        error = fault_system(u->fault, "futimens", errno);
    if (close(fd) && !error)
        error = fault_system(u->fault, "close", errno);
    return error;
}

/* The target is looked for as the entry of that name: inside the root, its last component not
 * followed.  Owner, mode and times are the target's. */
static int make_hard_link(struct unpack *u, const char *name)
{
    struct name *target = &u->target;
    struct stat source, there;
    bool was_whiteout;
    char last[NAME_MAX + 1];
    int from, error = clean_name(u, u->entry->link, target);

    if (error)
        return error;
    if (target->len == 0)
        return fault_unsafe(u->fault, "hard link to the root");
    if (strlen(target->last) > NAME_MAX)
        return fault_unsafe(u->fault, "hard link to a whiteout");
    memcpy(last, target->last, strlen(target->last) + 1);
    target->path[target->parent_len] = 0;
    from = inroot_open(u->options->root, target->parent_len ? target->path : ".",
                       O_PATH | O_DIRECTORY, 0);
    if (from == -ENOENT || from == -ENOTDIR)
        return fault_unsafe(u->fault, "hard link to %.120s, which is not there", u->entry->link);
    if (from < 0)
        return bad_parent(u, target->path, from);
    if (fstatat(from, last, &source, AT_SYMLINK_NOFOLLOW) || is_whiteout(&source))
        error = fault_unsafe(u->fault, "hard link to %.120s, which is not there", u->entry->link);
    else if (S_ISDIR(source.st_mode))
        error = fault_unsafe(u->fault, "hard link to the directory %.120s", u->entry->link);
    else if (fstatat(u->parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
             (there.st_ino != source.st_ino || there.st_dev != source.st_dev))
        error = clear_place(u, u->parent, name, &was_whiteout);
    if (!error && linkat(from, last, u->parent, name, 0) && errno != EEXIST)
        error = errno == ENOENT ? fault_unsafe(u->fault, "hard link to %.120s, which it replaces",
                                               u->entry->link)
                                : fault_system(u->fault, "linkat", errno);
    close(from);
    return error;
}

static int make_node(struct unpack *u, const char *name)
{
    const struct tar_entry *entry = u->entry;

    switch (entry->type) {
    case '2':
        return symlinkat(entry->link, u->parent, name) ? -errno : 0;
    case '3':
        return mknodat(u->parent, name, S_IFCHR | 0600, makedev(entry->major, entry->minor))
                   ? -errno
                   : 0;
    case '4':
        return mknodat(u->parent, name, S_IFBLK | 0600, makedev(entry->major, entry->minor))
                   ? -errno
                   : 0;
    default:
        return mknodat(u->parent, name, S_IFIFO | 0600, 0) ? -errno : 0;
    }
}

/* Links, devices, fifos: made with one call, never opened. */
static int make_special(struct unpack *u, const char *name)
{
    const struct tar_entry *entry = u->entry;
    bool was_whiteout;
    int error;

    if (entry->type == '2' && entry->link[0] == 0)
        return fault_unsafe(u->fault, "link without a target");
    if (is_stripped(u) && (entry->type == '3' || entry->type == '4')) {
        u->result->passed_over++;
        return 0;
    }
    error = make_node(u, name);
    if (error == -EEXIST) {
        error = clear_place(u, u->parent, name, &was_whiteout);
        if (error)
            return error;
        error = make_node(u, name);
    }
    if (error == -EPERM && is_rootless(u) && (entry->type == '3' || entry->type == '4')) {
        u->result->passed_over++;
        return 0;
    }
    if (error)
        return fault_system(u->fault, entry->type == '2' ? "symlinkat" : "mknodat", -error);
    return set_metadata_at(u, name);
}

static int make_directory(struct unpack *u, const char *name)
{
    bool was_whiteout = false, is_merged = false;
    char real[PATH_MAX];
    int fd = -ENOENT, error;

    if ((size_t)snprintf(real, sizeof real, "%s%s%s", u->parent_real, *u->parent_real ? "/" : "",
                         name) >= sizeof real)
        return fault_unsafe(u->fault, "a name of more than %zu bytes", sizeof real - 1);
    if (mkdirat(u->parent, name, 0700)) {
        if (errno != EEXIST)
            return fault_system(u->fault, "mkdirat", errno);
        fd = open_directory(u->parent, name);
        is_merged = is_copy(u) && fd >= 0;
        if (is_copy(u) && (fd == -ENOTDIR || fd == -ELOOP))
            return refuse_kind(u, false);
        if (fd == -ENOTDIR || fd == -ELOOP) {
            error = clear_place(u, u->parent, name, &was_whiteout);
            if (error)
                return error;
            if (mkdirat(u->parent, name, 0700))
                return fault_system(u->fault, "mkdirat", errno);
            fd = -ENOENT;
        }
    }
    if (fd == -ENOENT)
        fd = open_directory(u->parent, name);
    if (fd < 0)
        return fault_system(u->fault, "openat", -fd);
    /* One that is in use keeps its mode to the end. */
    if (is_merged) {
        error = set_owner(u, fd, NULL, false);
        if (!error && u->entry->xattr_count)
            error = set_xattrs(u, fd, NULL);
    } else {
        error = set_metadata(u, fd, (u->entry->mode & 01777) | 0700);
    }
    if (!error && was_whiteout)
        error = mark_opaque(u, fd);
    if (!error)
        error = keep_directory(u, fd, real, false);
    if (error) {
        close(fd);
        return error;
    }
    /* What comes next is most often inside. */
    return use_parent(u, fd, u->name.path, real);
}

static int set_root(struct unpack *u)
{
    int error;

    if (u->entry->type != '5')
        return fault_unsafe(u->fault, "the root has to be a directory");
    /* It is somebody's, and stays as it is. */
    if (is_copy(u))
        return 0;
    error = use_parent(u, u->options->root, "", "");
    if (!error)
        error = set_metadata(u, u->options->root, (u->entry->mode & 01777) | 0700);
    if (!error)
        error = keep_directory(u, u->options->root, "", false);
    return error;
}

/* ---- the whole ---- */

static int make_entry(struct unpack *u)
{
    const char *name = u->name.last;
    int error;

    switch (u->entry->type) {
    case '0':
        error = make_file(u, name);
        break;
    case '1':
        error = make_hard_link(u, name);
        break;
    case '5':
        return make_directory(u, name);
    default:
        error = make_special(u, name);
        break;
    }
    return error;
}

static int unpack_entry(struct unpack *u)
{
    int result = clean_name(u, u->entry->name, &u->name);
    uint64_t parent_inode;

    if (result)
        return result;
    if (u->name.len == 0)
        return set_root(u);
    if (!is_copy(u)) {
        result = check_components(u);
        if (result)
            return result > 0 ? 0 : result;
    }
    result = find_parent(u);
    if (result)
        return result;
    if (is_copy(u))
        return make_entry(u);
    if (!strcmp(u->name.last, WHITEOUT_OPAQUE))
        return make_opaque(u);
    if (!strncmp(u->name.last, WHITEOUT, strlen(WHITEOUT)))
        return make_whiteout(u, u->name.last);
    parent_inode = u->parent_inode;
    result = make_entry(u);
    return result ? result : note_made(u, parent_inode, u->name.last);
}

static int unpack_all(struct unpack *u)
{
    struct tar_entry entry;
    int result;

    while ((result = tar_next(u->tar, &entry)) > 0) {
        u->entry = &entry;
        if (++u->result->entries > u->options->max_entries)
            result = fault_unsafe(u->fault, "more than %llu entries",
                                  (unsigned long long)u->options->max_entries);
        else
            result = unpack_entry(u);
        if (u->progress) {
            __atomic_store_n(&u->progress->entries, u->result->entries, __ATOMIC_RELAXED);
            if (!result && __atomic_load_n(&u->progress->cancel, __ATOMIC_RELAXED))
                result = fault_set(u->fault, FAULT_CANCELLED, ECANCELED, "cancelled");
        }
        if (result) {
            snprintf(u->fault->entry, sizeof u->fault->entry, "%s", entry.name);
            return result;
        }
    }
    return result;
}

static int unpack_stream(struct unpack *u, struct stream *stream)
{
    int error = tar_open(&u->tar, stream, &u->options->tar, u->fault);

    if (!error)
        error = unpack_all(u);
    if (!error)
        error = stream_finish(stream, &u->result->sums);
    if (!error)
        error = finish_directories(u);
    tar_close(u->tar);
    return error;
}

static int unpack_as_owner(struct unpack *u, struct stream *stream)
{
    const struct unpack_options *o = u->options;
    uint32_t uid, gid;
    int error = outside_id(u, o->uids, o->uid_count, 0, &uid);

    if (!error)
        error = outside_id(u, o->gids, o->gid_count, 0, &gid);
    if (error || o->uid_count == 0)
        return error ? error : unpack_stream(u, stream);
    error = act_as(uid, gid);
    error = error ? fault_system(u->fault, "capset", -error) : unpack_stream(u, stream);
    act_as(geteuid(), getegid());
    return error;
}

int unpack_layer(const struct unpack_options *options, struct progress *progress,
                 struct unpack_result *result, struct fault *fault)
{
    struct unpack *u = calloc(1, sizeof *u);
    struct stream *stream;
    int error;

    *result = (struct unpack_result){0};
    if (!u)
        return fault_system(fault, "malloc", ENOMEM);
    u->options = options;
    u->progress = progress;
    u->result = result;
    u->fault = fault;
    u->parent = -1;
    error = stream_open(&stream, &options->stream, progress, fault);
    if (!error && getrandom(u->seed, sizeof u->seed, 0) != (ssize_t)sizeof u->seed)
        error = fault_system(fault, "getrandom", errno);
    if (!error)
        error = unpack_as_owner(u, stream);
    stream_close(stream);
    forget_parent(u);
    keyset_free(&u->made);
    free(u->directories);
    free(u->texts);
    free(u);
    if (error)
        unpack_result_free(result);
    return error;
}

void unpack_result_free(struct unpack_result *result)
{
    free(result->implied);
    result->implied = NULL;
    result->implied_bytes = 0;
}
