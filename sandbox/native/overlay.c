/* An overlay of layers: by the new mount calls where the kernel has them, else by mount(2).
 *
 * May assume: a process of its own with a working folder of its own (names of layers are relative
 * to /proc/self/fd), and nothing of libc beyond system calls and strings: it runs in init, and in a
 * child that shares its parent's memory.  Layers are host paths that the engine owns.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "overlay.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "sys.h"

#define MAX_STRING 255 /* of one value of fsconfig */
#define MAX_OPTIONS 4095

/* A build for tests does as kernels before 6.5 do. */
#ifdef FORCE_ONE_LOWERDIR
#define TRY_LOWERDIR_PLUS false
#else
#define TRY_LOWERDIR_PLUS true
#endif

static const char *after(const char *string)
{
    return string + strlen(string) + 1;
}

static bool is_procfs(int fd)
{
    struct statfs info;

    return fstatfs(fd, &info) == 0 && (long)info.f_type == PROC_MAGIC;
}

void overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){.upper_fd = -1, .work_fd = -1};
    for (size_t i = 0; i < MAX_LAYERS; i++)
        overlay->lowers[i] = -1;
}

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

void overlay_close(struct overlay *overlay)
{
    for (uint32_t i = 0; i < overlay->count; i++)
        close_fd(&overlay->lowers[i]);
    close_fd(&overlay->upper_fd);
    close_fd(&overlay->work_fd);
}

static int go_to_descriptors(void)
{
    cleanup_fd int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || !is_procfs(fd) || fchdir(fd) < 0)
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
    if (result == 0 && overlay->is_volatile)
        result = sys_fsconfig(fs, FS_SET_FLAG, "volatile", NULL, 0);
    return result;
}

static int set_features(const struct overlay *overlay, int fs)
{
    static const char *const OFF[] = {"index", "xino", "metacopy"};

    for (size_t i = 0; i < sizeof OFF / sizeof *OFF; i++) {
        int result = sys_fsconfig(fs, FS_SET_STRING, OFF[i], "off", 0);

        if (result < 0 && result != -EINVAL) /* EINVAL: the kernel was built without it */
            return result;
    }
    return overlay->user_xattr ? sys_fsconfig(fs, FS_SET_FLAG, "userxattr", NULL, 0) : 0;
}

static int try_overlay(struct overlay *overlay, bool one_by_one, const char **call)
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
        result = set_features(overlay, fs);
    if (result == 0)
        result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    if (result < 0)
        return result;
    *call = "fsmount";
    return sys_fsmount(fs, 0);
}

int overlay_make(struct overlay *overlay, const char **call)
{
    int result = has_lowerdir_plus() ? try_overlay(overlay, true, call) : -EINVAL;

    return result == -EINVAL ? try_overlay(overlay, false, call) : result;
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

static int overlay_options(const struct overlay *overlay, char *text, size_t room)
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
        if (result == 0 && overlay->is_volatile)
            result = append(text, &used, room, ",volatile");
    }
    if (result == 0)
        result = append(text, &used, room, ",index=off,xino=off,metacopy=off");
    if (result == 0 && overlay->user_xattr)
        result = append(text, &used, room, ",userxattr");
    return result;
}

int overlay_mount(struct overlay *overlay, int at)
{
    char options[MAX_OPTIONS + 1], number[24];
    int result = open_lowers(overlay);

    if (result == 0)
        result = open_upper(overlay);
    if (result == 0)
        result = overlay_options(overlay, options, sizeof options);
    if (result == 0)
        result = go_to_descriptors();
    if (result < 0)
        return result;
    return or_errno(mount("overlay", decimal(number, at), "overlay", 0, options));
}

bool overlay_forget_volatile(const struct overlay *overlay)
{
    cleanup_fd int opened = -1;
    int work = overlay->work_fd;

    if (!overlay->is_volatile)
        return false;
    if (work < 0)
        work = opened = open(overlay->work, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (work < 0 || (unlinkat(work, "work/incompat/volatile/dirty", 0) < 0 && errno != ENOENT))
        return false;
    return unlinkat(work, "work/incompat/volatile", AT_REMOVEDIR) == 0;
}

static int make_empty(void)
{
    cleanup_fd int fs = sys_fsopen("tmpfs");
    int result;

    if (fs < 0)
        return fs;
    result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    return result < 0 ? result : sys_fsmount(fs, 0);
}

int overlay_replace_host(struct overlay *overlay, int at, const char **call)
{
    struct overlay outer = {.count = 2, .upper_fd = -1, .work_fd = -1, .by_descriptor = true};
    cleanup_fd int empty = -1, view = -1;
    int result = open_lowers(overlay);

    *call = "open";
    if (result < 0)
        return result;
    *call = "fsmount";
    empty = make_empty();
    if (empty < 0)
        return empty;
    *call = "move_mount";
    result = sys_move_mount(empty, at);
    if (result < 0)
        return result;
    outer.lowers[0] = overlay->lowers[overlay->count - 1];
    outer.lowers[1] = empty;
    outer.user_xattr = overlay->user_xattr;
    view = overlay_make(&outer, call);
    if (view < 0)
        return view;
    *call = "move_mount";
    result = sys_move_mount(view, at);
    if (result < 0)
        return result;
    close(overlay->lowers[overlay->count - 1]);
    overlay->lowers[overlay->count - 1] = steal_fd(&view);
    return 0;
}
