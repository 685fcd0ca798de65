/* The monitor: the parent of one container, from its launch to its exit record.
 *
 * Runs in the host's namespaces as the user who started it, in a session of its own, with the
 * descriptors that launch.h names and an empty environment.  One thread, one poll loop, no
 * allocation: everything is in one struct monitor.  It must outlive whoever started it, and it
 * never waits for one peer alone: no slow reader, silent client or full disk keeps it from the
 * timers. When it dies itself, the lock on descriptor 5 is free, and that is how others know. */
#define _GNU_SOURCE
#include "launch.h"

#include "account.h"
#include "control.h"
#include "events.h"
#include "exitstatus.h"
#include "health.h"
#include "logfile.h"
#include "pollset.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLAN_FD 3
#define LAUNCH_FD 4
#define LOCK_FD 5

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define NEVER INT64_MAX
#define CPU_LOOK_MIN_NS (1 * NS_PER_MS)
#define TERMINAL_DRAIN_NS (200LL * NS_PER_MS)
#define GIVE_UP_NS (10LL * NS_PER_S)
#define KILL_TRIES                                                                                 \
    200 /* of 1 ms: until the groups of a container without pid namespace are empty */
#define BACKOFF_FIRST_NS (100LL * NS_PER_MS)
#define BACKOFF_LAST_NS (60LL * NS_PER_S)
#define BACKOFF_RESET_NS (10LL * NS_PER_S)

#define RESTART_ON_FAILURE 1
#define RESTART_LAST 3

#define MAX_EXIT_ARGUMENTS 256
#define PF_FORKNOEXEC 0x40 /* in /proc/PID/stat: forked, and not yet executed anything */

enum phase {
    LAUNCHING, /* init is being made */
    RUNNING,   /* the program runs */
    DRAINING,  /* it has ended; its last output is on its way */
    RESTING,   /* until the next start, by the restart policy */
    OVER,
};

struct monitor {
    struct plan plan;
    struct settings settings;
    struct launch launch;
    struct streams streams;
    struct logfile log;
    struct control control;
    struct account account;
    struct ending ending;
    struct health health;
    enum phase phase;
    bool no_more_starts, stop_asked, has_network;
    char *endpoints_memory; /* of those that have taken the place of the plan's */
    uid_t stdio_uid;        /* who owns the pipes: the program may open them anew by /dev/stdout */
    gid_t stdio_gid;
    int state_fd, run_fd, signal_fd;
    int error_slot, console_slot, pid_slot, signal_slot;
    int64_t wall_deadline, cpu_deadline, drain_deadline, start_deadline;
    uint64_t drain_progress;
    int drain_looks;
    int64_t backoff_ns;
    int cpus;
    char message[EXIT_TEXT + 16];
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static bool is_ready(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&one, 1, 0) > 0;
}

static int signal_init(const struct monitor *monitor, int number)
{
    if (monitor->launch.pidfd < 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, monitor->launch.pidfd, number, NULL, 0) < 0 ? -errno : 0;
}

/* A second process of a container that is another monitor's. */
static bool is_exec(const struct monitor *monitor)
{
    return monitor->settings.enter_pid > 0;
}

/* --- the start of the process --- */

