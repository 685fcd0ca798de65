/* Paths below the container's root, as handles.
 *
 * Runs in init.  Everything below the root is hostile: an image may hold any links, and another
 * container may move a shared volume's folders while we look.  So a path becomes a descriptor
 * once, resolved inside the root, and what is made is made relative to a descriptor by a name of
 * one component that is not followed. */
#include "init.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define FOLDER_MODE 0755
#define FILE_MODE 0644

bool is_on(int fd, long magic)
{
    struct statfs info;

    return fstatfs(fd, &info) == 0 && (long)info.f_type == magic;
}

int root_of(struct init *init)
{
    if (init->root_fd < 0)
        init->root_fd = or_errno(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return init->root_fd;
}

/* A walk: `todo` is still to be looked up below `here`, which is the folder `done` of the root. */
struct walk {
    int root;
    int here;
    enum target_kind kind;
    bool follow;
    int links;
    char todo[PATH_MAX];
    char done[PATH_MAX];
};

/* What comes before the present component is replaced by `head`; the walk starts again there. */
static int restart(struct walk *walk, const char *head, const char *rest)
{
    char joined[PATH_MAX];
    size_t head_size = strlen(head), rest_size = strlen(rest);

    if (head_size + 1 + rest_size + 1 > sizeof joined)
        return -ENAMETOOLONG;
    memcpy(joined, head, head_size);
    joined[head_size] = '/';
    memcpy(joined + head_size + 1, rest, rest_size + 1);
    memcpy(walk->todo, joined, head_size + 1 + rest_size + 1);
    return 0;
}

static void leave(struct walk *walk)
{
    if (walk->here != walk->root)
        close_fd(&walk->here);
}

static int go_to_root(struct walk *walk)
{
    leave(walk);
    walk->here = walk->root;
    walk->done[0] = 0;
    return 0;
}

/* `done` holds no links, so its parent is a matter of text. */
static int go_up(struct walk *walk, const char *rest)
{
    char parent[PATH_MAX], *slash;

    strcpy(parent, walk->done);
    slash = strrchr(parent, '/');
    if (slash != NULL)
        *slash = 0;
    if (restart(walk, parent, rest) < 0)
        return -ENAMETOOLONG;
    return go_to_root(walk);
}

static int go_through_link(struct walk *walk, int link, const char *rest)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(link, "", target, sizeof target - 1);
    int result;

    if (size < 0)
        return -errno;
    if (!walk->follow || ++walk->links > MAX_LINKS)
        return -ELOOP;
    if (is_on(link, PROC_MAGIC))
        return -EXDEV; /* not even its text: it tells of processes, not of the image */
    target[size] = 0;
    result = restart(walk, target, rest);
    return result < 0 || target[0] != '/' ? result : go_to_root(walk);
}

static int make(struct walk *walk, const char *name, bool last)
{
    int result;

    if (walk->kind == TARGET_EXISTING)
        return -ENOENT;
    if (last && walk->kind == TARGET_FILE)
        result = or_errno(mknodat(walk->here, name, S_IFREG | FILE_MODE, 0));
    else
        result = or_errno(mkdirat(walk->here, name, FOLDER_MODE));
    /* Somebody else made it meanwhile: it is looked at like any other. */
    return result == -EEXIST ? 0 : result;
}

static int go_down(struct walk *walk, int fd, const char *name)
{
    size_t size = strlen(walk->done), more = strlen(name);

    if (size + 1 + more + 1 > sizeof walk->done) {
        close(fd);
        return -ENAMETOOLONG;
    }
    walk->done[size] = '/';
    memcpy(walk->done + size + 1, name, more + 1);
    leave(walk);
    walk->here = fd;
    return 0;
}

