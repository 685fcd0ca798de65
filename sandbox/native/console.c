/* The container's terminal.
 *
 * Runs in init.  The pty is made in the container's own devpts, reached by the handle of its mount
 * or, in a container that runs already, by a walk without links that ends on a devpts; the other
 * side comes from TIOCGPTPEER and not from a name.  The master goes to the monitor. */
#include "init.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define PTY_FIRST_MAJOR 136 /* to 143 */
#define PTMX_MAJOR 5
#define PTMX_MINOR 2

static int open_master(struct init *init)
{
    int fd;
    struct stat info;

    if (init->pts_fd >= 0)
        fd = sys_openat2(init->pts_fd, "ptmx", O_RDWR | O_NOCTTY,
                         RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    else if (root_of(init) < 0)
        return init->root_fd;
    else
        fd = sys_openat2(init->root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY,
                         RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return fd;
    if (!is_on(fd, DEVPTS_MAGIC) || fstat(fd, &info) < 0 || !S_ISCHR(info.st_mode) ||
        info.st_rdev != makedev(PTMX_MAJOR, PTMX_MINOR)) {
        close(fd);
        return -ENXIO;
    }
    return fd;
}

static int open_slave(int master, const struct settings *settings, int64_t uid, int64_t gid)
{
    struct winsize size = {
        .ws_row = (unsigned short)settings->rows,
        .ws_col = (unsigned short)settings->columns,
    };
    struct stat info;
    cleanup_fd int fd = -1;
    int unlock = 0;

    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return -errno;
    fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &info) < 0)
        return -errno;
    if (!S_ISCHR(info.st_mode) || major(info.st_rdev) < PTY_FIRST_MAJOR ||
        major(info.st_rdev) >= PTY_FIRST_MAJOR + 8)
        return -ENXIO;
    if (fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
        return -errno;
    if (size.ws_row != 0 && size.ws_col != 0 && ioctl(master, TIOCSWINSZ, &size) < 0)
        return -errno;
    return steal_fd(&fd);
}

static int bind_slave(struct init *init, int slave)
{
    cleanup_fd int tree = -1, target = -1;
    char source[40] = "self/fd/", number[24];

    if (init->dev_fd < 0)
        return 0; /* joined: /dev/console is the first process's */
    if (mknodat(init->dev_fd, "console", S_IFREG | 0600, 0) < 0 && errno != EEXIST)
        return -errno;
    target = or_errno(openat(init->dev_fd, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (target < 0)
        return target;
    if (init->old_mount) {
        strcat(source, decimal(number, slave));
        return old_mount_on(init, source, target, NULL, 4096 /* MS_BIND */, NULL);
    }
    tree = sys_open_tree(slave, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    return tree < 0 ? tree : sys_move_mount(tree, target);
}

static int send_master(int socket, int master)
{
    char byte = 'c';
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &master, sizeof master);
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int do_console(struct init *init, struct op *op)
{
    struct op cursor = *op;
    int64_t uid = op_integer(&cursor);
    int64_t gid = op_integer(&cursor);
    cleanup_fd int master = -1, slave = -1;
    int result;

    if (init->console_fd < 0)
        return fail(init->error, op, EINVAL, "console", "no terminal was asked for");
    master = open_master(init);
    if (master < 0)
        return fail(init->error, op, -master, "openat2", "/dev/pts/ptmx");
    slave = open_slave(master, init->settings, uid, gid);
    if (slave < 0)
        return fail(init->error, op, -slave, "ioctl", "/dev/pts/ptmx");
    result = bind_slave(init, slave);
    if (result < 0)
        return fail(init->error, op, -result, "move_mount", "/dev/console");
    result = send_master(init->console_fd, master);
    if (result < 0)
        return fail(init->error, op, -result, "sendmsg", "console");
    close_fd(&init->console_fd);
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return fail(init->error, op, errno, "ioctl", "TIOCSCTTY");
    for (int fd = 0; fd < 3; fd++)
        if (dup2(slave, fd) < 0)
            return fail(init->error, op, errno, "dup2", "");
    init->has_console = true;
    return 0;
}