static int set_up_process(void)
{
    sigset_t mask;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NAME, "sandbox-monitor");
    setsid(); /* fails when the launcher saw to it */
    umask(077);
    syscall(SYS_close_range, LOCK_FD + 1, ~0u, 0);
    for (int fd = PLAN_FD; fd <= LOCK_FD; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return -errno;
    /* Launch.c gives init back the defaults. */
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGQUIT, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a full log is dropped, and counted */
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    if (sigprocmask(SIG_SETMASK, &mask, NULL) < 0)
        return -errno;
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A byte more than there may be, of which only what is filled is ever in memory. */
#define PLAN_ROOM (PLAN_MAX_BYTES + 1)

static int fill_plan(int fd, char *data, struct plan *plan, struct settings *settings,
                     struct error_record *error)
{
    size_t size = 0;
    while (size < PLAN_ROOM) {
        ssize_t n = read(fd, data + size, PLAN_ROOM - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(error, NULL, errno, "read", "plan");
        if (n == 0)
            break;
        size += (size_t)n;
    }
    if (size > PLAN_MAX_BYTES)
        return fail(error, NULL, EFBIG, "read", "plan");
    if (mprotect(data, PLAN_ROOM, PROT_READ) < 0)
        return fail(error, NULL, errno, "mprotect", "plan");
    int result = plan_check(data, size, plan, error);
    return result < 0 ? result : settings_read(plan, settings, error);
}

/* The plan and its settings stay where they are read to: *memory, NULL when it fails. */
static int read_plan(int fd, char **memory, struct plan *plan, struct settings *settings,
                     struct error_record *error)
{
    char *data = mmap(NULL, PLAN_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *memory = NULL;
    if (data == MAP_FAILED)
        return fail(error, NULL, errno, "mmap", "");
    int result = fill_plan(fd, data, plan, settings, error);
    if (result < 0)
        munmap(data, PLAN_ROOM);
    else
        *memory = data;
    return result;
}

/* The id on the host of an id in the container, by a text as in user_namespaces(7). */
static uint32_t host_id(const char *map, uint32_t id)
{
    unsigned inside, outside, count;
    int used;
    if (map == NULL)
        return id;
    for (; sscanf(map, "%u %u %u%n", &inside, &outside, &count, &used) == 3; map += used)
        if (id >= inside && id - inside < count)
            return outside + (id - inside);
    return id;
}

static void read_operations(struct monitor *monitor)
{
    struct op op = {0};
    const char *first;
    monitor->stdio_uid = host_id(monitor->settings.uid_map, 0);
    monitor->stdio_gid = host_id(monitor->settings.gid_map, 0);
    while (plan_next(&monitor->plan, &op)) {
        if (op.code == OP_IDS) {
            monitor->stdio_uid = host_id(monitor->settings.uid_map, (uint32_t)op_integer(&op));
            monitor->stdio_gid = host_id(monitor->settings.gid_map, (uint32_t)op_integer(&op));
        } else if (op.code == OP_EXEC) {
            op_strings(&op, &first);
            op_strings(&op, &first);
            monitor->ending.has_reaper = op_integer(&op) & EXEC_INIT;
        } else if (op.code == OP_NETWORK) {
            monitor->has_network = true;
        }
    }
}

static int open_folder(const char *path, struct error_record *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail(error, NULL, errno, "open", path) : fd;
}

/* 0, 1 and 2 belong to the first client from here on; nobody is to wait for our copies to close. */
static int close_stdio(struct error_record *error)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail(error, NULL, errno, "open", "/dev/null");
    for (int i = 0; i < 3; i++)
        dup2(fd, i);
    close(fd);
    return 0;
}

static int prepare(struct monitor *monitor, struct error_record *error)
{
    struct settings *settings = &monitor->settings;
    char *memory;
    int result = read_plan(PLAN_FD, &memory, &monitor->plan, settings, error);
    close(PLAN_FD);
    if (result < 0)
        return result;
    read_operations(monitor);
    if ((result = control_keep(&monitor->control, settings->keep, error)) < 0)
        return result;
    if (settings->exit_argc > MAX_EXIT_ARGUMENTS || settings->exit_envc > MAX_EXIT_ARGUMENTS)
        return fail(error, NULL, E2BIG, "execve", "exit_command");
    if (!is_exec(monitor)) {
        if ((monitor->state_fd = open_folder(settings->state, error)) < 0)
            return monitor->state_fd;
        if ((monitor->run_fd = open_folder(settings->run, error)) < 0)
            return monitor->run_fd;
    }
    if ((result = logfile_open(&monitor->log, settings->log_path, settings->log_max_bytes,
                               settings->log_max_files, error)) < 0)
        return result;
    streams_start(&monitor->streams, settings, &monitor->log);
    if ((result = close_stdio(error)) < 0)
        return result;
    if ((result = health_prepare(&monitor->health, settings, error)) < 0)
        return result;
    return is_exec(monitor) ? 0 : control_listen(&monitor->control, monitor->run_fd, error);
}

/* --- the end of the container --- */

static void kill_members(struct monitor *monitor)
{
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    for (int i = 0; i < KILL_TRIES && !account_kill(&monitor->settings); i++)
        nanosleep(&pause, NULL);
}

/* An exec's processes: those of its session, which is as much as belongs to it for certain.  Before
 * it is reaped: then the number is its own. */
static void kill_session(struct monitor *monitor)
{
    pid_t session = monitor->launch.pid;
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    if (session <= 0)
        return;
    kill(-session, SIGKILL);
    for (int i = 0; i < KILL_TRIES && !account_kill_session(&monitor->settings, session); i++)
        nanosleep(&pause, NULL);
}

/* What we kill is written down before it can have died of it. */
static void kill_container(struct monitor *monitor, const char *reason)
{
    struct ending *ending = &monitor->ending;
    if (monitor->phase >= DRAINING)
        return;
    if (ending->kill_reason == NULL) {
        ending->kill_reason = reason;
        ending->killed_ns = clock_ns(CLOCK_REALTIME);
    }
    if (!is_exec(monitor) && monitor->phase == RUNNING)
        events_append(&monitor->settings, "kill", "\tsignal\t%d", SIGKILL);
    signal_init(monitor, SIGKILL);
    account_thaw(&monitor->settings);
    /* The death of a pid namespace takes everything with it. */
    if (!is_exec(monitor) && !(monitor->settings.namespaces & CLONE_NEWPID))
        account_kill(&monitor->settings);
}

/* What is over the limit is cut off, also of a program that ended before anyone looked. */
static void pass_output_limit(struct monitor *monitor)
{
    kill_container(monitor, KILL_OUTPUT_LIMIT);
    if (monitor->phase == DRAINING) {
        monitor->ending.kill_reason = KILL_OUTPUT_LIMIT;
        monitor->ending.killed_ns = clock_ns(CLOCK_REALTIME);
    }
}

static void fail_launch(struct monitor *monitor, const struct error_record *error)
{
    if (monitor->ending.failed)
        return;
    monitor->ending.failed = true;
    monitor->ending.error = *error;
    close_fd(&monitor->launch.error_fd);
    signal_init(monitor, SIGKILL);
}

static void die_in_launch(struct monitor *monitor)
{
    struct error_record error = {.error = ECHILD, .syscall = "clone", .reason = "killed"};
    fail_launch(monitor, &error);
}

/* Never waits for good: while a process of the container traces init, its end is the tracer's alone
 * to see, for as long as that one likes.  Then nobody saw how it ended. */
static void reap(struct monitor *monitor)
{
    struct ending *ending = &monitor->ending;
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    pid_t pid = 0;
    for (int i = 0; i < KILL_TRIES && pid == 0; i++) {
        pid = wait4(monitor->launch.pid, &ending->wait_status, WNOHANG, &ending->usage);
        if (pid == 0)
            nanosleep(&pause, NULL);
    }
    ending->reaped = pid == monitor->launch.pid;
}

static void init_ended(struct monitor *monitor)
{
    struct ending *ending = &monitor->ending;
    ending->finished_ns = clock_ns(CLOCK_REALTIME);
    if (ending->started_ns > 0)
        ending->wall_ns = clock_ns(CLOCK_MONOTONIC) - ending->started_monotonic;
    if (monitor->phase == LAUNCHING)
        die_in_launch(monitor);
    health_end(&monitor->health);
    if (is_exec(monitor) && (ending->kill_reason != NULL || ending->user_signal != 0))
        kill_session(monitor);
    reap(monitor);
    close_fd(&monitor->launch.pidfd);
    if (!is_exec(monitor) && !(monitor->settings.namespaces & CLONE_NEWPID))
        kill_members(monitor);
    streams_drain(&monitor->streams);
    monitor->phase = DRAINING;
    monitor->wall_deadline = monitor->cpu_deadline = NEVER;
    monitor->drain_progress = streams_progress(&monitor->streams);
    monitor->drain_looks = monitor->streams.tty ? 0 : INT_MIN;
    monitor->drain_deadline =
        clock_ns(CLOCK_MONOTONIC) + (monitor->streams.tty ? TERMINAL_DRAIN_NS : GIVE_UP_NS);
}

static bool wants_restart(const struct monitor *monitor)
{
    const struct settings *settings = &monitor->settings;
    const struct ending *ending = &monitor->ending;
    /* The output limit is for all runs together: there is nothing left for another one. */
    if (settings->restart_policy == 0 || monitor->no_more_starts || ending->failed ||
        monitor->streams.passed)
        return false;
    if (settings->restart_max > 0 && ending->restarts >= settings->restart_max)
        return false;
    return settings->restart_policy != RESTART_ON_FAILURE || !ending->reaped ||
           ending->wait_status != 0;
}

/* Who was attached saw this run, and does not wait for the next one. */
static void tell_attached(struct monitor *monitor)
{
    static const char word[] = "exited\n";
    const size_t length = sizeof(word) - 1;
    memcpy(monitor->message, word, length);
    size_t size = ending_text(&monitor->ending, &monitor->account, monitor->message + length);
    for (int i = LAUNCHER + 1; i < CONTROL_PEERS; i++)
        if (streams_dismiss(&monitor->streams, i))
            control_send(&monitor->control, i, monitor->message, length + size);
}

static void log_end(const struct monitor *monitor)
{
    const struct ending *ending = &monitor->ending;
    const struct number *kills = &monitor->account.numbers[OOM_KILLS];
    int status = ending->wait_status;
    char code[16] = "255"; /* when nobody saw how: as wait says, too */
    if (ending->failed)
        return; /* it never started */
    if (ending->reaped)
        snprintf(code, sizeof(code), "%d",
                 WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    if (is_exec(monitor)) {
        events_append(&monitor->settings, "exec_die", "\texecID\t%s\texitCode\t%s",
                      monitor->settings.exec_id, code);
        return;
    }
    if (kills->source != NULL && kills->value > 0)
        events_append(&monitor->settings, "oom", "%s", "");
    events_append(&monitor->settings, "die", "\texitCode\t%s", code);
    if (monitor->stop_asked)
        events_append(&monitor->settings, "stop", "%s", "");
}

/* Which process there is, or how the last one ended while the next one waits for its turn. */
static void write_started(struct monitor *monitor)
{
    const struct ending *ending = &monitor->ending;
    char rest[96] = "";
    if (monitor->phase == RESTING)
        snprintf(rest, sizeof(rest), "resting 1\nfinished_ns %lld\nwait_status %d\n",
                 (long long)ending->finished_ns, ending->reaped ? ending->wait_status : -1);
    int size = snprintf(monitor->message, sizeof(monitor->message),
                        "started\nversion 1\npid %d\nstart_time %llu\nboot_id %s\nmonitor %d\n"
                        "started_ns %lld\nrestarts %d\n%s%s",
                        (int)monitor->launch.pid, (unsigned long long)monitor->launch.start_time,
                        ending->boot_id, (int)getpid(), (long long)ending->started_ns,
                        ending->restarts, monitor->health.is_on ? "health 1\n" : "", rest);
    const size_t word = sizeof("started\n") - 1;
    if (!is_exec(monitor))
        write_record(monitor->run_fd, "started", monitor->message + word, (size_t)size - word,
                     false);
    if (ending->restarts == 0 && monitor->phase != RESTING)
        control_send(&monitor->control, LAUNCHER, monitor->message, (size_t)size);
}

/* All output of one run is where it belongs: the end, or a rest before the next run. */
static void run_ended(struct monitor *monitor)
{
    struct ending *ending = &monitor->ending;
    ending->stdout_bytes = monitor->streams.sources[0].bytes;
    ending->stderr_bytes = monitor->streams.sources[1].bytes;
    ending->undelivered_bytes = monitor->streams.undelivered;
    account_after(&monitor->account, &monitor->settings, monitor->launch.disk_fd);
    log_end(monitor);
    close_fd(&monitor->launch.error_fd);
    close_fd(&monitor->launch.console_fd);
    close_fd(&monitor->launch.disk_fd);
    streams_close(&monitor->streams);
    if (!wants_restart(monitor)) {
        monitor->phase = OVER;
        return;
    }
    tell_attached(monitor);
    if (ending->wall_ns >= BACKOFF_RESET_NS)
        monitor->backoff_ns = 0;
    monitor->backoff_ns = monitor->backoff_ns == 0 ? BACKOFF_FIRST_NS : monitor->backoff_ns * 2;
    if (monitor->backoff_ns > BACKOFF_LAST_NS)
        monitor->backoff_ns = BACKOFF_LAST_NS;
    monitor->phase = RESTING;
    monitor->start_deadline = clock_ns(CLOCK_MONOTONIC) + monitor->backoff_ns;
    write_started(monitor);
}

/* --- the start of the container --- */

/* An end of the error pipe without a record is the success of execve, unless init was killed. */
static bool has_executed(const struct monitor *monitor)
{
    unsigned flags;
    if (monitor->ending.has_reaper || !monitor->plan.has_program ||
        !is_ready(monitor->launch.pidfd))
        return true;
    return !process_flags(monitor->launch.pid, &flags) || !(flags & PF_FORKNOEXEC);
}

static void read_boot_id(char boot_id[BOOT_ID])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, boot_id, BOOT_ID_LENGTH);
    boot_id[n > 0 ? n : 0] = '\0';
    close(fd);
}

static void look_at_cpu(struct monitor *monitor)
{
    uint64_t used;
    uint64_t limit = (uint64_t)monitor->settings.cpu_us * 1000;
    int64_t pause = NS_PER_S;
    if (account_cpu_ns(&monitor->settings, monitor->launch.pid, &used)) {
        const struct number *before = &monitor->account.before[CPU_NS];
        used -= before->source != NULL && before->value <= used ? before->value : 0;
        if (used >= limit) {
            monitor->cpu_deadline = NEVER;
            kill_container(monitor, KILL_CPU_TIMEOUT);
            return;
        }
        /* All processors together cannot use it up earlier. */
        pause = (int64_t)((limit - used) / (uint64_t)monitor->cpus);
    }
    monitor->cpu_deadline =
        clock_ns(CLOCK_MONOTONIC) + (pause > CPU_LOOK_MIN_NS ? pause : CPU_LOOK_MIN_NS);
}

static void program_started(struct monitor *monitor)
{
    struct ending *ending = &monitor->ending;
    close_fd(&monitor->launch.error_fd);
    monitor->phase = RUNNING;
    ending->started_ns = clock_ns(CLOCK_REALTIME);
    ending->started_monotonic = clock_ns(CLOCK_MONOTONIC);
    if (monitor->settings.wall_ms > 0)
        monitor->wall_deadline = ending->started_monotonic + monitor->settings.wall_ms * NS_PER_MS;
    if (monitor->settings.cpu_us > 0) {
        cpu_set_t set;
        monitor->cpus = sched_getaffinity(monitor->launch.pid, sizeof(set), &set) == 0
                            ? CPU_COUNT(&set)
                            : CPU_SETSIZE;
        monitor->cpu_deadline = 0;
    }
    health_begin(&monitor->health, &monitor->launch, monitor->state_fd);
    if (!is_exec(monitor)) /* before anyone is told: nothing of this run is written earlier */
        events_append(&monitor->settings, "start", "%s", "");
    write_started(monitor);
}

static void receive_outcome(struct monitor *monitor)
{
    struct error_record error = {0};
    ssize_t n = read(monitor->launch.error_fd, &error, sizeof(error));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n == 0 && has_executed(monitor)) {
        program_started(monitor);
    } else if (n == 0) {
        die_in_launch(monitor);
    } else {
        if (n != sizeof(error))
            error = (struct error_record){.error = EPROTO, .syscall = "read"};
        error.syscall[sizeof(error.syscall) - 1] = '\0';
        error.reason[sizeof(error.reason) - 1] = '\0';
        error.path[sizeof(error.path) - 1] = '\0';
        fail_launch(monitor, &error);
    }
}

