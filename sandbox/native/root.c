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
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#define MAX_STRING 255 /* of one value of fsconfig */
#define MAX_OPTIONS 4095

/* A build for tests does as kernels before 6.5 do. */
#ifdef FORCE_ONE_LOWERDIR
#define TRY_LOWERDIR_PLUS false
#else
#define TRY_LOWERDIR_PLUS true
#endif

struct overlay {
    const char *first; /* lower folders, by path */
    uint32_t count;
    const char *upper, *work;
    int64_t flags;
    int lowers[MAX_LAYERS]; /* or by descriptor: all of them or none */
    int upper_fd, work_fd;
    bool has_upper;
    bool by_descriptor;
};

static const char *after(const char *string)
{
    return string + strlen(string) + 1;
}

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

/* A layer's name for overlayfs, relative to /proc/self/fd: no quoting, and short enough for 500 of
 * them on one page. */
static int append_name(char *text, size_t *used, size_t room, int fd)
{
    char number[24];
    const char *digits = decimal(number, fd);
    size_t size = strlen(digits);

    if (*used + 1 + size + 1 > room)
        return -E2BIG;
    if (*used > 0)
        text[(*used)++] = ':';
    memcpy(text + *used, digits, size + 1);
    *used += size;
    return 0;
}

static int lower_names(const struct overlay *overlay, char *text, size_t room)
{
    size_t used = 0;

    for (uint32_t i = 0; i < overlay->count; i++) {
        int result = append_name(text, &used, room, overlay->lowers[i]);
        if (result < 0)
            return result;
    }
    return 0;
}

static int open_lowers(struct overlay *overlay)
{
    const char *path = overlay->first;

    if (overlay->by_descriptor)
        return 0;
    for (uint32_t i = 0; i < overlay->count; i++, path = after(path)) {
        overlay->lowers[i] = or_errno(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (overlay->lowers[i] < 0)
            return overlay->lowers[i];
    }
    overlay->by_descriptor = true;
    return 0;
}

static void close_layers(struct overlay *overlay)
{
    for (uint32_t i = 0; i < overlay->count; i++)
        close_fd(&overlay->lowers[i]);
    close_fd(&overlay->upper_fd);
    close_fd(&overlay->work_fd);
}

static int go_to_descriptors(void)
{
    cleanup_fd int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || !is_on(fd, PROC_MAGIC) || fchdir(fd) < 0)
        return fd < 0 ? -errno : -EXDEV;
    return 0;
}

/* overlayfs of Linux 6.5 to 6.7 takes a backslash for quoting. */
static bool is_plain_path(const char *path)
{
    return path[0] == '/' && strlen(path) <= MAX_STRING && strpbrk(path, "\\:,") == NULL;
}

/* Since Linux 6.5.  Kernels before take every name, refuse it at the end, and complain in their
 * log; a patched one that refuses it too gets the other form after all. */
static bool has_lowerdir_plus(void)
{
    unsigned long major, minor = 0;
    struct utsname kernel;
    char *rest;

    if (!TRY_LOWERDIR_PLUS || uname(&kernel) < 0)
        return false;
    major = strtoul(kernel.release, &rest, 10);
    if (*rest == '.')
        minor = strtoul(rest + 1, NULL, 10);
    return major > 6 || (major == 6 && minor >= 5);
}

/* One "lowerdir+" a layer. */
static int add_lowers(struct overlay *overlay, int fs)
{
    const char *path = overlay->first;
    char number[24];
    int result = 0;

    for (uint32_t i = 0; i < overlay->count && result == 0; i++) {
        const char *name = path;

        if (overlay->by_descriptor)
            name = decimal(number, overlay->lowers[i]);
        else
            path = after(path);
        result = sys_fsconfig(fs, FS_SET_STRING, "lowerdir+", name, 0);
    }
    return result;
}

static bool are_plain_paths(const struct overlay *overlay)
{
    const char *path = overlay->first;

    for (uint32_t i = 0; i < overlay->count; i++, path = after(path))
        if (!is_plain_path(path))
            return false;
    return true;
}

static int set_lowers(struct overlay *overlay, int fs, bool one_by_one)
{
    char text[MAX_STRING + 1];
    int result = 0;

    if (!overlay->by_descriptor && !are_plain_paths(overlay))
        result = open_lowers(overlay);
    if (result == 0 && overlay->by_descriptor)
        result = go_to_descriptors();
    if (result < 0)
        return result;
    if (one_by_one)
        return add_lowers(overlay, fs);
    result = open_lowers(overlay);
    if (result == 0)
        result = go_to_descriptors();
    if (result == 0)
        result = lower_names(overlay, text, sizeof text);
    return result < 0 ? result : sys_fsconfig(fs, FS_SET_STRING, "lowerdir", text, 0);
}

