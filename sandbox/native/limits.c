/* Resource limits, scheduling, umask and kernel parameters.
 *
 * Runs in init.  Files of /proc are reached through a handle of a procfs that init mounted itself,
 * and the file that a value is written to is on procfs or the write does not happen: a /proc that
 * an image arranged would say that all went well. */
#include "init.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MAX_VALUE 4096

/* A procfs of this pid namespace that is attached nowhere. */
static int private_proc(void)
{
    cleanup_fd int fs = sys_fsopen("proc");
    int result;

    if (fs < 0)
        return fs;
    result = sys_fsconfig(fs, FS_CREATE, NULL, NULL, 0);
    return result < 0 ? result : sys_fsmount(fs, 0);
}

static int open_checked(int proc, const char *name, int flags)
{
    int fd =
        sys_openat2(proc, name, flags, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);

    if (fd >= 0 && !is_on(fd, PROC_MAGIC)) {
        close(fd);
        return -EXDEV;
    }
    return fd;
}

/* Open a file of procfs.  The container's own fresh procfs serves where it shows the file with
 * nothing mounted over it; else a private one is made. */
static int open_proc(struct init *init, const char *name, int flags)
{
    cleanup_fd int proc = -1;
    int fd;

    if (init->proc_fd >= 0) {
        fd = open_checked(init->proc_fd, name, flags);
        if (fd >= 0 || (fd != -EXDEV && fd != -ENOENT && fd != -EROFS))
            return fd;
    }
    proc = private_proc();
    if ((proc == -ENOSYS || proc == -EPERM) && init->host_proc_fd >= 0)
        return open_checked(init->host_proc_fd, name, flags);
    return proc < 0 ? proc : open_checked(proc, name, flags);
}

/* As sysctl(8): the first separator tells; "net.ipv4.conf.eth0/1" keeps its later ones. */
static int parameter_path(char *path, size_t size, const char *name)
{
    size_t length = strlen(name);
    size_t first = strcspn(name, "./");
    bool swap = name[first] == '.';

    if (length == 0 || length + sizeof "sys/" > size)
        return -ENAMETOOLONG;
    memcpy(path, "sys/", 4);
    for (size_t i = 0; i <= length; i++) {
        char c = name[i];

        if (swap && c == '.')
            c = '/';
        else if (swap && c == '/')
            c = '.';
        path[4 + i] = c;
    }
    return 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* Equal but for white space: the kernel answers "1 2" with "1\t2\n". */
static bool same_value(const char *a, const char *b)
{
    for (;;) {
        while (is_space(*a))
            a++;
        while (is_space(*b))
            b++;
        if (*a == 0 || *b == 0)
            return *a == *b;
        while (*a != 0 && !is_space(*a))
            if (*a++ != *b++)
                return false;
        if (*b != 0 && !is_space(*b))
            return false;
    }
}

static int write_value(int fd, const char *value)
{
    size_t size = strlen(value);
    ssize_t written = write(fd, value, size);

    if (written < 0)
        return -errno;
    /* The kernel took the beginning for a value and left the rest. */
    return (size_t)written == size ? 0 : -EINVAL;
}

int do_sysctl(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *name = op_string(&cursor);
    const char *value = op_string(&cursor);
    char path[512], now[MAX_VALUE + 1];
    cleanup_fd int fd = -1;
    ssize_t size;
    int result = parameter_path(path, sizeof path, name);

    if (result < 0)
        return fail(init->error, op, -result, "openat2", name);
    fd = open_proc(init, path, O_RDWR);
    if (fd == -EACCES)
        fd = open_proc(init, path, O_WRONLY); /* net.ipv4.route.flush and its like */
    if (fd < 0)
        return fail(init->error, op, -fd, "openat2", name);
    result = write_value(fd, value);
    if (result < 0)
        return fail(init->error, op, -result, "write", name);
    size = pread(fd, now, MAX_VALUE, 0);
    if (size < 0)
        return errno == EBADF ? 0 : fail(init->error, op, errno, "read", name);
    now[size] = 0;
    if (!same_value(now, value))
        return fail(init->error, op, EINVAL, "read", name);
    return 0;
}

int do_oom_score_adj(struct init *init, struct op *op)
{
    struct op cursor = *op;
    char text[24];
    const char *value = decimal(text, op_integer(&cursor));
    cleanup_fd int fd = -1;
    int result;

    fd = open_proc(init, "self/oom_score_adj", O_WRONLY);
    if (fd < 0)
        return fail(init->error, op, -fd, "openat2", "oom_score_adj");
    result = write_value(fd, value);
    return result < 0 ? fail(init->error, op, -result, "write", value) : 0;
}

int do_rlimit(struct init *init, struct op *op)
{
    struct op cursor = *op;
    int64_t resource = op_integer(&cursor);
    /* -1 is RLIM_INFINITY by the same bits. */
    uint64_t limit[2];
    char name[24];

    limit[0] = (uint64_t)op_integer(&cursor);
    limit[1] = (uint64_t)op_integer(&cursor);
    if (resource < 0 || resource > 1000)
        return fail(init->error, op, EINVAL, "prlimit64", "resource");
    if (syscall(SYS_prlimit64, 0, (int)resource, limit, NULL) < 0) {
        int saved = errno;

        return fail(init->error, op, saved, "prlimit64", decimal(name, resource));
    }
    return 0;
}

int do_nice(struct init *init, struct op *op)
{
    struct op cursor = *op;

    if (setpriority(PRIO_PROCESS, 0, (int)op_integer(&cursor)) < 0)
        return fail(init->error, op, errno, "setpriority", "");
    return 0;
}

int do_umask(struct init *init, struct op *op)
{
    struct op cursor = *op;

    umask((mode_t)op_integer(&cursor) & 0777);
    init->umask_set = true;
    return 0;
}