static void receive_terminal(struct monitor *monitor)
{
    char byte;
    _Alignas(struct cmsghdr) char rights[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof(rights)};
    ssize_t n = recvmsg(monitor->launch.console_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    struct cmsghdr *control = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (control != NULL && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
        control->cmsg_len == CMSG_LEN(sizeof(int))) {
        int master;
        memcpy(&master, CMSG_DATA(control), sizeof(master));
        streams_terminal(&monitor->streams, master);
    }
    close_fd(&monitor->launch.console_fd);
}

static void start(struct monitor *monitor)
{
    struct error_record error = {0};
    struct ending *ending = &monitor->ending;
    int stdio[3];
    monitor->launch =
        (struct launch){.pid = -1, .pidfd = -1, .error_fd = -1, .console_fd = -1, .disk_fd = -1};
    monitor->wall_deadline = monitor->cpu_deadline = NEVER;
    monitor->drain_deadline = monitor->start_deadline = NEVER;
    monitor->phase = LAUNCHING;
    ending->reaped = false;
    ending->kill_reason = NULL;
    ending->started_ns = ending->wall_ns = 0;
    account_before(&monitor->account, &monitor->settings);
    int result = streams_open(&monitor->streams, stdio, &error);
    for (int i = 0; i < 3 && result == 0; i++)
        if (stdio[i] >= 0 && (monitor->stdio_uid != 0 || monitor->stdio_gid != 0) &&
            !monitor->streams.tty && !(i == 0 && !monitor->streams.input_wanted)) {
            /* Without the right to give it away, the program cannot open /dev/stdout: no more. */
            int ignored = fchown(stdio[i], monitor->stdio_uid, monitor->stdio_gid);
            (void)ignored;
        }
    if (result == 0)
        result = launch_start(&monitor->plan, &monitor->settings, stdio, &monitor->launch, &error);
    for (int i = 0; i < 3; i++)
        close_fd(&stdio[i]);
    if (result < 0) {
        monitor->launch.pidfd = -1;
        fail_launch(monitor, &error);
        ending->finished_ns = clock_ns(CLOCK_REALTIME);
        run_ended(monitor);
        return;
    }
    ending->pid = monitor->launch.pid;
}

/* --- the poll loop --- */

static void end_rest(struct monitor *monitor)
{
    monitor->no_more_starts = true;
    if (monitor->phase == RESTING)
        monitor->phase = OVER;
    else if (monitor->phase == DRAINING)
        streams_give_up(&monitor->streams, true);
}

static int signal_by_client(struct monitor *monitor, const struct request *request)
{
    int number = (int)request->numbers[0];
    if (request->numbers[0] < 0 || request->numbers[0] > 64)
        return -EINVAL;
    if (request->stop && !monitor->stop_asked && monitor->phase == RESTING)
        events_append(&monitor->settings, "stop", "%s", ""); /* it has died already */
    monitor->stop_asked |= request->stop;
    if (request->stop || number == SIGKILL)
        end_rest(monitor);
    monitor->ending.stopping |= request->stop;
    if (monitor->phase >= DRAINING)
        return request->stop ? 0 : -ESRCH; /* to stop what has ended is no error */
    if (number > 0)
        monitor->ending.user_signal = number;
    /* As from a terminal: who interrupts an exec means what it started, too. */
    if (is_exec(monitor) && monitor->phase == RUNNING &&
        (number == SIGHUP || number == SIGINT || number == SIGQUIT || number == SIGTERM))
        return kill(-monitor->launch.pid, number) < 0 ? -errno : 0;
    if (number == SIGKILL) {
        kill_container(monitor, request->stop ? KILL_STOP : KILL_USER);
        return 0;
    }
    int result = signal_init(monitor, number);
    if (result == 0 && number > 0 && !is_exec(monitor))
        events_append(&monitor->settings, "kill", "\tsignal\t%d", number);
    return result;
}

static int resize_by_client(struct monitor *monitor, const struct request *request)
{
    long long rows = request->numbers[0], columns = request->numbers[1];
    int result = streams_resize(&monitor->streams, rows, columns);
    if (result == 0 && !is_exec(monitor))
        events_append(&monitor->settings, "resize", "\theight\t%lld\twidth\t%lld", rows, columns);
    return result;
}

static int restart_by_client(struct monitor *monitor, const struct request *request)
{
    if (request->numbers[0] > RESTART_LAST || request->numbers[1] > INT32_MAX || is_exec(monitor))
        return -EINVAL;
    monitor->settings.restart_policy = request->numbers[0];
    monitor->settings.restart_max = request->numbers[1];
    if (monitor->phase == RESTING && !wants_restart(monitor))
        end_rest(monitor);
    return 0;
}

/* What links the container has from its next run on. */
static int endpoints_by_client(struct monitor *monitor, int fd)
{
    struct error_record error = {0};
    struct settings settings;
    struct plan plan;
    struct stat info;
    char *memory;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || !monitor->has_network || is_exec(monitor))
        return -EINVAL;
    int result = read_plan(fd, &memory, &plan, &settings, &error);
    if (result < 0)
        return result;
    memcpy(monitor->settings.endpoints, settings.endpoints, sizeof(settings.endpoints));
    monitor->settings.endpoint_count = settings.endpoint_count;
    if (monitor->endpoints_memory != NULL)
        munmap(monitor->endpoints_memory, PLAN_ROOM);
    monitor->endpoints_memory = memory;
    return 0;
}

