/* A launch that only forks, in a pid namespace if the plan says so, and executes the plan's
 * program: enough to test the monitor where the real launch has nothing to add.  Understands the
 * operations workdir, ids, exec and (as a pty from the host) stdio with a terminal. */
#define _GNU_SOURCE
#include "launch.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ARGUMENTS 256

static void split(struct op *op, const char *parts[MAX_ARGUMENTS + 1])
{
    const char *at;
    uint32_t count = op_strings(op, &at), i = 0;
    for (; i < count && i < MAX_ARGUMENTS; i++, at += strlen(at) + 1)
        parts[i] = at;
    parts[i] = NULL;
}

static void send_fd(int socket, int fd)
{
    char byte = 0;
    _Alignas(struct cmsghdr) char rights[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof(rights)};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(control), &fd, sizeof(fd));
    sendmsg(socket, &message, 0);
}

static void make_terminal(int socket, const struct settings *settings)
{
    struct winsize size = {.ws_row = (unsigned short)settings->rows,
                           .ws_col = (unsigned short)settings->columns};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    grantpt(master);
    unlockpt(master);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    ioctl(master, TIOCSWINSZ, &size);
    send_fd(socket, master);
    close(master);
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++)
        dup2(slave, i);
    close(slave);
}

static int run(const struct plan *plan, struct error_record *error)
{
    struct op op = {0};
    const char *argv[MAX_ARGUMENTS + 1], *env[MAX_ARGUMENTS + 1];
    while (plan_next(plan, &op)) {
        if (op.code == OP_WORKDIR) {
            const char *path = op_string(&op);
            if (chdir(path) < 0)
                return fail(error, &op, errno, "chdir", path);
        } else if (op.code == OP_IDS) {
            uid_t uid = (uid_t)op_integer(&op);
            gid_t gid = (gid_t)op_integer(&op);
            if (setgid(gid) < 0 || setuid(uid) < 0)
                return fail(error, &op, errno, "setuid", "");
        } else if (op.code == OP_EXEC) {
            split(&op, argv);
            split(&op, env);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            execvpe(argv[0], (char **)argv, (char **)env);
            int result = fail(error, &op, errno, "execve", argv[0]);
            strcpy(error->reason,
                   error->error == EACCES ? REASON_NOT_EXECUTABLE : REASON_NOT_FOUND);
            return result;
        }
    }
    return fail(error, NULL, ENOSYS, "execve", "");
}

static void be_init(const struct plan *plan, const struct settings *settings, const int stdio[3],
                    int error_fd, int console)
{
    struct error_record error = {0};
    sigset_t none;
    for (int i = 1; i < 32; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (settings->stdio_flags & STDIO_TTY) {
        make_terminal(console, settings);
    } else {
        for (int i = 0; i < 3; i++)
            dup2(stdio[i], i);
    }
    syscall(SYS_close_range, 3u, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
    if (run(plan, &error) < 0 && write(error_fd, &error, sizeof(error)) < 0)
        _exit(2);
    _exit(1);
}

static void join(struct settings *settings, pid_t pid)
{
    char text[16];
    for (int i = 0; i < settings->cgroup_count; i++) {
        struct cgroup *group = &settings->cgroups[i];
        group->dir_fd = open(group->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        int fd = openat(group->dir_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        int size = snprintf(text, sizeof(text), "%d", (int)pid);
        if (fd < 0 || write(fd, text, (size_t)size) < 0)
            perror(group->path);
        close(fd);
    }
}

int launch_start(const struct plan *plan, struct settings *settings, const int stdio[3],
                 struct launch *launch, struct error_record *error)
{
    int ends[2], sockets[2] = {-1, -1}, go[2];
    char byte;
    *launch = (struct launch){.pidfd = -1, .console_fd = -1, .disk_fd = -1, .start_time = 1};
    if (pipe2(ends, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
        return fail(error, NULL, errno, "pipe2", "");
    if (settings->stdio_flags & STDIO_TTY)
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
    struct sys_clone_args arguments = {
        .flags = CLONE_PIDFD | (settings->namespaces & CLONE_NEWPID),
        .pidfd = (uintptr_t)&launch->pidfd,
        .exit_signal = SIGCHLD,
    };
    launch->pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (launch->pid < 0)
        return fail(error, NULL, errno, "clone3", "");
    if (launch->pid == 0) {
        close(go[1]);
        if (read(go[0], &byte, 1) == 0)
            be_init(plan, settings, stdio, ends[1], sockets[1]);
        _exit(1);
    }
    join(settings, launch->pid);
    close(go[0]);
    close(go[1]);
    close(ends[1]);
    if (sockets[1] >= 0)
        close(sockets[1]);
    launch->console_fd = sockets[0];
    launch->error_fd = ends[0];
    return 0;
}
