/* The launch: the monitor's half, and init's way from clone to execve.
 *
 * launch_start() runs in the monitor: in the host's namespaces, with the authority of whoever
 * started it, single-threaded, signals however the monitor likes them.  init_main() and what it
 * calls run in init: in the new namespaces, with all capabilities of its user namespace until
 * "capabilities", a copy of the monitor's memory, no locks held, nothing allocated.
 *
 * Order of operations that a plan has to keep (what is wrong fails, it does not go on half done):
 *
 *   cgroup_namespace  any time; the groups are joined before the first operation
 *   propagation, root_overlay or root_bind, then mounts: tmpfs on /dev before anything in /dev,
 *                     devpts before console, proc before sysctl spares a private procfs
 *   mask              before or after the pivot; its file source is taken from the host before
 *   pivot             host paths (bind) are gone after it; so are nodes in a user namespace
 *   network           where the mounts are done: it waits for the monitor's part of it; sysctls of
 *                     its links come after
 *   root_readonly, sysctl, hostname, rlimit, oom_score_adj ...
 *   workdir           before ids, for docker's meaning: root makes and enters the folder
 *   seccomp           without no_new_privileges: before ids and capabilities
 *   ids, capabilities
 *   umask; no_new_privileges; seccomp with it; exec
 */
#include "init.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FAILED_STATUS 127

typedef int operation(struct init *init, struct op *op);

static operation *const OPERATIONS[] = {
    [OP_PROPAGATION - FIRST_INIT_OP] = do_propagation,
    [OP_ROOT_OVERLAY - FIRST_INIT_OP] = do_root_overlay,
    [OP_ROOT_BIND - FIRST_INIT_OP] = do_root_bind,
    [OP_MOUNT - FIRST_INIT_OP] = do_mount,
    [OP_BIND - FIRST_INIT_OP] = do_bind,
    [OP_MASK - FIRST_INIT_OP] = do_mask,
    [OP_READONLY - FIRST_INIT_OP] = do_readonly,
    [OP_MKDIR - FIRST_INIT_OP] = do_mkdir,
    [OP_SYMLINK - FIRST_INIT_OP] = do_symlink,
    [OP_MKNOD - FIRST_INIT_OP] = do_mknod,
    [OP_CONSOLE - FIRST_INIT_OP] = do_console,
    [OP_PIVOT - FIRST_INIT_OP] = do_pivot,
    [OP_ROOT_READONLY - FIRST_INIT_OP] = do_root_readonly,
    [OP_SYSCTL - FIRST_INIT_OP] = do_sysctl,
    [OP_HOSTNAME - FIRST_INIT_OP] = do_hostname,
    [OP_DOMAINNAME - FIRST_INIT_OP] = do_domainname,
    [OP_LOOPBACK_UP - FIRST_INIT_OP] = do_loopback_up,
    [OP_OOM_SCORE_ADJ - FIRST_INIT_OP] = do_oom_score_adj,
    [OP_RLIMIT - FIRST_INIT_OP] = do_rlimit,
    [OP_WORKDIR - FIRST_INIT_OP] = do_workdir,
    [OP_UMASK - FIRST_INIT_OP] = do_umask,
    [OP_KEYRING - FIRST_INIT_OP] = do_keyring,
    [OP_IDS - FIRST_INIT_OP] = do_ids,
    [OP_CAPABILITIES - FIRST_INIT_OP] = do_capabilities,
    [OP_NO_NEW_PRIVILEGES - FIRST_INIT_OP] = do_no_new_privileges,
    [OP_SECCOMP - FIRST_INIT_OP] = do_seccomp,
    [OP_EXEC - FIRST_INIT_OP] = do_exec,
    [OP_CGROUP_NAMESPACE - FIRST_INIT_OP] = do_cgroup_namespace,
    [OP_NICE - FIRST_INIT_OP] = do_nice,
    [OP_NETWORK - FIRST_INIT_OP] = do_network,
};

/* ---- init ---- */

/* "0" in "tasks" is the writer itself, and the one way to join a group that does not make the
 * kernel wait for all processors: it knows that the writer does not exec or exit meanwhile. */