static int kill_by_client(struct monitor *monitor)
{
    end_rest(monitor);
    monitor->ending.stopping = true;
    if (monitor->phase >= DRAINING)
        return 0;
    monitor->ending.user_signal = SIGKILL;
    kill_container(monitor, KILL_USER);
    return 0;
}

static void send_status(struct monitor *monitor, int peer)
{
    static const char *const phases[] = {"launching", "running", "draining", "resting", "over"};
    int n = snprintf(monitor->message, sizeof(monitor->message),
                     "ok\nphase %s\npid %d\nmonitor %d\nstarted_ns %lld\nrestarts %d\n"
                     "stdout_bytes %llu\nstderr_bytes %llu\nlog_dropped_bytes %llu\n",
                     phases[monitor->phase], (int)monitor->launch.pid, (int)getpid(),
                     (long long)monitor->ending.started_ns, monitor->ending.restarts,
                     (unsigned long long)monitor->streams.sources[0].bytes,
                     (unsigned long long)monitor->streams.sources[1].bytes,
                     (unsigned long long)monitor->log.dropped_bytes);
    control_send(&monitor->control, peer, monitor->message, (size_t)n);
}

static void peer_gone(struct monitor *monitor, int peer)
{
    control_drop(&monitor->control, peer);
    streams_detach(&monitor->streams, peer);
    if (peer == LAUNCHER) /* above all, nobody reads its terminal in its place */
        streams_detach(&monitor->streams, OWNER_FIRST);
    if (peer == LAUNCHER && (monitor->settings.lifetime & LIFETIME_WITH_LAUNCHER)) {
        end_rest(monitor);
        kill_container(monitor, KILL_LAUNCHER_GONE);
    }
}

