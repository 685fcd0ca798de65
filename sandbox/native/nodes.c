/* Device nodes.
 *
 * Runs in init, umask 0, in the container's own /dev or elsewhere below the root (targets.c). */
#include "init.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* In a user namespace nodes cannot be made; the host's own is bound in its place. */
static int bind_node(struct init *init, int parent, const char *name, mode_t type, dev_t device)
{
    char path[NAME_MAX + 8] = "/dev/";
    cleanup_fd int source = -1, target = -1;
    struct stat info;

    if (init->pivoted || strlen(name) > NAME_MAX)
        return -EPERM;
    strcat(path, name);
    source = init->old_mount ? or_errno(open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC))
                             : sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
    if (source < 0)
        return source;
    if (fstat(source, &info) < 0 || (info.st_mode & S_IFMT) != type || info.st_rdev != device)
        return -ENXIO;
    if (mknodat(parent, name, S_IFREG | 0666, 0) < 0)
        return -errno;
    target = or_errno(openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (target < 0)
        return target;
    return init->old_mount ? old_bind(init, source, target, false) : sys_move_mount(source, target);
}

int do_mknod(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor), *name;
    mode_t mode = (mode_t)op_integer(&cursor);
    unsigned major = (unsigned)op_integer(&cursor);
    unsigned minor = (unsigned)op_integer(&cursor);
    int64_t uid = op_integer(&cursor);
    int64_t gid = op_integer(&cursor);
    cleanup_fd int close_this = -1;
    dev_t device = S_ISCHR(mode) || S_ISBLK(mode) ? makedev(major, minor) : 0;
    int parent = target_parent(init, path, &name, &close_this);
    int result;

    if (parent < 0)
        return fail(init->error, op, -parent, "openat2", path);
    /* init's umask is 0, so the mode is what was asked for. */
    if (mknodat(parent, name, mode, device) < 0) {
        if (errno != EPERM || !init->new_mounts || device == 0)
            return fail(init->error, op, errno, "mknodat", path);
        result = bind_node(init, parent, name, mode & S_IFMT, device);
        return result < 0 ? fail(init->error, op, -result, "mknodat", path) : 0;
    }
    if ((uid != 0 || gid != 0) &&
        fchownat(parent, name, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(init->error, op, errno, "fchownat", path);
    return 0;
}