static int open_upper(struct overlay *overlay)
{
    if (!overlay->has_upper || overlay->upper_fd >= 0)
        return 0;
    overlay->upper_fd = or_errno(open(overlay->upper, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (overlay->upper_fd < 0)
        return overlay->upper_fd;
    overlay->work_fd = or_errno(open(overlay->work, O_PATH | O_DIRECTORY | O_CLOEXEC));
    return overlay->work_fd < 0 ? overlay->work_fd : 0;
}

static int set_upper(const struct overlay *overlay, int fs)
{
    char number[24];
    const char *name = overlay->upper;
    int result;

    if (!overlay->has_upper)
        return 0;
    if (overlay->upper_fd >= 0)
        name = decimal(number, overlay->upper_fd);
    result = sys_fsconfig(fs, FS_SET_STRING, "upperdir", name, 0);
    if (result < 0)
        return result;
    name = overlay->work;
    if (overlay->work_fd >= 0)
        name = decimal(number, overlay->work_fd);
    result = sys_fsconfig(fs, FS_SET_STRING, "workdir", name, 0);
    if (result == 0 && (overlay->flags & OVERLAY_VOLATILE))
        result = sys_fsconfig(fs, FS_SET_FLAG, "volatile", NULL, 0);
    return result;
}

static int set_features(const struct init *init, int fs)
{
    static const char *const OFF[] = {"index", "xino", "metacopy"};

    for (size_t i = 0; i < sizeof OFF / sizeof *OFF; i++) {
        int result = sys_fsconfig(fs, FS_SET_STRING, OFF[i], "off", 0);

        if (result < 0 && result != -EINVAL) /* EINVAL: the kernel was built without it */
            return result;
    }
    /* trusted.* is out of reach of a user namespace. */
    return init->new_user ? sys_fsconfig(fs, FS_SET_FLAG, "userxattr", NULL, 0) : 0;
}

static int try_overlay(struct init *init, struct overlay *overlay, bool one_by_one,
                       const char **call)
{
    cleanup_fd int fs = sys_fsopen("overlay");
    int result;

    *call = "fsopen";
    if (fs < 0)
        return fs;
    *call = "fsconfig";
    result = sys_fsconfig(fs, FS_SET_STRING, "source", "overlay", 0);
    if (result == 0 && overlay->has_upper &&
        (!is_plain_path(overlay->upper) || !is_plain_path(overlay->work)))
        result = open_upper(overlay);
    if (result == 0 && overlay->upper_fd >= 0)
        result = go_to_descriptors();
    if (result == 0)
        result = set_upper(overlay, fs);
    if (result == 0)
        result = set_lowers(overlay, fs, one_by_one);
    if (result == 0)
        result = set_features(init, fs);
    if (result == 0)
        result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    if (result < 0)
        return result;
    *call = "fsmount";
    return sys_fsmount(fs, 0);
}

/* The overlay as a detached mount, or -errno.  -E2BIG: too many layers for this kernel's calls. */
static int make_overlay(struct init *init, struct overlay *overlay, const char **call)
{
    int result = has_lowerdir_plus() ? try_overlay(init, overlay, true, call) : -EINVAL;

    return result == -EINVAL ? try_overlay(init, overlay, false, call) : result;
}

static int append(char *text, size_t *used, size_t room, const char *more)
{
    size_t size = strlen(more);

    if (*used + size + 1 > room)
        return -E2BIG;
    memcpy(text + *used, more, size + 1);
    *used += size;
    return 0;
}

static int overlay_options(const struct init *init, const struct overlay *overlay, char *text,
                           size_t room)
{
    char number[24];
    size_t used = 0;
    int result = append(text, &used, room, "lowerdir=");

    if (result == 0)
        result = lower_names(overlay, text + used, room - used);
    used = strlen(text);
    if (result == 0 && overlay->has_upper) {
        result = append(text, &used, room, ",upperdir=");
        if (result == 0)
            result = append(text, &used, room, decimal(number, overlay->upper_fd));
        if (result == 0)
            result = append(text, &used, room, ",workdir=");
        if (result == 0)
            result = append(text, &used, room, decimal(number, overlay->work_fd));
        if (result == 0 && (overlay->flags & OVERLAY_VOLATILE))
            result = append(text, &used, room, ",volatile");
    }
    if (result == 0)
        result = append(text, &used, room, ",index=off,xino=off,metacopy=off");
    if (result == 0 && init->new_user)
        result = append(text, &used, room, ",userxattr");
    return result;
}

/* By mount(2) on the mount point; a page of options. */
static int mount_overlay(struct init *init, struct overlay *overlay)
{
    char options[MAX_OPTIONS + 1], number[24];
    int result = open_lowers(overlay);

    if (result == 0)
        result = open_upper(overlay);
    if (result == 0)
        result = overlay_options(init, overlay, options, sizeof options);
    if (result == 0)
        result = go_to_descriptors();
    if (result < 0)
        return result;
    if (mount("overlay", decimal(number, init->attach_fd), "overlay", 0, options) < 0)
        return -errno;
    return reopen_mount_point(init);
}

/* The host's "/" has the upper folder below it, which overlayfs refuses as overlapping.  Seen
 * through a read-only overlay of its own, it is another file system. */
static int replace_host_root(struct init *init, const struct op *op, struct overlay *overlay)
{
    struct overlay outer = {.count = 2, .upper_fd = -1, .work_fd = -1, .by_descriptor = true};
    cleanup_fd int fs = sys_fsopen("tmpfs"), empty = -1, view = -1;
    const char *call = "fsopen";
    int result = open_lowers(overlay);

    if (result < 0)
        return fail(init->error, op, -result, "open", "/");
    if (fs < 0)
        return fail(init->error, op, -fs, call, "tmpfs");
    result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    if (result == 0)
        result = empty = sys_fsmount(fs, 0);
    if (result >= 0)
        result = sys_move_mount(empty, init->attach_fd);
    if (result < 0)
        return fail(init->error, op, -result, "fsmount", "tmpfs");
    outer.lowers[0] = overlay->lowers[overlay->count - 1];
    outer.lowers[1] = empty;
    view = make_overlay(init, &outer, &call);
    if (view < 0)
        return fail(init->error, op, -view, call, "/");
    result = sys_move_mount(view, init->attach_fd);
    if (result < 0)
        return fail(init->error, op, -result, "move_mount", "/");
    close(overlay->lowers[overlay->count - 1]);
    overlay->lowers[overlay->count - 1] = steal_fd(&view);
    return 0;
}

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

/* A volatile mount leaves a mark in the work folder, which says that a crash may have torn the
 * upper folder, and the next mount refuses it.  Whoever asks for a volatile one again takes that.
 */
static bool forget_volatile(const struct overlay *overlay)
{
    cleanup_fd int opened = -1;
    int work = overlay->work_fd;

    if ((overlay->flags & OVERLAY_VOLATILE) == 0)
        return false;
    if (work < 0)
        work = opened = open(overlay->work, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (work < 0 || (unlinkat(work, "work/incompat/volatile/dirty", 0) < 0 && errno != ENOENT))
        return false;
    return unlinkat(work, "work/incompat/volatile", AT_REMOVEDIR) == 0;
}

static int overlay_root(struct init *init, const struct op *op, struct overlay *overlay)
{
    cleanup_fd int root = -1;
    const char *call = "mount";

    if (!init->old_mount) {
        root = make_overlay(init, overlay, &call);
        if (root == -EINVAL && forget_volatile(overlay))
            root = make_overlay(init, overlay, &call);
        init->old_mount = root == -ENOSYS;
        if (root >= 0)
            return attach_root(init, op, root);
    }
    if (init->old_mount || root == -E2BIG) {
        call = "mount";
        root = mount_overlay(init, overlay);
        if (root == -EINVAL && forget_volatile(overlay))
            root = mount_overlay(init, overlay);
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
    struct overlay overlay = {.upper_fd = -1, .work_fd = -1};
    int result;

    overlay.count = op_strings(&cursor, &overlay.first);
    overlay.upper = op_string(&cursor);
    overlay.work = op_string(&cursor);
    overlay.flags = op_integer(&cursor);
    if (overlay.count == 0 || overlay.count > MAX_LAYERS)
        return fail(init->error, op, overlay.count == 0 ? EINVAL : E2BIG, "mount", "lowers");
    for (uint32_t i = 0; i < overlay.count; i++)
        overlay.lowers[i] = -1;

    result = open_attach_point(init, op);
    if (result == 0)
        result = take_prepared(init, op, &overlay);
    if (result == 0)
        result = take_upper(init, op, &overlay);
    init->readonly_root = (overlay.flags & OVERLAY_READONLY) != 0;
    if (result == 0 && overlay.count == 1 && !overlay.has_upper) {
        /* overlayfs wants two layers; one alone is the folder itself, read-only at the pivot. */
        init->readonly_root = true;
        result = bind_root(init, op, overlay.lowers[0], overlay.first);
    } else {
        if (result == 0 && (overlay.flags & OVERLAY_HOST_ROOT))
            result = replace_host_root(init, op, &overlay);
        if (result == 0)
            result = overlay_root(init, op, &overlay);
    }
    close_layers(&overlay);
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