static void serve_peer(struct monitor *monitor, int peer)
{
    struct request request;
    struct control *control = &monitor->control;
    control_receive(control, peer, &request);
    switch (request.verb) {
    case VERB_SIGNAL:
        control_answer(control, peer, signal_by_client(monitor, &request));
        break;
    case VERB_KILL:
        control_answer(control, peer, kill_by_client(monitor));
        break;
    case VERB_RESTART:
        control_answer(control, peer, restart_by_client(monitor, &request));
        break;
    case VERB_ENDPOINTS:
        control_answer(control, peer, endpoints_by_client(monitor, request.fds[0]));
        close(request.fds[0]);
        break;
    case VERB_RESIZE:
        control_answer(control, peer, resize_by_client(monitor, &request));
        break;
    case VERB_ATTACH:
        control_answer(control, peer,
                       streams_attach(&monitor->streams, peer, request.fds, request.numbers[0]));
        break;
    case VERB_CLOSE_STDIN:
        streams_close_input(&monitor->streams);
        control_answer(control, peer, 0);
        break;
    case VERB_STATUS:
        send_status(monitor, peer);
        break;
    case VERB_GONE:
        peer_gone(monitor, peer);
        break;
    case VERB_WAIT:
    case VERB_NONE:
        break;
    }
}

