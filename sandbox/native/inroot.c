/* Paths below a hostile root, by handle.
 *
 * May assume: `root` is an open directory; path and tree are hostile.  The quick way is one
 * openat2(RESOLVE_IN_ROOT).  The slow way walks component by component with O_NOFOLLOW, expanding
 * links itself, and gives the same answers: it serves where directories have to be made on the way
 * (openat2 cannot), where a sandbox around us forbids openat2, and when openat2 gives up because of
 * renames elsewhere in the system.  A rename inside the tree while the slow way walks can make it
 * fail or find the other name, but every step starts at a handle below root and never takes `..`
 * from the kernel, so it cannot leave.
 */
#include "inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_LINKS 40
#define MAX_TRIES 32

struct walk {
    int root;
    int here;            /* -1: at the root */
    char path[PATH_MAX]; /* of `here`, no links in it */
    size_t path_len;
    char rest[PATH_MAX]; /* still to walk */
    unsigned links, most_links;
};

static int fd_of(const struct walk *w)
{
    return w->here >= 0 ? w->here : w->root;
}

static void step_to(struct walk *w, int fd)
{
    if (w->here >= 0)
        close(w->here);
    w->here = fd;
}

static int open_step(int parent, const char *name)
{
    int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd >= 0 ? fd : -errno;
}

static int append(struct walk *w, const char *name)
{
    size_t len = strlen(name);

    if (w->path_len + len + 2 > sizeof w->path)
        return -ENAMETOOLONG;
    if (w->path_len > 0)
        w->path[w->path_len++] = '/';
    memcpy(w->path + w->path_len, name, len + 1);
    w->path_len += len;
    return 0;
}

static void chop(struct walk *w)
{
    while (w->path_len > 0 && w->path[w->path_len - 1] != '/')
        w->path_len--;
    if (w->path_len > 0)
        w->path_len--;
    w->path[w->path_len] = 0;
}

/* `..`: walk down again from the root along a path that has one component less. */
static int go_up(struct walk *w)
{
    char path[PATH_MAX], *save, *name;

    chop(w);
    step_to(w, -1);
    memcpy(path, w->path, w->path_len + 1);
    for (name = strtok_r(path, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        int fd = open_step(fd_of(w), name);

        if (fd < 0)
            return fd;
        step_to(w, fd);
    }
    return 0;
}

/* Put the target of a link in front of what is still to walk. */
static int expand(struct walk *w, char *target, size_t len, const char *after)
{
    size_t after_len = strlen(after);

    if (++w->links > w->most_links)
        return -ELOOP;
    if (len + 1 + after_len + 1 > sizeof w->rest)
        return -ENAMETOOLONG;
    memmove(w->rest + len + 1, after, after_len + 1);
    memcpy(w->rest, target, len);
    w->rest[len] = '/';
    if (target[0] == '/') {
        step_to(w, -1);
        w->path_len = 0;
        w->path[0] = 0;
    }
    return 0;
}

/* Go into the directory `name`, which may have to be made first. */
static int go_down(struct walk *w, const char *name, const struct inroot_maker *maker)
{
    int fd = open_step(fd_of(w), name);
    int error = append(w, name);

    if (error) {
        if (fd >= 0)
            close(fd);
        return error;
    }
    if (fd < 0 && maker && (fd == -ENOENT || fd == -ENOTDIR)) {
        error = maker->directory(maker->context, fd_of(w), name, w->path, -fd);
        if (error)
            return error;
        fd = open_step(fd_of(w), name);
    }
    if (fd < 0)
        return fd;
    step_to(w, fd);
    return 0;
}

static int reopen(const struct walk *w, int flags)
{
    int fd = openat(fd_of(w), ".", (flags & ~(O_CREAT | O_EXCL)) | O_CLOEXEC);

    return fd >= 0 ? fd : -errno;
}

static int walk_on(struct walk *w, int flags, mode_t mode, const struct inroot_maker *maker)
{
    char name[NAME_MAX + 1], target[PATH_MAX];

    for (;;) {
        char *at = w->rest + strspn(w->rest, "/");
        size_t len = strcspn(at, "/");
        char *after = at + len;
        bool is_last = after[strspn(after, "/")] == 0;
        bool wants_directory = maker || *after == '/';
        ssize_t target_len;
        int error;

        if (len == 0)
            return reopen(w, flags);
        if (len > NAME_MAX)
            return -ENAMETOOLONG;
        memcpy(name, at, len);
        name[len] = 0;
        if (!strcmp(name, ".") || !strcmp(name, "..")) {
            error = len == 2 ? go_up(w) : 0;
            memmove(w->rest, after, strlen(after) + 1);
            if (error)
                return error;
            continue;
        }
        target_len = -1;
        if (!is_last || wants_directory || !(flags & O_NOFOLLOW))
            target_len = readlinkat(fd_of(w), name, target, sizeof target);
        if (target_len == (ssize_t)sizeof target)
            return -ENAMETOOLONG;
        if (target_len > 0) {
            if (is_last && (flags & O_CREAT) && (flags & O_EXCL))
                return -EEXIST;
            error = expand(w, target, (size_t)target_len, after);
        } else if (is_last && !wants_directory) {
            int fd = openat(fd_of(w), name, flags | O_NOFOLLOW | O_CLOEXEC, mode);

            return fd >= 0 ? fd : -errno;
        } else {
            error = go_down(w, name, maker);
            memmove(w->rest, after, strlen(after) + 1);
        }
        if (error)
            return error;
    }
}

static int walk(int root, const char *path, int flags, mode_t mode,
                const struct inroot_maker *maker, unsigned most_links, char *real)
{
    struct walk w = {.root = root, .here = -1, .most_links = most_links};
    size_t len = strlen(path);
    int fd;

    if (len >= sizeof w.rest)
        return -ENAMETOOLONG;
    memcpy(w.rest, path, len + 1);
    fd = walk_on(&w, flags, mode, maker);
    if (real)
        memcpy(real, w.path, w.path_len + 1);
    if (w.here >= 0)
        close(w.here);
    return fd;
}

/* -ENOSYS: not this way. */
static int open_at_once(int root, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
    };

    for (int i = 0; i < MAX_TRIES; i++) {
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);

        if (fd >= 0)
            return fd;
        /* How filters of other container engines answer a call that they do not know; if it is
         * meant, the slow way meets it as well. */
        if (errno == EPERM)
            break;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -ENOSYS;
}

int inroot_open(int root, const char *path, int flags, mode_t mode)
{
    int fd = path[0] ? open_at_once(root, path, flags, mode, 0) : -ENOENT;

    return fd == -ENOSYS ? walk(root, path, flags, mode, NULL, MAX_LINKS, NULL) : fd;
}

int inroot_open_plain(int root, const char *path, int flags)
{
    int fd = path[0] ? open_at_once(root, path, flags, 0, RESOLVE_NO_SYMLINKS) : -ENOENT;

    return fd == -ENOSYS ? walk(root, path, flags, 0, NULL, 0, NULL) : fd;
}

int inroot_make(int root, const char *path, const struct inroot_maker *maker, char *real)
{
    return walk(root, path, O_RDONLY | O_DIRECTORY, 0, maker, MAX_LINKS, real);
}
