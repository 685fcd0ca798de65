/* Mounts below the container's root: file systems and binds.
 *
 * Runs in init, in a mount namespace of its own (checked), with "/" no longer shared with the
 * host.  A mount is made detached, given its attributes, and only then attached to a descriptor
 * that targets.c resolved; where the kernel has no such calls, mount(2) is given the descriptors
 * by their names in a procfs that is the host's. */
#include "init.h"

#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* The kernel's MS_* where libc's header does not have them all. */
#define OLD_NOSYMFOLLOW 256ul

int no_namespace(struct init *init, const struct op *op, const char *path)
{
    return fail(init->error, op, EPERM, "mount", path);
}

unsigned long old_flags(uint64_t attributes)
{
    unsigned long flags = 0;

    if (attributes & MOUNT_ATTR_RDONLY)
        flags |= MS_RDONLY;
    if (attributes & MOUNT_ATTR_NOSUID)
        flags |= MS_NOSUID;
    if (attributes & MOUNT_ATTR_NODEV)
        flags |= MS_NODEV;
    if (attributes & MOUNT_ATTR_NOEXEC)
        flags |= MS_NOEXEC;
    if (attributes & MOUNT_ATTR_NODIRATIME)
        flags |= MS_NODIRATIME;
    if (attributes & MOUNT_ATTR_NOSYMFOLLOW)
        flags |= OLD_NOSYMFOLLOW;
    if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_NOATIME)
        flags |= MS_NOATIME;
    if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_STRICTATIME)
        flags |= MS_STRICTATIME;
    return flags;
}

int set_attributes(int fd, uint64_t attributes, bool recursive)
{
    struct sys_mount_attr attr = {
        .attr_set = attributes,
        .attr_clr = attributes & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0,
    };

    return sys_mount_setattr(fd, recursive ? AT_RECURSIVE : 0, &attr);
}

static int set_propagation(int fd, uint64_t flags)
{
    struct sys_mount_attr attr = {.propagation = flags & ~(uint64_t)MS_REC};

    return sys_mount_setattr(fd, flags & MS_REC ? AT_RECURSIVE : 0, &attr);
}

/* mount(2) takes names only: a descriptor's name in /proc/self/fd, relative to a handle of the
 * host's procfs that stays good after the pivot.  The working folder is init's to change until
 * "workdir". */
int old_mount_on(struct init *init, const char *source, int target, const char *fstype,
                 unsigned long flags, const char *data)
{
    char name[40] = "self/fd/", number[24];

    if (init->host_proc_fd < 0) {
        init->host_proc_fd = or_errno(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (init->host_proc_fd < 0)
            return init->host_proc_fd;
    }
    if (!is_on(init->host_proc_fd, PROC_MAGIC))
        return -EXDEV;
    if (fchdir(init->host_proc_fd) < 0)
        return -errno;
    strcat(name, decimal(number, target));
    return or_errno(mount(source, name, fstype, flags, data));
}

int old_bind(struct init *init, int source, int target, bool recursive)
{
    char name[40] = "self/fd/", number[24];

    strcat(name, decimal(number, source));
    return old_mount_on(init, name, target, NULL, MS_BIND | (recursive ? MS_REC : 0), NULL);
}

/* A remount by mount(2) replaces all flags, and in a user namespace must keep those inherited. */
int old_attributes(struct init *init, int fd, uint64_t attributes)
{
    struct statvfs info;
    unsigned long flags = old_flags(attributes);

    if (fstatvfs(fd, &info) < 0)
        return -errno;
    flags |= info.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                            MS_NODIRATIME | MS_RELATIME);
    return old_mount_on(init, NULL, fd, NULL, MS_REMOUNT | MS_BIND | flags, NULL);
}

int do_propagation(struct init *init, struct op *op)
{
    struct op cursor = *op;
    unsigned long flags = (unsigned long)op_integer(&cursor);

    if (!init->new_mounts)
        return no_namespace(init, op, "/");
    if (mount(NULL, "/", NULL, flags, NULL) < 0)
        return fail(init->error, op, errno, "mount", "/");
    init->is_private = (flags & (MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)) && (flags & MS_REC);
    return 0;
}

/* ---- new file systems ---- */

struct wish {
    const char *fstype, *source, *target;
    uint64_t attributes;
    const char *options;
    uint32_t option_count;
    int64_t flags;
};

static const char *after(const char *string)
{
    return string + strlen(string) + 1;
}

static int set_option(int fs, const char *option)
{
    char key[128];
    size_t size = strcspn(option, "=");

    if (option[size] == 0)
        return sys_fsconfig(fs, FS_SET_FLAG, option, NULL, 0);
    if (size >= sizeof key)
        return -EINVAL;
    memcpy(key, option, size);
    key[size] = 0;
    return sys_fsconfig(fs, FS_SET_STRING, key, option + size + 1, 0);
}

