/* Layers merged by the kernel, on a mount that is attached nowhere.
 *
 * May assume: the layers are folders of the engine's own.  overlayfs is given descriptors' names,
 * relative to /proc/self/fd: no quoting, and short enough for many of them in one value.  The
 * working folder that this needs is that of a thread of its own: the caller is somebody's Python.
 */
#include "layerview.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "sys.h"

#define MAX_LAYERS 500 /* overlayfs' own bound */
#define MAX_VALUE 255  /* of one string of fsconfig */

struct view {
    const char *const *layers;
    size_t count;
    int fds[MAX_LAYERS];
    int result;
};

/* Since Linux 6.5.  Kernels before take every name, and refuse it at the end. */
static bool has_lowerdir_plus(void)
{
    unsigned major = 0, minor = 0;
    struct utsname kernel;

    if (uname(&kernel) || sscanf(kernel.release, "%u.%u", &major, &minor) < 1)
        return false;
    return major > 6 || (major == 6 && minor >= 5);
}

static int add_layers(const struct view *v, int fs)
{
    char name[24];
    int error = 0;

    for (size_t i = 0; i < v->count && !error; i++)
        error = sys_fsconfig(fs, FS_SET_STRING, "lowerdir+", decimal(name, v->fds[i]), 0);
    return error;
}

static int join_layers(const struct view *v, int fs)
{
    char value[MAX_VALUE + 1] = "", name[24];
    size_t used = 0;

    for (size_t i = 0; i < v->count; i++) {
        const char *digits = decimal(name, v->fds[i]);
        size_t len = strlen(digits);

        if (used + len + 2 > sizeof value)
            return -E2BIG;
        if (used)
            value[used++] = ':';
        memcpy(value + used, digits, len + 1);
        used += len;
    }
    return sys_fsconfig(fs, FS_SET_STRING, "lowerdir", value, 0);
}

static int mount_view(const struct view *v)
{
    cleanup_fd int fds = or_errno(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    cleanup_fd int fs = -1;
    int error;

    if (fds < 0)
        return fds;
    if (unshare(CLONE_FS) || fchdir(fds))
        return -errno;
    fs = sys_fsopen("overlay");
    if (fs < 0)
        return fs;
    error = has_lowerdir_plus() ? add_layers(v, fs) : join_layers(v, fs);
    if (!error)
        error = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    if (error)
        return error;
    return sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                               MOUNT_ATTR_NOEXEC);
}

static void *run(void *argument)
{
    struct view *v = argument;

    v->result = mount_view(v);
    return NULL;
}

int layer_view(const char *const *layers, size_t count)
{
    struct view *v;
    pthread_t thread;
    int result = 0;
    size_t opened = 0;

    if (count < 2 || count > MAX_LAYERS)
        return count < 2 ? -EINVAL : -E2BIG;
    v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    v->layers = layers;
    v->count = count;
    for (; opened < count && !result; opened++) {
        v->fds[opened] = or_errno(open(layers[opened], O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (v->fds[opened] < 0) {
            result = v->fds[opened];
            break;
        }
    }
    if (!result) {
        result = -pthread_create(&thread, NULL, run, v);
        if (!result)
            result = -pthread_join(thread, NULL);
        if (!result)
            result = v->result;
    }
    while (opened > 0)
        close(v->fds[--opened]);
    free(v);
    return result;
}