static void serve_drain(struct monitor *monitor, int64_t now)
{
    struct streams *streams = &monitor->streams;
    uint64_t progress = streams_progress(streams);
    if (now >= monitor->drain_deadline) {
        bool moved = progress != monitor->drain_progress;
        /* A terminal that somebody else keeps open, and may write to for ever. */
        if ((!moved || monitor->drain_looks++ > 0) && streams->sources[0].length == 0)
            streams_end_sources(streams);
        if (!moved)
            streams_give_up(streams, false);
        monitor->drain_progress = progress;
        monitor->drain_deadline = now + GIVE_UP_NS;
    }
    if (streams_done(streams))
        run_ended(monitor);
}

static void serve_timers(struct monitor *monitor)
{
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    if (now >= monitor->wall_deadline) {
        monitor->wall_deadline = NEVER;
        kill_container(monitor, KILL_WALL_TIMEOUT);
    }
    if (now >= monitor->cpu_deadline)
        look_at_cpu(monitor);
    if (monitor->phase == RESTING && now >= monitor->start_deadline) {
        monitor->ending.restarts++;
        start(monitor);
    }
    if (monitor->phase == DRAINING)
        serve_drain(monitor, now);
}

static void wait_for_events(const struct monitor *monitor, struct pollset *set)
{
    const int64_t deadlines[] = {monitor->wall_deadline, monitor->cpu_deadline,
                                 monitor->drain_deadline, monitor->start_deadline,
                                 health_deadline(&monitor->health)};
    int64_t next = NEVER;
    for (size_t i = 0; i < sizeof(deadlines) / sizeof(deadlines[0]); i++)
        next = deadlines[i] < next ? deadlines[i] : next;
    struct timespec pause = {0};
    if (next != NEVER) {
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        int64_t rest = next > now ? next - now : 0;
        pause.tv_sec = (time_t)(rest / NS_PER_S);
        pause.tv_nsec = (long)(rest % NS_PER_S);
    }
    if (ppoll(set->fds, (nfds_t)set->count, next == NEVER ? NULL : &pause, NULL) <= 0)
        for (int i = 0; i < set->count; i++)
            set->fds[i].revents = 0;
}

