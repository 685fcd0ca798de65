/* System calls that libc does not wrap, with their numbers, structures and flags, and scoped
 * descriptors.  Every call here returns its value or -errno.  The kernel's own headers are not
 * included: musl's compiler wrapper does not see them, and glibc's clash with them. */
#ifndef SANDBOX_SYS_H
#define SANDBOX_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Numbers since 2019 are the same on every architecture. */
#define NR_PIDFD_SEND_SIGNAL 424
#define NR_OPEN_TREE 428
#define NR_MOVE_MOUNT 429
#define NR_FSOPEN 430
#define NR_FSCONFIG 431
#define NR_FSMOUNT 432
#define NR_PIDFD_OPEN 434
#define NR_CLONE3 435
#define NR_CLOSE_RANGE 436
#define NR_OPENAT2 437
#define NR_MOUNT_SETATTR 442

#ifndef O_PATH
#define O_PATH 010000000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#define CLONE_INTO_CGROUP_FLAG 0x200000000ull
#define NS_TIME 0x80u
#define NS_MOUNT 0x20000u
#define NS_CGROUP 0x2000000u
#define NS_UTS 0x4000000u
#define NS_IPC 0x8000000u
#define NS_USER 0x10000000u
#define NS_PID 0x20000000u
#define NS_NET 0x40000000u

#define RESOLVE_NO_XDEV 0x01u
#define RESOLVE_NO_MAGICLINKS 0x02u
#define RESOLVE_NO_SYMLINKS 0x04u
#define RESOLVE_BENEATH 0x08u
#define RESOLVE_IN_ROOT 0x10u

#define FS_SET_FLAG 0
#define FS_SET_STRING 1
#define FS_SET_FD 5
#define FS_CREATE 6

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x04
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif

#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 0x01
#define MOUNT_ATTR_NOSUID 0x02
#define MOUNT_ATTR_NODEV 0x04
#define MOUNT_ATTR_NOEXEC 0x08
#define MOUNT_ATTR__ATIME 0x70
#define MOUNT_ATTR_NOATIME 0x10
#define MOUNT_ATTR_STRICTATIME 0x20
#define MOUNT_ATTR_NODIRATIME 0x80
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

#define PROC_MAGIC 0x9fa0
#define TMPFS_MAGIC 0x01021994
#define DEVPTS_MAGIC 0x1cd1

struct sys_open_how {
    uint64_t flags;
    uint64_t mode;
    uint64_t resolve;
};

struct sys_mount_attr {
    uint64_t attr_set;
    uint64_t attr_clr;
    uint64_t propagation;
    uint64_t userns_fd;
};

struct sys_clone_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup;
};

static inline int or_errno(long result)
{
    return result < 0 ? -errno : (int)result;
}

static inline int sys_openat2(int dir, const char *path, int flags, uint64_t resolve)
{
    struct sys_open_how how = {.flags = (uint64_t)flags | O_CLOEXEC, .resolve = resolve};
    return or_errno(syscall(NR_OPENAT2, dir, path, &how, sizeof how));
}

static inline int sys_open_tree(int dir, const char *path, unsigned flags)
{
    return or_errno(syscall(NR_OPEN_TREE, dir, path, flags | O_CLOEXEC));
}

/* Attach the detached or attached mount of one descriptor at the place of another. */
static inline int sys_move_mount(int from, int to)
{
    return or_errno(syscall(NR_MOVE_MOUNT, from, "", to, "",
                            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

static inline int sys_fsopen(const char *fstype)
{
    return or_errno(syscall(NR_FSOPEN, fstype, 1));
}

static inline int sys_fsconfig(int fs, unsigned command, const char *key, const char *value,
                               int aux)
{
    return or_errno(syscall(NR_FSCONFIG, fs, command, key, value, aux));
}

static inline int sys_fsmount(int fs, unsigned attributes)
{
    return or_errno(syscall(NR_FSMOUNT, fs, 1, attributes));
}

static inline int sys_mount_setattr(int fd, unsigned flags, const struct sys_mount_attr *attr)
{
    return or_errno(syscall(NR_MOUNT_SETATTR, fd, "", flags | AT_EMPTY_PATH, attr, sizeof *attr));
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return or_errno(syscall(NR_CLOSE_RANGE, first, last, flags));
}

static inline int sys_pidfd_kill(int pidfd, int signal)
{
    return or_errno(syscall(NR_PIDFD_SEND_SIGNAL, pidfd, signal, NULL, 0));
}

static inline void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The descriptor of a variable declared so is closed where its scope ends; steal_fd() keeps it. */
#define cleanup_fd __attribute__((cleanup(close_fd)))

static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* Decimal digits without stdio, for init; text has room for 24. */
static inline const char *decimal(char text[24], long long value)
{
    char *at = text + 23;
    unsigned long long rest =
        value < 0 ? 0ull - (unsigned long long)value : (unsigned long long)value;

    *at = 0;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0)
        *--at = '-';
    return at;
}

#endif