static int join_cgroups(struct init *init)
{
    for (int i = 0; i < init->settings->cgroup_count; i++) {
        if (init->tasks_fds[i] < 0)
            continue;
        if (write(init->tasks_fds[i], "0", 1) < 0)
            return fail(init->error, NULL, errno, "write", init->settings->cgroups[i].path);
        close_fd(&init->tasks_fds[i]);
    }
    return 0;
}

/* The program starts with no signal ignored, handled or blocked, whatever the monitor did.  By the
 * call itself: libc keeps two signals for itself, and posix_spawn(3) leaves those two ignored. */
static int reset_signals(struct init *init)
{
    static const struct {
        unsigned long handler, flags, restorer, mask;
    } usual;
    sigset_t none;

    for (int signal = 1; signal < NSIG; signal++)
        if (signal != SIGKILL && signal != SIGSTOP)
            syscall(SYS_rt_sigaction, signal, &usual, NULL, sizeof usual.mask);
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return fail(init->error, NULL, errno, "sigprocmask", "");
    return 0;
}

static int take_stdio(struct init *init)
{
    int moved[3];

    /* Above the place where they go first: one of the three may be another's place. */
    for (int i = 0; i < 3; i++) {
        moved[i] = init->stdio[i];
        if (moved[i] != i && moved[i] < 3)
            moved[i] = fcntl(moved[i], F_DUPFD_CLOEXEC, 3);
        if (moved[i] < 0)
            return fail(init->error, NULL, errno, "fcntl", "stdio");
    }
    for (int i = 0; i < 3; i++) {
        int result = moved[i] == i ? fcntl(i, F_SETFD, 0) : dup2(moved[i], i);

        if (result < 0)
            return fail(init->error, NULL, errno, "dup2", "stdio");
    }
    return 0;
}

static void close_between(unsigned first, unsigned end)
{
    if (first >= end)
        return;
    if (sys_close_range(first, end - 1, 0) == 0)
        return;
    if (end > 65536)
        end = 65536;
    for (unsigned fd = first; fd < end; fd++)
        close((int)fd);
}

/* Whatever else the monitor has open, the lock that says that it lives above all. */
static void close_the_rest(const struct init *init)
{
    unsigned next = 3;

    for (int i = 0; i < init->kept_count; i++) {
        if (init->kept[i] < 3)
            continue;
        close_between(next, (unsigned)init->kept[i]);
        next = (unsigned)init->kept[i] + 1;
    }
    close_between(next, ~0u);
}

/* PDEATHSIG comes too late for a monitor that was killed before it was set.  Its end of the error
 * pipe tells: in a new pid namespace getppid() does not. */
static bool monitor_is_gone(const struct init *init)
{
    struct pollfd end = {.fd = init->error_fd, .events = POLLOUT};

    return poll(&end, 1, 0) > 0 && (end.revents & POLLERR) != 0;
}

/* Until the monitor has done the next thing that init cannot do without. */
void wait_for_monitor(struct init *init)
{
    char byte;
    ssize_t size;

    do
        size = read(init->sync_fd, &byte, 1);
    while (size < 0 && errno == EINTR);
    if (size != 1)
        _exit(FAILED_STATUS); /* the monitor gave up, and knows why */
}

static int enter(struct init *init)
{
    int result;

    if (die_with_monitor() < 0)
        return fail(init->error, NULL, errno, "prctl", "PR_SET_PDEATHSIG");
    result = join_cgroups(init);
    if (result == 0)
        result = reset_signals(init);
    if (result == 0)
        result = take_stdio(init);
    if (result < 0)
        return result;
    close_the_rest(init);
    if (monitor_is_gone(init))
        _exit(FAILED_STATUS);
    if (init->new_user) {
        wait_for_monitor(init); /* the id maps */
        result = become_mapped_root(init);
    }
    if (result == 0)
        result = join_namespaces(init);
    if (result < 0)
        return result;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    umask(0);
    if (setsid() < 0)
        return fail(init->error, NULL, errno, "setsid", "");
    return 0;
}

static int carry_out(struct init *init, struct op *op)
{
    struct op cursor = *op;

#ifdef FAULT_INJECTION
    if (init->fail_at > 0 && --init->fail_at == 0)
        return fail(init->error, op, EIO, "fault", "");
    if (init->fail_at < 0 && ++init->fail_at == 0)
        _exit(137);
#endif
    return OPERATIONS[op->code - FIRST_INIT_OP](init, &cursor);
}