static void watch(struct monitor *monitor, struct pollset *set)
{
    set->count = 0;
    monitor->error_slot =
        pollset_add(set, monitor->phase == LAUNCHING ? monitor->launch.error_fd : -1, POLLIN);
    monitor->console_slot = pollset_add(set, monitor->launch.console_fd, POLLIN);
    monitor->pid_slot = pollset_add(set, monitor->launch.pidfd, POLLIN);
    monitor->signal_slot = pollset_add(set, monitor->signal_fd, POLLIN);
    health_watch(&monitor->health, set);
    control_watch(&monitor->control, set);
    streams_watch(&monitor->streams, set);
}

/* The one place where a new status of the health is known. */
static void health_changed(const struct monitor *monitor)
{
    char action[40];
    snprintf(action, sizeof(action), "health_status: %s", health_word(&monitor->health));
    events_append(&monitor->settings, action, "%s", "");
}

static void turn(struct monitor *monitor)
{
    struct pollset set;
    watch(monitor, &set);
    wait_for_events(monitor, &set);
    if (pollset_ready(&set, monitor->error_slot))
        receive_outcome(monitor);
    if (pollset_ready(&set, monitor->console_slot))
        receive_terminal(monitor);
    streams_serve(&monitor->streams, &set);
    if (monitor->streams.passed && monitor->ending.kill_reason == NULL)
        pass_output_limit(monitor);
    for (int i = 0; i < CONTROL_PEERS; i++)
        if (pollset_ready(&set, monitor->control.peers[i].slot))
            serve_peer(monitor, i);
    if (pollset_ready(&set, monitor->control.slot))
        control_accept(&monitor->control);
    if (pollset_ready(&set, monitor->signal_slot)) {
        struct signalfd_siginfo info;
        if (read(monitor->signal_fd, &info, sizeof(info)) == sizeof(info)) {
            end_rest(monitor);
            kill_container(monitor, KILL_MONITOR_TERMINATED);
        }
    }
    if (pollset_ready(&set, monitor->pid_slot)) {
        if (monitor->phase == LAUNCHING && is_ready(monitor->launch.error_fd))
            receive_outcome(monitor);
        init_ended(monitor);
    }
    if (health_serve(&monitor->health, &set, monitor->state_fd))
        health_changed(monitor);
    serve_timers(monitor);
}