static int make_detached(const struct wish *wish, const char **syscall_name)
{
    cleanup_fd int fs = sys_fsopen(wish->fstype);
    const char *option = wish->options;
    uint64_t attributes = wish->attributes;
    int result;

    *syscall_name = "fsopen";
    if (fs < 0)
        return fs;
    *syscall_name = "fsconfig";
    if (wish->source[0] != 0) {
        result = sys_fsconfig(fs, FS_SET_STRING, "source", wish->source, 0);
        if (result < 0)
            return result;
    }
    for (uint32_t i = 0; i < wish->option_count; i++, option = after(option)) {
        result = set_option(fs, option);
        if (result < 0)
            return result;
    }
    result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    if (result < 0)
        return result;
    *syscall_name = "fsmount";
    if (wish->flags & MOUNT_COPY_UP)
        attributes &= ~(uint64_t)MOUNT_ATTR_RDONLY;
    return sys_fsmount(fs, (unsigned)attributes);
}

static int join_options(const struct wish *wish, char *text, size_t room)
{
    const char *option = wish->options;
    size_t used = 0;

    for (uint32_t i = 0; i < wish->option_count; i++, option = after(option)) {
        size_t size = strlen(option);

        if (used + size + 2 > room)
            return -E2BIG;
        if (used > 0)
            text[used++] = ',';
        memcpy(text + used, option, size);
        used += size;
    }
    text[used] = 0;
    return 0;
}

/* mount(2), then a descriptor of what is now at the target. */
static int make_on(struct init *init, const struct wish *wish, int target)
{
    char data[4096];
    uint64_t attributes = wish->attributes;
    int result = join_options(wish, data, sizeof data);

    if (result < 0)
        return result;
    if (wish->flags & MOUNT_COPY_UP)
        attributes &= ~(uint64_t)MOUNT_ATTR_RDONLY;
    result = old_mount_on(init, wish->source[0] != 0 ? wish->source : "none", target, wish->fstype,
                          old_flags(attributes), data);
    return result < 0 ? result : target_open(init, wish->target, TARGET_EXISTING);
}

static bool is_missing(int error)
{
    return error == ENODEV || error == ENOENT || error == EPERM || error == EBUSY ||
           error == EINVAL || error == EOPNOTSUPP || error == EACCES;
}

/* /proc and its like are folders of the image's own, or nothing is mounted: were one of them a
 * link, whatever is written "below /proc" later would be written elsewhere. */
static bool must_be_plain(const char *target)
{
    return strcmp(target, "/proc") == 0 || strcmp(target, "/dev") == 0 ||
           strcmp(target, "/sys") == 0;
}

/* Inside procfs only regular files that exist may be covered (a host's own view of meminfo, say),
 * reached without a link and not among the processes' files. */
static int check_target(struct init *init, const char *path, int fd)
{
    cleanup_fd int plain = -1;
    struct stat info;

    if (!is_on(fd, PROC_MAGIC) || fstat(fd, &info) < 0)
        return 0;
    plain = target_open_plain(init, path, TARGET_EXISTING);
    if (plain < 0 || !S_ISREG(info.st_mode))
        return -EXDEV;
    if (strncmp(path, "/proc/", 6) != 0 || (path[6] >= '0' && path[6] <= '9'))
        return -EXDEV;
    return 0;
}

static int open_mount_target(struct init *init, const char *path, enum target_kind kind)
{
    int fd, result;

    if (must_be_plain(path))
        return target_open_plain(init, path, kind);
    fd = target_open(init, path, kind);
    if (fd < 0)
        return fd;
    result = check_target(init, path, fd);
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}

/* Keep the handles that later operations work through. */
static void remember(struct init *init, const struct wish *wish, int *fd)
{
    int *place = NULL;

    if (strcmp(wish->target, "/dev") == 0 && strcmp(wish->fstype, "tmpfs") == 0)
        place = &init->dev_fd;
    else if (strcmp(wish->target, "/dev/pts") == 0 && strcmp(wish->fstype, "devpts") == 0)
        place = &init->pts_fd;
    else if (strcmp(wish->target, "/proc") == 0 && strcmp(wish->fstype, "proc") == 0)
        place = &init->proc_fd;
    if (place != NULL) {
        close_fd(place);
        *place = steal_fd(fd);
    }
}

static int fill_from_image(struct init *init, const struct wish *wish, int target, int mounted)
{
    int result = copy_folder(target, mounted);

    if (result == 0 && (wish->attributes & MOUNT_ATTR_RDONLY) != 0)
        result = init->old_mount ? old_attributes(init, mounted, wish->attributes)
                                 : set_attributes(mounted, MOUNT_ATTR_RDONLY, false);
    return result;
}