static _Noreturn void init_main(struct init *init)
{
    struct op op = {0};
    int result = enter(init);

    while (result == 0 && plan_next(init->plan, &op))
        if (op.code >= FIRST_INIT_OP)
            result = carry_out(init, &op);
    if (result == 0)
        _exit(0); /* there was no program */
    /* Below PIPE_BUF: written whole, or the monitor is gone. */
    if (write(init->error_fd, init->error, sizeof *init->error) < 0)
        _exit(FAILED_STATUS);
    _exit(FAILED_STATUS);
}

/* ---- monitor ---- */

static void init_clear(struct init *init, const struct plan *plan, const struct settings *settings,
                       const int stdio[3], struct error_record *error)
{
    memset(init, 0, offsetof(struct init, layers));
    init->plan = plan;
    init->settings = settings;
    init->error = error;
    memcpy(init->stdio, stdio, sizeof init->stdio);
    init->sync_fd = init->error_fd = init->console_fd = -1;
    init->disk_fd = init->user_fd = init->upper_fd = init->wire_fd = init->sysctl_fd = -1;
    for (int i = 0; i < MAX_JOINS; i++)
        init->join_fds[i] = -1;
    for (int i = 0; i < MAX_CGROUPS; i++)
        init->tasks_fds[i] = -1;
    init->attach_fd = init->root_fd = init->dev_fd = init->pts_fd = init->proc_fd = -1;
    init->host_proc_fd = init->null_fd = init->empty_fd = -1;
    init->new_user = (settings->namespaces & NS_USER) != 0;
    init->new_mounts = (settings->namespaces & NS_MOUNT) != 0;
#ifdef FORCE_OLD_MOUNT
    init->old_mount = true;
#endif
#ifdef FAULT_INJECTION
    if (getenv("SANDBOX_FAIL_AT") != NULL)
        init->fail_at = atoi(getenv("SANDBOX_FAIL_AT"));
#endif
}

static int make_pipe(int *reader, int *writer, struct error_record *error)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(error, NULL, errno, "pipe2", "");
    *reader = ends[0];
    *writer = ends[1];
    return 0;
}

static int make_channels(struct init *init, struct launch *launch, int *sync_fd)
{
    int result = make_pipe(&launch->error_fd, &init->error_fd, init->error);
    int ends[2];

    if (result == 0 && (init->new_user || init->settings->endpoint_count > 0))
        result = make_pipe(&init->sync_fd, sync_fd, init->error);
    if (result < 0 || (init->settings->stdio_flags & STDIO_TTY) == 0)
        return result;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return fail(init->error, NULL, errno, "socketpair", "");
    launch->console_fd = ends[0];
    init->console_fd = ends[1];
    return 0;
}

static int v2_group(const struct settings *settings)
{
    for (int i = 0; i < settings->cgroup_count; i++)
        if (settings->cgroups[i].version == 2)
            return i;
    return -1;
}

