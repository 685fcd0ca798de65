/* The container's root: overlay or folder, and the pivot into it.
 *
 * Runs in init, in a mount namespace of its own, with the host's root still at "/" and the mount
 * point as the working folder (the monitor went there before clone, so that it is found even where
 * a user namespace may not traverse the way to it).  Layers are host paths that the engine owns.
 *
 * Whatever has to be attached for overlayfs to accept it (a detached mount is no lower layer before
 * Linux 6.15) is stacked on the mount point; the root goes on top, and the pivot's unmount takes
 * all of it away. */
#include "init.h"

#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static int open_attach_point(struct init *init, const struct op *op)
{
    if (!init->new_mounts)
        return fail(init->error, op, EPERM, "mount", "no mount namespace of its own");
    if (init->attach_fd < 0)
        init->attach_fd = or_errno(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (init->attach_fd < 0)
        return fail(init->error, op, -init->attach_fd, "open", init->settings->mount_point);
    /* Without "propagation" in the plan the host would see what is mounted here. */
    if (!init->is_private && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return fail(init->error, op, errno, "mount", "/");
    init->is_private = true;
    return 0;
}

/* After mount(2) on the mount point: its name in its parent leads to what is on top of it. */
static int reopen_mount_point(struct init *init)
{
    char path[NAME_MAX + 8] = "../";
    const char *slash = strrchr(init->settings->mount_point, '/');
    const char *name = slash != NULL ? slash + 1 : init->settings->mount_point;

    if (name[0] == 0 || strlen(name) > NAME_MAX)
        return -EINVAL;
    strcat(path, name);
    return or_errno(openat(init->attach_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static int attach_root(struct init *init, const struct op *op, int root)
{
    int result = sys_move_mount(root, init->attach_fd);

    if (result < 0)
        return fail(init->error, op, -result, "move_mount", init->settings->mount_point);
    close_fd(&init->root_fd);
    init->root_fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
    return init->root_fd < 0 ? fail(init->error, op, errno, "fcntl", "") : 0;
}

static int bind_root(struct init *init, const struct op *op, int tree, const char *path)
{
    cleanup_fd int mine = -1;
    int result;

    if (tree < 0 && !init->old_mount) {
        tree = mine = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
        if (tree == -EINVAL) /* what is mounted below is locked to it in a user namespace */
            tree = mine = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE);
        if (tree < 0 && tree != -ENOSYS)
            return fail(init->error, op, -tree, "open_tree", path);
        init->old_mount = tree < 0;
    }
    if (!init->old_mount)
        return attach_root(init, op, tree);
    result = old_mount_on(init, path, init->attach_fd, NULL, MS_BIND, NULL);
    if (result < 0)
        return fail(init->error, op, -result, "mount", path);
    close_fd(&init->root_fd);
    init->root_fd = reopen_mount_point(init);
    return init->root_fd < 0 ? fail(init->error, op, -init->root_fd, "openat", path) : 0;
}

int do_root_bind(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor);
    int64_t flags = op_integer(&cursor);
    int result = open_attach_point(init, op);

    if (result < 0)
        return result;
    init->readonly_root = (flags & OVERLAY_READONLY) != 0;
    return bind_root(init, op, init->sources != NULL ? init->sources[op->index] : -1, path);
}

/* ---- overlay ---- */

/* Take the layers that the monitor cloned, attached one on the other. */
static int take_prepared(struct init *init, const struct op *op, struct overlay *overlay)
{
    for (int i = 0; i < init->layer_count; i++) {
        int result = sys_move_mount(init->layers[i], init->attach_fd);

        if (result < 0)
            return fail(init->error, op, -result, "move_mount", "layer");
        overlay->lowers[i] = steal_fd(&init->layers[i]);
        overlay->by_descriptor = true;
    }
    return 0;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The writable folders, where they are known by a descriptor: the disk image's, or below the
 * folder that the monitor cloned. */
static int take_upper(struct init *init, const struct op *op, struct overlay *overlay)
{
    bool from_disk = overlay->upper[0] == 0 && init->disk_fd >= 0;
    int parent = from_disk ? init->disk_fd : init->upper_fd;
    int result;

    overlay->has_upper = overlay->upper[0] != 0 || from_disk;
    if (!overlay->has_upper || parent < 0)
        return 0;
    result = sys_move_mount(parent, init->attach_fd);
    if (result < 0)
        return fail(init->error, op, -result, "move_mount", "upper");
    overlay->upper_fd = or_errno(openat(parent, from_disk ? "upper" : last_name(overlay->upper),
                                        O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    overlay->work_fd = or_errno(openat(parent, from_disk ? "work" : last_name(overlay->work),
                                       O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (overlay->upper_fd < 0)
        return fail(init->error, op, -overlay->upper_fd, "openat", "upper");
    if (overlay->work_fd < 0)
        return fail(init->error, op, -overlay->work_fd, "openat", "work");
    return 0;
}

static int overlay_root(struct init *init, const struct op *op, struct overlay *overlay)
{
    cleanup_fd int root = -1;
    const char *call = "mount";

    if (!init->old_mount) {
        root = overlay_make(overlay, &call);
        if (root == -EINVAL && overlay_forget_volatile(overlay))
            root = overlay_make(overlay, &call);
        init->old_mount = root == -ENOSYS;
        if (root >= 0)
            return attach_root(init, op, root);
    }
    if (init->old_mount || root == -E2BIG) {
        call = "mount";
        root = overlay_mount(overlay, init->attach_fd);
        if (root == -EINVAL && overlay_forget_volatile(overlay))
            root = overlay_mount(overlay, init->attach_fd);
        if (root == 0)
            root = reopen_mount_point(init);
        if (root >= 0) {
            close_fd(&init->root_fd);
            init->root_fd = steal_fd(&root);
            return 0;
        }
    }
    return fail(init->error, op, -root, call, overlay->first);
}

int do_root_overlay(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *call = "mount";
    struct overlay overlay;
    int64_t flags;
    int result;

    overlay_init(&overlay);
    overlay.count = op_strings(&cursor, &overlay.first);
    overlay.upper = op_string(&cursor);
    overlay.work = op_string(&cursor);
    flags = op_integer(&cursor);
    overlay.is_volatile = (flags & OVERLAY_VOLATILE) != 0;
    overlay.user_xattr = init->new_user;
    if (overlay.count == 0 || overlay.count > MAX_LAYERS)
        return fail(init->error, op, overlay.count == 0 ? EINVAL : E2BIG, "mount", "lowers");

    result = open_attach_point(init, op);
    if (result == 0)
        result = take_prepared(init, op, &overlay);
    if (result == 0)
        result = take_upper(init, op, &overlay);
    init->readonly_root = (flags & OVERLAY_READONLY) != 0;
    if (result == 0 && overlay.count == 1 && !overlay.has_upper) {
        /* overlayfs wants two layers; one alone is the folder itself, read-only at the pivot. */
        init->readonly_root = true;
        result = bind_root(init, op, overlay.lowers[0], overlay.first);
    } else {
        if (result == 0 && (flags & OVERLAY_HOST_ROOT)) {
            result = overlay_replace_host(&overlay, init->attach_fd, &call);
            if (result < 0)
                result = fail(init->error, op, -result, call, "/");
        }
        if (result == 0)
            result = overlay_root(init, op, &overlay);
    }
    overlay_close(&overlay);
    return result;
}

/* ---- the pivot ---- */

static int make_readonly(struct init *init, const struct op *op)
{
    struct statvfs info;
    int result;

    if (root_of(init) < 0)
        return fail(init->error, op, -init->root_fd, "open", "/");
    if (!init->old_mount) {
        result = set_attributes(init->root_fd, MOUNT_ATTR_RDONLY, false);
        if (result != -ENOSYS)
            return result < 0 ? fail(init->error, op, -result, "mount_setattr", "/") : 0;
        init->old_mount = true;
    }
    if (fstatvfs(init->root_fd, &info) < 0)
        return fail(init->error, op, errno, "fstatvfs", "/");
    result = old_mount_on(init, NULL, init->root_fd, NULL,
                          MS_REMOUNT | MS_BIND | MS_RDONLY |
                              (info.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                                              MS_NODIRATIME | MS_RELATIME)),
                          NULL);
    return result < 0 ? fail(init->error, op, -result, "mount", "/") : 0;
}

int do_root_readonly(struct init *init, struct op *op)
{
    if (!init->new_mounts)
        return fail(init->error, op, EPERM, "mount", "no mount namespace of its own");
    return make_readonly(init, op);
}

static bool plan_has_later(const struct init *init, const struct op *op, uint32_t code)
{
    struct op other = *op;

    while (plan_next(init->plan, &other))
        if (other.code == code)
            return true;
    return false;
}

int do_pivot(struct init *init, struct op *op)
{
    char here[PATH_MAX];
    int result;

    if (!init->new_mounts || init->root_fd < 0 || init->attach_fd < 0)
        return fail(init->error, op, EPERM, "pivot_root", "no root to go to");
    if (plan_has_later(init, op, OP_MASK)) {
        result = prepare_null(init);
        if (result < 0)
            return fail(init->error, op, -result, "open_tree", "/dev/null");
    }
    if (fchdir(init->root_fd) < 0)
        return fail(init->error, op, errno, "fchdir", init->settings->mount_point);
    /* The old root lands on top of the new one, and is the first thing that "." finds. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return fail(init->error, op, errno, "pivot_root", init->settings->mount_point);
    if (umount2(".", MNT_DETACH) < 0)
        return fail(init->error, op, errno, "umount2", "/");
    if (chdir("/") < 0)
        return fail(init->error, op, errno, "chdir", "/");
    if (syscall(SYS_getcwd, here, sizeof here) < 0 || strcmp(here, "/") != 0)
        return fail(init->error, op, EXDEV, "getcwd", "/");
    init->pivoted = true;
    close_fd(&init->attach_fd);
    return init->readonly_root ? make_readonly(init, op) : 0;
}