int do_mount(struct init *init, struct op *op)
{
    struct op cursor = *op;
    struct wish wish;
    const char *call = "mount";
    cleanup_fd int target = -1, mounted = -1;
    int result;

    wish.fstype = op_string(&cursor);
    wish.source = op_string(&cursor);
    wish.target = op_string(&cursor);
    wish.attributes = (uint64_t)op_integer(&cursor);
    wish.option_count = op_strings(&cursor, &wish.options);
    wish.flags = op_integer(&cursor);

    if (!init->new_mounts)
        return no_namespace(init, op, wish.target);
    target = open_mount_target(init, wish.target,
                               wish.flags & MOUNT_NO_CREATE ? TARGET_EXISTING : TARGET_FOLDER);
    if (target < 0)
        return fail(init->error, op, -target, "openat2", wish.target);
    if (!init->old_mount) {
        mounted = make_detached(&wish, &call);
        init->old_mount = mounted == -ENOSYS;
    }
    if (init->old_mount) {
        call = "mount";
        mounted = make_on(init, &wish, target);
    }
    if (mounted < 0) {
        if ((wish.flags & MOUNT_OPTIONAL) && is_missing(-mounted))
            return 0;
        return fail(init->error, op, -mounted, call, wish.target);
    }
    if (wish.flags & MOUNT_COPY_UP) {
        result = fill_from_image(init, &wish, target, mounted);
        if (result < 0)
            return fail(init->error, op, -result, "copy", wish.target);
    }
    if (!init->old_mount) {
        result = sys_move_mount(mounted, target);
        if (result < 0)
            return fail(init->error, op, -result, "move_mount", wish.target);
    }
    remember(init, &wish, &mounted);
    return 0;
}

/* ---- binds ---- */

static int open_source(struct init *init, const struct op *op, const char *source, int64_t flags)
{
    unsigned how = OPEN_TREE_CLONE | (flags & MOUNT_RECURSIVE ? AT_RECURSIVE : 0u);
    int fd;

    if (init->sources != NULL && init->sources[op->index] >= 0)
        return steal_fd(&init->sources[op->index]);
    if (init->pivoted)
        return -EINVAL; /* the host's paths are gone */
    if (!init->old_mount) {
        fd = sys_open_tree(AT_FDCWD, source, how);
        if (fd != -ENOSYS)
            return fd;
        init->old_mount = true;
    }
    return or_errno(open(source, O_PATH | O_CLOEXEC));
}

static int bind_new(int tree, int target, uint64_t attributes, uint64_t propagation, int64_t flags,
                    const char **call)
{
    int result = 0;

    *call = "mount_setattr";
    if (attributes != 0)
        result = set_attributes(tree, attributes, (flags & MOUNT_RECURSIVE_ATTRIBUTES) != 0);
    if (result < 0)
        return result;
    *call = "move_mount";
    result = sys_move_mount(tree, target);
    if (result < 0 || propagation == 0)
        return result;
    *call = "mount_setattr";
    return set_propagation(tree, propagation);
}

static int bind_old(struct init *init, int source, const char *path, int target,
                    uint64_t attributes, uint64_t propagation, int64_t flags, const char **call)
{
    cleanup_fd int mounted = -1;
    int result;

    *call = "mount";
    /* mount(2) changes one mount at a time; a promise for all of them cannot be kept. */
    if ((flags & MOUNT_RECURSIVE_ATTRIBUTES) && (flags & MOUNT_RECURSIVE) && attributes != 0)
        return -ENOSYS;
    result = old_bind(init, source, target, (flags & MOUNT_RECURSIVE) != 0);
    if (result < 0)
        return result;
    mounted = target_open(init, path, TARGET_EXISTING);
    if (mounted < 0)
        return mounted;
    if (attributes != 0)
        result = old_attributes(init, mounted, attributes);
    if (result == 0 && propagation != 0)
        result = old_mount_on(init, NULL, mounted, NULL, (unsigned long)propagation, NULL);
    return result;
}

int do_bind(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *source = op_string(&cursor);
    const char *path = op_string(&cursor);
    uint64_t attributes = (uint64_t)op_integer(&cursor);
    uint64_t propagation = (uint64_t)op_integer(&cursor);
    int64_t flags = op_integer(&cursor);
    cleanup_fd int tree = -1, target = -1;
    enum target_kind kind;
    const char *call = "mount";
    struct stat info;
    int result;

    if (!init->new_mounts)
        return no_namespace(init, op, path);
    tree = open_source(init, op, source, flags);
    if (tree < 0)
        return fail(init->error, op, -tree, init->old_mount ? "open" : "open_tree", source);
    if (fstat(tree, &info) < 0)
        return fail(init->error, op, errno, "fstat", source);
    kind = S_ISDIR(info.st_mode) ? TARGET_FOLDER : TARGET_FILE;
    target = open_mount_target(init, path, flags & MOUNT_NO_CREATE ? TARGET_EXISTING : kind);
    if (target < 0)
        return fail(init->error, op, -target, "openat2", path);
    if (init->old_mount)
        result = bind_old(init, tree, path, target, attributes, propagation, flags, &call);
    else
        result = bind_new(tree, target, attributes, propagation, flags, &call);
    return result < 0 ? fail(init->error, op, -result, call, path) : 0;
}
