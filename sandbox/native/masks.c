/* Masked and read-only paths.
 *
 * Runs in init, before the pivot or after it, in a mount namespace of its own (checked).  A file is
 * covered by the host's /dev/null, which is taken by a handle before the pivot and checked; a
 * folder by an empty tmpfs.  A path that is not there needs no cover. */
#include "init.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NULL_MAJOR 1
#define NULL_MINOR 3
#define EMPTY_ATTRIBUTES                                                                           \
    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static bool is_null_device(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISCHR(info.st_mode) &&
           info.st_rdev == makedev(NULL_MAJOR, NULL_MINOR);
}

/* A mount of the host's /dev/null.  Taken before the pivot; the container's own could be a link. */
int prepare_null(struct init *init)
{
    if (init->null_fd >= 0)
        return 0;
    if (init->pivoted)
        return -ENOENT;
    if (!init->old_mount) {
        init->null_fd = sys_open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE);
        init->old_mount = init->null_fd == -ENOSYS;
    }
    if (init->old_mount)
        init->null_fd = or_errno(open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (init->null_fd < 0)
        return init->null_fd;
    return is_null_device(init->null_fd) ? 0 : -ENXIO;
}

/* The first use attaches the mount itself; later ones clone it, which the kernel allows of a mount
 * that is attached in this namespace. */
static int attach_shared(int fd, bool *attached, int target)
{
    cleanup_fd int clone = -1;
    int result;

    if (!*attached) {
        result = sys_move_mount(fd, target);
        *attached = result == 0;
        return result;
    }
    clone = sys_open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    return clone < 0 ? clone : sys_move_mount(clone, target);
}

static int mask_file(struct init *init, int target)
{
    int result = prepare_null(init);

    if (result < 0)
        return result;
    if (init->old_mount)
        return old_bind(init, init->null_fd, target, false);
    return attach_shared(init->null_fd, &init->null_attached, target);
}

static int make_empty(void)
{
    cleanup_fd int fs = sys_fsopen("tmpfs");
    int result;

    if (fs < 0)
        return fs;
    result = sys_fsconfig(fs, FS_SET_STRING, "nr_inodes", "1", 0);
    if (result == 0)
        result = sys_fsconfig(fs, FS_SET_STRING, "mode", "755", 0);
    if (result == 0)
        result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    return result < 0 ? result : sys_fsmount(fs, EMPTY_ATTRIBUTES);
}

static int mask_folder(struct init *init, int target)
{
    if (!init->old_mount && init->empty_fd < 0) {
        init->empty_fd = make_empty();
        init->old_mount = init->empty_fd == -ENOSYS;
        if (init->empty_fd < 0 && !init->old_mount)
            return init->empty_fd;
    }
    if (init->old_mount)
        return old_mount_on(init, "tmpfs", target, "tmpfs", old_flags(EMPTY_ATTRIBUTES),
                            "nr_inodes=1,mode=755");
    return attach_shared(init->empty_fd, &init->empty_attached, target);
}

int do_mask(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor);
    cleanup_fd int target = -1;
    struct stat info;
    int result;

    if (!init->new_mounts)
        return no_namespace(init, op, path);
    target = target_open(init, path, TARGET_EXISTING);
    if (target == -ENOENT || target == -ENOTDIR)
        return 0;
    if (target < 0)
        return fail(init->error, op, -target, "openat2", path);
    if (fstat(target, &info) < 0)
        return fail(init->error, op, errno, "fstat", path);
    result = S_ISDIR(info.st_mode) ? mask_folder(init, target) : mask_file(init, target);
    return result < 0 ? fail(init->error, op, -result, "mask", path) : 0;
}

static int readonly_old(struct init *init, int target, const char *path)
{
    cleanup_fd int mounted = -1;
    int result = old_bind(init, target, target, true);

    if (result < 0)
        return result;
    mounted = target_open(init, path, TARGET_EXISTING);
    return mounted < 0 ? mounted : old_attributes(init, mounted, MOUNT_ATTR_RDONLY);
}

int do_readonly(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor);
    cleanup_fd int target = -1, tree = -1;
    int result;

    if (!init->new_mounts)
        return no_namespace(init, op, path);
    target = target_open(init, path, TARGET_EXISTING);
    if (target == -ENOENT || target == -ENOTDIR)
        return 0;
    if (target < 0)
        return fail(init->error, op, -target, "openat2", path);
    if (!init->old_mount) {
        tree = sys_open_tree(target, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
        init->old_mount = tree == -ENOSYS;
    }
    if (init->old_mount) {
        result = readonly_old(init, target, path);
        return result < 0 ? fail(init->error, op, -result, "mount", path) : 0;
    }
    if (tree < 0)
        return fail(init->error, op, -tree, "open_tree", path);
    result = set_attributes(tree, MOUNT_ATTR_RDONLY, true);
    if (result < 0)
        return fail(init->error, op, -result, "mount_setattr", path);
    result = sys_move_mount(tree, target);
    return result < 0 ? fail(init->error, op, -result, "move_mount", path) : 0;
}
