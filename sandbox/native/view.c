/* The root of a container that does not run: its overlay, with what is bound into it.
 *
 * May assume: the host's root, and a container that does not start meanwhile if the view can be
 * written to.  The mounts are made in a mount namespace of a child that shares memory and
 * descriptors with the caller, which waits for it as for a vfork: nothing appears on the host, the
 * child's working folder is its own, and a clone of the finished tree stays when the child and its
 * namespace are gone.  It is attached nowhere, so that the kernel takes it back with the last
 * descriptor.  The child makes system calls only: its memory is a process's that may be Python.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "view.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "inroot.h"
#include "overlay.h"
#include "sys.h"

#define STACK_BYTES (256u << 10)
#define MAX_TARGET 4096

struct view {
    const struct view_options *options;
    struct overlay overlay;
    const char *call;
    const char *about;
    int result; /* the descriptor, or -errno */
};

static int failed(struct view *view, const char *call, const char *about, int error)
{
    view->call = call;
    view->about = about;
    return error;
}

static bool is_readonly(const struct view *view)
{
    return (view->options->flags & VIEW_READONLY) != 0;
}

/* After mount(2) on it: its name leads to what is on top. */
static int open_point(const struct view *view)
{
    return or_errno(open(view->options->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static int set_readonly(int fd, bool is_recursive)
{
    const struct sys_mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

    return sys_mount_setattr(fd, is_recursive ? AT_RECURSIVE : 0, &attr);
}

/* The overlay, attached at the mount point of this namespace. */
static int attach_overlay(struct view *view, int point)
{
    struct overlay *overlay = &view->overlay;
    const char *call = "fsmount";
    cleanup_fd int root = -1;
    int result;

    if (view->options->flags & VIEW_HOST_ROOT) {
        result = overlay_replace_host(overlay, point, &call);
        if (result < 0)
            return failed(view, call, "/", result);
    }
    root = overlay_make(overlay, &call);
    if (root == -EINVAL && overlay_forget_volatile(overlay))
        root = overlay_make(overlay, &call);
    if (root >= 0) {
        result = sys_move_mount(root, point);
        return result < 0 ? failed(view, "move_mount", view->options->mount_point, result)
                          : steal_fd(&root);
    }
    if (root != -E2BIG && root != -ENOSYS)
        return failed(view, call, overlay->first, root);
    result = overlay_mount(overlay, point);
    if (result == -EINVAL && overlay_forget_volatile(overlay))
        result = overlay_mount(overlay, point);
    if (result < 0)
        return failed(view, "mount", overlay->first, result);
    result = open_point(view);
    return result < 0 ? failed(view, "open", view->options->mount_point, result) : result;
}

/* inroot_maker: what the first start would make. */
static int make_folder(void *context, int parent, const char *name, const char *path, int error)
{
    (void)context;
    (void)path;
    return error == ENOENT ? or_errno(mkdirat(parent, name, 0755)) : -error;
}

/* Where a bind goes: -ENOENT when there is no such place and none can be made. */
static int open_target(const struct view *view, int root, const char *target, bool is_folder)
{
    const struct inroot_maker maker = {.directory = make_folder};
    char parent[MAX_TARGET], real[MAX_TARGET];
    const char *slash = strrchr(target, '/');
    cleanup_fd int folder = -1, made = -1;
    int fd = inroot_open(root, target, O_PATH, 0);

    if (fd != -ENOENT || is_readonly(view))
        return fd;
    if (is_folder)
        return inroot_make(root, target, &maker, real);
    if (slash == NULL || slash[1] == 0 || (size_t)(slash - target) >= sizeof parent)
        return -EINVAL;
    memcpy(parent, target, (size_t)(slash - target));
    parent[slash - target] = 0;
    folder = inroot_make(root, slash == target ? "/" : parent, &maker, real);
    if (folder < 0)
        return folder;
    made = or_errno(
        openat(folder, slash + 1, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    return made < 0 ? made : inroot_open(root, target, O_PATH, 0);
}

static int bind_one(struct view *view, int root, const struct view_bind *bind)
{
    unsigned how = OPEN_TREE_CLONE | (bind->is_recursive ? AT_RECURSIVE : 0u);
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, bind->source, how), target = -1;
    struct stat st;
    int result;

    if (tree < 0)
        return failed(view, "open_tree", bind->source, tree);
    if (fstat(tree, &st) < 0)
        return failed(view, "fstat", bind->source, -errno);
    result = bind->is_readonly ? set_readonly(tree, false) : 0;
    if (result < 0)
        return failed(view, "mount_setattr", bind->source, result);
    target = open_target(view, root, bind->target, S_ISDIR(st.st_mode));
    /* The container never ran: there is nothing yet that this would hide. */
    if (target == -ENOENT && is_readonly(view))
        return 0;
    if (target < 0)
        return failed(view, "openat2", bind->target, target);
    result = sys_move_mount(tree, target);
    return result < 0 ? failed(view, "move_mount", bind->target, result) : 0;
}

static int make_tree(struct view *view)
{
    const struct view_options *options = view->options;
    cleanup_fd int point = -1, root = -1, tree = -1;
    int result;

    if (unshare(CLONE_NEWNS) < 0)
        return failed(view, "unshare", "", -errno);
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return failed(view, "mount", "/", -errno);
    point = open_point(view);
    if (point < 0)
        return failed(view, "open", options->mount_point, point);
    /* Before Linux 6.15 overlayfs takes no folder of a mount that is attached nowhere. */
    if (options->disk >= 0) {
        result = sys_move_mount(options->disk, point);
        if (result < 0)
            return failed(view, "move_mount", options->mount_point, result);
    }
    root = attach_overlay(view, point);
    if (root < 0)
        return root;
    for (uint32_t i = 0; i < options->bind_count; i++) {
        result = bind_one(view, root, &options->binds[i]);
        if (result < 0)
            return result;
    }
    tree = or_errno(syscall(NR_OPEN_TREE, root, "",
                            OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH | O_CLOEXEC));
    if (tree < 0)
        return failed(view, "open_tree", options->mount_point, tree);
    result = is_readonly(view) ? set_readonly(tree, true) : 0;
    return result < 0 ? failed(view, "mount_setattr", "/", result) : steal_fd(&tree);
}

static int child(void *context)
{
    struct view *view = context;

    view->result = make_tree(view);
    return 0;
}

/* As posix_spawn does: no signal handler runs on the borrowed memory. */
static int run_child(struct view *view)
{
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    sigset_t every, before;
    pid_t pid;
    int error = 0;

    if (stack == MAP_FAILED)
        return -errno;
    sigfillset(&every);
    pthread_sigmask(SIG_BLOCK, &every, &before);
    pid = clone(child, (char *)stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_FILES, view);
    if (pid < 0)
        error = -errno;
    /* It has no signal for its end: nobody else's wait finds it. */
    while (pid > 0 && waitpid(pid, NULL, __WCLONE) < 0 && errno == EINTR)
        continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_BYTES);
    return error;
}

int view_open(const struct view_options *options, struct fault *fault)
{
    struct view view = {.options = options, .call = "clone", .about = "", .result = -ECHILD};
    int error;

    overlay_init(&view.overlay);
    view.overlay.first = options->lowers;
    view.overlay.count = options->lower_count;
    view.overlay.upper = options->upper;
    view.overlay.work = options->work;
    view.overlay.has_upper = options->upper[0] != 0;
    view.overlay.is_volatile = (options->flags & VIEW_VOLATILE) != 0;
    view.overlay.user_xattr = (options->flags & VIEW_USER_XATTR) != 0;
    if (options->lower_count == 0 || options->lower_count > MAX_LAYERS)
        return fault_system(fault, "mount", E2BIG);
    error = run_child(&view);
    if (!error)
        error = view.result;
    overlay_close(&view.overlay);
    if (error < 0) {
        snprintf(fault->entry, sizeof fault->entry, "%s", view.about);
        return fault_system(fault, view.call, -error);
    }
    return error;
}