/* For init to join its v2 group itself, like a v1 group. */
static int open_v2_group(struct init *init, int group)
{
    const struct cgroup *cgroup = &init->settings->cgroups[group];

    init->tasks_fds[group] = openat(cgroup->dir_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (init->tasks_fds[group] < 0)
        return fail(init->error, NULL, errno, "openat", cgroup->path);
    prepare_kept(init);
    return 0;
}

/* Cloned straight into its v2 group; where the kernel does not, init joins it. */
static pid_t clone_into_group(struct init *init, struct launch *launch)
{
    const struct settings *settings = init->settings;
    int group = v2_group(settings);
    pid_t pid;

    if (group >= 0 && !init->late_pid) {
        pid = clone_init(settings->namespaces, settings->cgroups[group].dir_fd, &launch->pidfd);
        if (pid >= 0 || pid == -EAGAIN || pid == -ENOMEM)
            return pid;
    }
    if (group >= 0) {
        int result = open_v2_group(init, group);

        if (result < 0)
            return result;
    }
    return init->late_pid ? clone_late(init, &launch->pidfd)
                          : clone_init(settings->namespaces, -1, &launch->pidfd);
}

static int note_start_time(struct launch *launch, struct error_record *error)
{
    char path[32];
    cleanup_fd int fd = -1;
    int result;

    snprintf(path, sizeof path, "/proc/%d", (int)launch->pid);
    fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    result = fd < 0 ? -errno : read_start_time(fd, &launch->start_time);
    return result < 0 ? fail(error, NULL, -result, "read", path) : 0;
}

static int tell_init(const struct init *init, int sync_fd)
{
    return write(sync_fd, "", 1) == 1 ? 0 : fail(init->error, NULL, errno, "write", "sync");
}

static int release(struct init *init, int sync_fd, pid_t pid)
{
    int result;

    if (!init->new_user)
        return 0;
    result = write_id_maps(pid, init->settings, init->error);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return result < 0 ? result : tell_init(init, sync_fd);
}

/* While init mounts its root.  When init has failed at that, its reason is the better one. */
static int connect_network(struct init *init, const struct launch *launch, int sync_fd)
{
    struct pollfd end = {.fd = launch->error_fd, .events = POLLIN};
    struct error_record own = {0}, theirs;
    int result;

    if (init->settings->endpoint_count == 0)
        return 0;
    result = network_make(init->settings, init, launch->pid, &own);
    if (result == 0)
        result = tell_init(init, sync_fd);
    if (result == 0)
        return 0;
    if (own.error != 0)
        *init->error = own;
    if (poll(&end, 1, 0) > 0 && (end.revents & POLLIN) != 0 &&
        read(launch->error_fd, &theirs, sizeof theirs) == sizeof theirs) {
        *init->error = theirs;
        return -theirs.error;
    }
    return result;
}

static int go_to_mount_point(const struct settings *settings, struct error_record *error)
{
    if ((settings->namespaces & NS_MOUNT) == 0 || settings->mount_point[0] == 0)
        return 0;
    if (chdir(settings->mount_point) < 0)
        return fail(error, NULL, errno, "chdir", settings->mount_point);
    return 0;
}

static void abandon(struct launch *launch)
{
    if (launch->pid > 0) {
        kill(launch->pid, SIGKILL); /* our own child, not reaped yet: the pid is its own */
        while (waitpid(launch->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close_fd(&launch->pidfd);
    close_fd(&launch->error_fd);
    close_fd(&launch->console_fd);
    close_fd(&launch->disk_fd);
    launch->pid = 0;
}

static int start(struct init *init, struct launch *launch, int *sync_fd)
{
    int result = go_to_mount_point(init->settings, init->error);
    pid_t pid;

    if (result == 0)
        result = make_channels(init, launch, sync_fd);
    if (result < 0)
        return result;
    prepare_kept(init);
    /* Without authority the id maps of a process are only its owner's to write, and one that is
     * not dumpable has no owner. */
    prctl(PR_SET_DUMPABLE, init->new_user && geteuid() != 0, 0, 0, 0);
    pid = clone_into_group(init, launch);
    if (pid == 0)
        init_main(init);
    if (pid < 0)
        return fail(init->error, NULL, -pid, "clone3", "");
    launch->pid = pid;
    if (launch->pidfd < 0)
        return fail(init->error, NULL, EMFILE, "pidfd_open", "");
    result = release(init, *sync_fd, pid);
    if (result == 0)
        result = note_start_time(launch, init->error);
    return result < 0 ? result : connect_network(init, launch, *sync_fd);
}

int launch_start(const struct plan *plan, struct settings *settings, const int stdio[3],
                 struct launch *launch, struct error_record *error)
{
    struct init init;
    cleanup_fd int sync_fd = -1;
    int result;

    *launch = (struct launch){.pidfd = -1, .error_fd = -1, .console_fd = -1, .disk_fd = -1};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    init_clear(&init, plan, settings, stdio, error);
    result = prepare(plan, settings, &init, error);
    launch->disk_fd = init.disk_fd;
    if (result == 0)
        result = start(&init, launch, &sync_fd);
    if (chdir("/") < 0 && result == 0)
        result = fail(error, NULL, errno, "chdir", "/");
    if (result < 0)
        abandon(launch);
    prepare_undo(&init);
    return result;
}