/* --- the end of the process --- */

/* Write and tell how it ended; whether the launcher was there to hear it. */
static bool report(struct monitor *monitor)
{
    struct ending *ending = &monitor->ending;
    const char *word = ending->failed ? "failed\n" : "exited\n";
    const size_t length = 7;
    /* What dies with its launcher, or is removed at once, need not survive a power cut. */
    bool kept =
        monitor->settings.exit_argc == 0 && !(monitor->settings.lifetime & LIFETIME_WITH_LAUNCHER);
    ending->log_dropped_bytes = monitor->log.dropped_bytes;
    memcpy(monitor->message, word, length);
    size_t size = ending_text(ending, &monitor->account, monitor->message + length);
    if (monitor->state_fd >= 0)
        write_record(monitor->state_fd, "exit", monitor->message + length, size, kept);
    streams_finish(&monitor->streams);
    return control_send_all(&monitor->control, monitor->message, length + size);
}

static void split(const char *first, uint32_t count, const char *parts[MAX_EXIT_ARGUMENTS + 1])
{
    uint32_t i = 0;
    for (; i < count; i++, first += strlen(first) + 1)
        parts[i] = first;
    parts[i] = NULL;
}

/* Its stdio is /dev/null, every other descriptor closes, the lock with them. */
static void become_exit_command(const struct settings *settings)
{
    const char *argv[MAX_EXIT_ARGUMENTS + 1], *env[MAX_EXIT_ARGUMENTS + 1];
    const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGXFSZ};
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t mask;
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        sigaction(ignored[i], &usual, NULL);
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    umask(022);
    split(settings->exit_argv, settings->exit_argc, argv);
    split(settings->exit_env, settings->exit_envc, env);
    execve(argv[0], (char *const *)argv, (char *const *)env);
}

/* What the monitor's exit status tells whoever started it; anything else is a monitor that died. */
#define EXIT_GROUPS_GONE 0
#define EXIT_GROUPS_LEFT 3

int main(void)
{
    struct error_record error = {0};
    int signal_fd = set_up_process();
    if (signal_fd < 0)
        return 2;
    struct monitor *monitor =
        mmap(NULL, sizeof(*monitor), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (monitor == MAP_FAILED)
        return 2;
    monitor->signal_fd = signal_fd;
    monitor->state_fd = monitor->run_fd = monitor->log.fd = -1;
    control_start(&monitor->control, LAUNCH_FD);
    read_boot_id(monitor->ending.boot_id);
    if (prepare(monitor, &error) < 0) {
        monitor->ending.failed = true;
        monitor->ending.error = error;
        monitor->ending.finished_ns = clock_ns(CLOCK_REALTIME);
        monitor->phase = OVER;
    } else {
        start(monitor);
    }
    while (monitor->phase != OVER)
        turn(monitor);
    logfile_close(&monitor->log);
    bool launcher_knows = report(monitor);
    bool removed = account_remove(&monitor->settings);
    control_close(&monitor->control, monitor->run_fd);
    /* A launcher that knows does what is to be done afterwards, and cheaper. */
    if (monitor->settings.exit_argc > 0 && !launcher_knows)
        become_exit_command(&monitor->settings);
    return removed ? EXIT_GROUPS_GONE : EXIT_GROUPS_LEFT;
}
