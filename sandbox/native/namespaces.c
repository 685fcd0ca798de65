/* Make and join namespaces, and name what belongs to them.
 *
 * clone_init(), write_id_maps() and open_user_namespace() run in the monitor, in the host's
 * namespaces, single-threaded, with its authority; the others run in init between clone and execve
 * and call nothing that allocates. */
#include "init.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define KEYCTL_JOIN 1

static pid_t clone3(uint64_t flags, int cgroup_fd, int *pidfd)
{
    struct sys_clone_args args = {
        .flags = flags | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
    };

    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP_FLAG;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    return or_errno(syscall(NR_CLONE3, &args, sizeof args));
}

/* Make init: its pid in the parent, 0 in the child, -errno.  clone(2) takes over where clone3 is
 * not there (a container's seccomp profile says ENOSYS). */
pid_t clone_init(uint64_t namespaces, int cgroup_fd, int *pidfd)
{
    pid_t pid = clone3(namespaces, cgroup_fd, pidfd);

    if (pid != -ENOSYS || cgroup_fd >= 0 || (namespaces & NS_TIME) != 0)
        return pid;
    return or_errno(
        syscall(SYS_clone, namespaces | CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, NULL));
}

/* setns() to the kind, where the plan joins one. */
static int join_kind(struct init *init, uint64_t kind)
{
    const struct settings *settings = init->settings;

    for (int i = 0; i < settings->join_count; i++) {
        if (settings->joins[i].kind != kind || init->join_fds[i] < 0)
            continue;
        if (setns(init->join_fds[i], (int)kind) < 0)
            return -errno;
        close_fd(&init->join_fds[i]);
    }
    return 0;
}

/* Init's maker: in the user namespace it may join the pid namespace, and its child is in both.  The
 * child is the monitor's, not its own. */
static pid_t make_late(struct init *init)
{
    int result = join_kind(init, NS_USER);

    if (result == 0)
        result = join_kind(init, NS_PID);
    if (result < 0)
        return result;
    return or_errno(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL));
}

/* As clone_init(), by way of a process that makes init where it has the authority, and ends. */
pid_t clone_late(struct init *init, int *pidfd)
{
    pid_t answer = -EPIPE, maker;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    maker = or_errno(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
    if (maker == 0) {
        answer = make_late(init);
        if (answer == 0)
            return 0;
        _exit(write(ends[1], &answer, sizeof answer) == sizeof answer ? 0 : 1);
    }
    close(ends[1]);
    if (maker < 0) {
        close(ends[0]);
        return maker;
    }
    while (waitpid(maker, NULL, 0) < 0 && errno == EINTR)
        ;
    if (read(ends[0], &answer, sizeof answer) != sizeof answer)
        answer = -EPIPE;
    close(ends[0]);
    if (answer > 0)
        *pidfd = or_errno(syscall(NR_PIDFD_OPEN, answer, 0));
    return answer;
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
    char path[64];
    cleanup_fd int fd = -1;
    size_t size = strlen(text);

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, text, size) != (ssize_t)size)
        return -errno;
    return 0;
}

#define MAX_MAP_WORDS 340 * 3 /* the kernel's bound on lines */

/* newuidmap PID INSIDE OUTSIDE COUNT ...: the set-uid helper that knows /etc/subuid. */
static int run_map_helper(const char *program, pid_t pid, const char *map)
{
    static const char *const FOLDERS[] = {"/usr/bin", "/bin", "/usr/local/bin"};
    char *argv[MAX_MAP_WORDS + 3];
    char *const envp[] = {NULL};
    char text[8192], number[16], path[64], *word, *rest;
    size_t count = 0;
    int status = 0;
    pid_t child;

    if (strlen(map) >= sizeof text)
        return -E2BIG;
    strcpy(text, map);
    snprintf(number, sizeof number, "%d", (int)pid);
    snprintf(path, sizeof path, "%s", program);
    argv[count++] = path;
    argv[count++] = number;
    for (word = strtok_r(text, " \t\n", &rest); word != NULL && count < MAX_MAP_WORDS + 2;
         word = strtok_r(NULL, " \t\n", &rest))
        argv[count++] = word;
    argv[count] = NULL;

    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
            snprintf(path, sizeof path, "%s/%s", FOLDERS[i], program);
            execve(path, argv, envp);
        }
        _exit(127);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (status == 0)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -ENOENT : -EPERM;
}

static bool is_own_id_alone(const char *map, unsigned own)
{
    unsigned inside, outside, count;
    char more;

    return sscanf(map, "%u %u %u %c", &inside, &outside, &count, &more) == 3 && outside == own &&
           count == 1;
}

/* Only the caller's own id may be mapped without authority; more is for the helpers to allow. */
static int write_map(pid_t pid, const char *file, const char *helper, const char *map, unsigned own)
{
    if (geteuid() == 0 || is_own_id_alone(map, own))
        return write_proc(pid, file, map);
    return run_map_helper(helper, pid, map);
}