static int step(struct walk *walk, const char *name, const char *rest)
{
    bool last = rest[strspn(rest, "/")] == 0;
    int fd = or_errno(openat(walk->here, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat info;
    int result;

    if (fd == -ENOENT) {
        result = make(walk, name, last);
        if (result < 0)
            return result;
        fd = or_errno(openat(walk->here, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, &info) < 0) {
        result = -errno;
    } else if (S_ISLNK(info.st_mode)) {
        result = go_through_link(walk, fd, rest);
    } else if ((!last || walk->kind == TARGET_FOLDER) && !S_ISDIR(info.st_mode)) {
        result = -ENOTDIR;
    } else {
        result = go_down(walk, fd, name);
        memmove(walk->todo, rest, strlen(rest) + 1);
        return result;
    }
    close(fd);
    return result;
}

/* Component by component, making what is missing; a link that leads to nothing is followed, and
 * what it names is made, inside the root. */
static int walk_path(int root, const char *path, enum target_kind kind, bool follow)
{
    struct walk walk;
    int result;

    if (strlen(path) >= sizeof walk.todo)
        return -ENAMETOOLONG;
    /* Not an initializer: it would clear two pages for each path. */
    walk.root = walk.here = root;
    walk.kind = kind;
    walk.follow = follow;
    walk.links = 0;
    strcpy(walk.todo, path);
    result = go_to_root(&walk);
    while (result == 0) {
        char name[NAME_MAX + 1];
        const char *start = walk.todo + strspn(walk.todo, "/");
        size_t size = strcspn(start, "/");

        if (size == 0)
            return walk.here != root ? walk.here : or_errno(fcntl(root, F_DUPFD_CLOEXEC, 3));
        if (size > NAME_MAX) {
            result = -ENAMETOOLONG;
            break;
        }
        memcpy(name, start, size);
        name[size] = 0;
        if (strcmp(name, ".") == 0)
            memmove(walk.todo, start + size, strlen(start + size) + 1);
        else if (strcmp(name, "..") == 0)
            result = go_up(&walk, start + size);
        else
            result = step(&walk, name, start + size);
    }
    leave(&walk);
    return result;
}

static int open_target(struct init *init, const char *path, enum target_kind kind, bool follow)
{
    int root = root_of(init);
    int fd;

    if (root < 0)
        return root;
    fd = sys_openat2(root, path, O_PATH | (kind == TARGET_FOLDER ? O_DIRECTORY : 0),
                     RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (follow ? 0 : RESOLVE_NO_SYMLINKS));
    /* EAGAIN: "..", while anybody on this host renames or mounts.  The walk does not need "..". */
    if (fd == -ENOSYS || fd == -EAGAIN || (fd == -ENOENT && kind != TARGET_EXISTING))
        fd = walk_path(root, path, kind, follow);
    return fd;
}

int target_open(struct init *init, const char *path, enum target_kind kind)
{
    return open_target(init, path, kind, true);
}

/* The same, with no link anywhere on the way. */
int target_open_plain(struct init *init, const char *path, enum target_kind kind)
{
    return open_target(init, path, kind, false);
}

/* The folder that `path` lies in, made when missing, and its last name.  What lies in /dev is made
 * only in a tmpfs that init mounted there itself.  *close_this is what the caller closes, or -1. */
int target_parent(struct init *init, const char *path, const char **name, int *close_this)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash != NULL ? (size_t)(slash - path) : 0;
    int fd;

    *close_this = -1;
    *name = slash != NULL ? slash + 1 : path;
    if (**name == 0 || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -EINVAL;
    if (size == 4 && memcmp(path, "/dev", 4) == 0)
        return init->dev_fd >= 0 ? init->dev_fd : -EPERM;
    if (size >= sizeof parent)
        return -ENAMETOOLONG;
    memcpy(parent, path, size);
    parent[size] = 0;
    fd = target_open(init, size > 0 ? parent : "/", TARGET_FOLDER);
    *close_this = fd;
    if (fd >= 0 && is_on(fd, PROC_MAGIC))
        return -EXDEV;
    return fd;
}

int do_mkdir(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor), *name;
    mode_t mode = (mode_t)op_integer(&cursor) & 07777;
    int64_t uid = op_integer(&cursor);
    int64_t gid = op_integer(&cursor);
    cleanup_fd int close_this = -1, fd = -1;
    int parent = target_parent(init, path, &name, &close_this);

    if (parent < 0)
        return fail(init->error, op, -parent, "openat2", path);
    if (mkdirat(parent, name, mode) < 0) {
        struct stat info;
        int saved = errno;

        if (saved == EEXIST && fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISDIR(info.st_mode))
            return 0; /* it keeps its mode and owner */
        return fail(init->error, op, saved, "mkdirat", path);
    }
    if (uid == 0 && gid == 0 && (mode & 07000) == 0)
        return 0;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(init->error, op, errno, "openat", path);
    if (fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
        return fail(init->error, op, errno, "fchown", path);
    if (fchmod(fd, mode) < 0)
        return fail(init->error, op, errno, "fchmod", path);
    return 0;
}

int do_symlink(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *target = op_string(&cursor);
    const char *path = op_string(&cursor), *name;
    cleanup_fd int close_this = -1;
    int parent = target_parent(init, path, &name, &close_this);

    if (parent < 0)
        return fail(init->error, op, -parent, "openat2", path);
    if (symlinkat(target, parent, name) < 0)
        return fail(init->error, op, errno, "symlinkat", path);
    return 0;
}

/* What getcwd(2) says of a folder that is not below the root begins with "(unreachable)". */
static int check_folder_is_inside(void)
{
    char path[PATH_MAX];

    if (syscall(SYS_getcwd, path, sizeof path) < 0)
        return -errno;
    return path[0] == '/' ? 0 : -EXDEV;
}

int do_workdir(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor);
    bool create = (op_integer(&cursor) & WORKDIR_CREATE) != 0;
    cleanup_fd int fd = target_open(init, path, create ? TARGET_FOLDER : TARGET_EXISTING);
    struct stat info;
    int result;

    if (fd < 0)
        return fail(init->error, op, -fd, create && fd == -ENOTDIR ? "mkdir" : "openat2", path);
    if (fstat(fd, &info) < 0)
        return fail(init->error, op, errno, "fstat", path);
    if (!S_ISDIR(info.st_mode))
        return fail(init->error, op, ENOTDIR, create ? "mkdir" : "fchdir", path);
    if (fchdir(fd) < 0)
        return fail(init->error, op, errno, "fchdir", path);
    result = check_folder_is_inside();
    return result < 0 ? fail(init->error, op, -result, "getcwd", path) : 0;
}