int write_id_maps(pid_t pid, const struct settings *settings, struct error_record *error)
{
    int result = 0;

    if (settings->uid_map == NULL)
        return 0;
    /* A caller who could drop groups could reach files that a group is kept from. */
    if (geteuid() != 0 && is_own_id_alone(settings->gid_map, getegid()))
        result = write_proc(pid, "setgroups", "deny");
    if (result < 0)
        return fail(error, NULL, -result, "write", "setgroups");
    result = write_map(pid, "gid_map", "newgidmap", settings->gid_map, getegid());
    if (result < 0)
        return fail(error, NULL, -result, "write", "gid_map");
    result = write_map(pid, "uid_map", "newuidmap", settings->uid_map, geteuid());
    return result < 0 ? fail(error, NULL, -result, "write", "uid_map") : 0;
}

/* A user namespace with the plan's maps, for id-mapped mounts.  The child that carried it is gone
 * when this returns. */
int open_user_namespace(const struct settings *settings, struct error_record *error)
{
    int pidfd = -1, result, fd = -1;
    char path[64];
    pid_t pid = clone_init(NS_USER, -1, &pidfd);

    if (pid < 0)
        return fail(error, NULL, -pid, "clone3", "user namespace of id-mapped mounts");
    if (pid == 0) {
        die_with_monitor();
        for (;;)
            pause();
    }
    result = write_id_maps(pid, settings, error);
    if (result == 0) {
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            result = fail(error, NULL, errno, "open", path);
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close_fd(&pidfd);
    return result < 0 ? result : fd;
}

static const char *join_path(const struct settings *settings, uint64_t kind)
{
    for (int i = 0; i < settings->join_count; i++)
        if (settings->joins[i].kind == kind)
            return settings->joins[i].path;
    return "";
}

/* The user namespace first, for the authority over the others; the mount namespace last, because
 * it changes what paths mean.  The monitor has joined the pid namespace already: it holds for
 * children only. */
int join_namespaces(struct init *init)
{
    static const unsigned ORDER[] = {NS_USER, NS_IPC, NS_UTS, NS_NET, NS_TIME, NS_CGROUP, NS_MOUNT};

    for (size_t i = 0; i < sizeof ORDER / sizeof *ORDER; i++) {
        int result = join_kind(init, ORDER[i]);

        if (result < 0)
            return fail(init->error, NULL, -result, "setns", join_path(init->settings, ORDER[i]));
        if (ORDER[i] == NS_USER && init->joined_user) {
            result = become_mapped_root(init);
            if (result < 0)
                return result;
        }
    }
    return 0;
}

/* In a new user namespace the process has every capability and, until here, an id that is not
 * mapped: whatever it made would belong to nobody. */
int become_mapped_root(struct init *init)
{
    /* EPERM: setgroups is denied; EINVAL: 0 is not mapped. */
    if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
        return fail(init->error, NULL, errno, "setgroups", "");
    if (syscall(SYS_setresgid, 0, 0, 0) < 0 && errno != EINVAL)
        return fail(init->error, NULL, errno, "setresgid", "0");
    if (syscall(SYS_setresuid, 0, 0, 0) < 0 && errno != EINVAL)
        return fail(init->error, NULL, errno, "setresuid", "0");
    if (die_with_monitor() < 0)
        return fail(init->error, NULL, errno, "prctl", "PR_SET_PDEATHSIG");
    return 0;
}

int do_cgroup_namespace(struct init *init, struct op *op)
{
    if (unshare((int)NS_CGROUP) < 0)
        return fail(init->error, op, errno, "unshare", "cgroup namespace");
    return 0;
}

/* Naming the host by mistake is worse than failing. */
static bool owns(const struct init *init, uint64_t kind)
{
    if (init->settings->namespaces & kind)
        return true;
    for (int i = 0; i < init->settings->join_count; i++)
        if (init->settings->joins[i].kind == kind)
            return true;
    return false;
}

int do_hostname(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *name = op_string(&cursor);

    if (!owns(init, NS_UTS))
        return fail(init->error, op, EPERM, "sethostname", "no uts namespace of its own");
    if (sethostname(name, strlen(name)) < 0)
        return fail(init->error, op, errno, "sethostname", name);
    return 0;
}

int do_domainname(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *name = op_string(&cursor);

    if (!owns(init, NS_UTS))
        return fail(init->error, op, EPERM, "setdomainname", "no uts namespace of its own");
    if (setdomainname(name, strlen(name)) < 0)
        return fail(init->error, op, errno, "setdomainname", name);
    return 0;
}

int do_loopback_up(struct init *init, struct op *op)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(init->error, op, errno, "socket", "");
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return fail(init->error, op, errno, "ioctl", "lo");
    return 0;
}

int do_keyring(struct init *init, struct op *op)
{
    struct op cursor = *op;
    const char *name = op_string(&cursor);

    /* ENOSYS: a kernel without keys, which has none to leak either. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN, name, 0, 0, 0) < 0 && errno != ENOSYS)
        return fail(init->error, op, errno, "keyctl", name);
    return 0;
}
