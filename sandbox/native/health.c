/* Ask now and then whether the container is well.
 *
 * Runs in the container's monitor, between the turns of its poll loop; every descriptor here is
 * non-blocking or asked with MSG_DONTWAIT.  The check's monitor is this program's own and is
 * believed; what the check prints is not, and is only kept.  */
#define _GNU_SOURCE
#include "health.h"

#include "account.h"
#include "exitstatus.h"
#include "sys.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define GIVE_UP_NS (10LL * NS_PER_S) /* for a check's monitor that was told to end */
#define REAP_TRIES 200               /* of 1 ms */
#define FIRST_FREE 10                /* above every descriptor that a monitor is given */
#define GIVEN 6
#define PF_EXITING 0x4 /* in /proc/PID/stat */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- the plan --- */

/* A check has nothing of its own but its process: whom it joins is filled in here, and nowhere
 * else.  (A plan with the zeros still in it is refused by every monitor.) */
static int find_enter(struct health *health, const struct plan *plan, struct error_record *error)
{
    struct op op = {0};
    while (plan_next(plan, &op) && op.code < FIRST_INIT_OP) {
        switch (op.code) {
        case OP_ID:
        case OP_STDIO:
        case OP_CGROUP:
        case OP_ID_MAP:
        case OP_LIFETIME:
            break;
        case OP_ENTER:
            health->enter = (int64_t *)(void *)(health->plan + (op.at - plan->data));
            if (health->enter[0] != 0 || health->enter[1] != 0)
                return fail(error, &op, EINVAL, "plan", "health");
            break;
        default:
            return fail(error, &op, EINVAL, "plan", "health");
        }
    }
    return health->enter != NULL ? 0 : fail(error, NULL, EINVAL, "plan", "health");
}

int health_prepare(struct health *health, const struct settings *settings,
                   struct error_record *error)
{
    struct plan plan;
    health->settings = settings;
    health->check.pidfd = health->check.line_fd = health->check.output_fd = -1;
    if (settings->health_plan == NULL)
        return 0;
    /* A copy of its own: on a multiple of eight, and to be written in. */
    uint8_t *copy = mmap(NULL, settings->health_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return fail(error, NULL, errno, "mmap", "health");
    memcpy(copy, settings->health_plan, settings->health_size);
    health->plan = copy;
    int result = plan_check(copy, settings->health_size, &plan, error);
    return result < 0 ? result : find_enter(health, &plan, error);
}

/* --- the state --- */

const char *health_word(const struct health *health)
{
    static const char *const words[] = {"starting", "healthy", "unhealthy"};
    return words[health->status];
}

static size_t put_output(char *at, const struct health_result *result)
{
    size_t size = 0;
    for (uint32_t i = 0; i < result->length; i++) {
        char byte = result->output[i];
        if (byte == '\\' || byte == '\n')
            at[size++] = '\\';
        at[size++] = byte == '\n' ? 'n' : byte;
    }
    if (result->cut)
        for (int i = 0; i < 3; i++)
            at[size++] = '.';
    at[size++] = '\n';
    return size;
}

static void write_health(struct health *health, int state_fd)
{
    static const char *const kinds[] = {"exit", "timeout", "failed"};
    char *text = health->text;
    size_t size = (size_t)sprintf(text, "version 1\nstatus %s\nstreak %lld\n", health_word(health),
                                  (long long)health->streak);
    for (int i = 0; i < health->count; i++) {
        const struct health_result *result = &health->results[i];
        size += (size_t)sprintf(text + size, "result %lld %lld %s %lld ",
                                (long long)result->started_ns, (long long)result->ended_ns,
                                kinds[result->kind], (long long)result->number);
        size += put_output(text + size, result);
    }
    /* Without room on the disk the file stays as it was, and the next one says it all again. */
    write_record(state_fd, "health", text, size, false);
}

static int64_t start_period(const struct health *health)
{
    return health->settings->health_start_period_ms * NS_PER_MS;
}

static int64_t next_check(const struct health *health)
{
    const struct settings *settings = health->settings;
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    bool in_start = now - health->started < start_period(health);
    int64_t interval = in_start && health->status == HEALTH_STARTING
                           ? settings->health_start_interval_ms
                           : settings->health_interval_ms;
    return now + interval * NS_PER_MS;
}

void health_begin(struct health *health, const struct launch *launch, int state_fd)
{
    if (health->plan == NULL)
        return;
    health->enter[0] = launch->pid;
    health->enter[1] = (int64_t)launch->start_time;
    health->is_on = true;
    health->status = HEALTH_STARTING;
    health->streak = 0;
    health->started = clock_ns(CLOCK_MONOTONIC);
    health->deadline = next_check(health);
    write_health(health, state_fd);
}

/* What docker makes of a result: failures in the start period count only after a first success. */
static bool judge(struct health *health, const struct health_check *check)
{
    enum health_status before = health->status;
    if (check->result.kind == RESULT_EXIT && check->result.number == 0) {
        health->streak = 0;
        health->status = HEALTH_HEALTHY;
    } else if (health->status != HEALTH_STARTING ||
               check->started - health->started >= start_period(health)) {
        if (++health->streak >= health->settings->health_retries)
            health->status = HEALTH_UNHEALTHY;
    }
    return health->status != before;
}

static void keep(struct health *health, const struct health_result *result)
{
    if (health->count == HEALTH_RESULTS) {
        memmove(health->results, health->results + 1,
                (HEALTH_RESULTS - 1) * sizeof(health->results[0]));
        health->count--;
    }
    health->results[health->count++] = *result;
}

/* --- one check --- */

/* The plan as a file, from which a monitor reads it to its end. */
static int plan_file(const struct health *health)
{
    cleanup_fd int fd = memfd_create("health", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < health->settings->health_size;) {
        ssize_t n = write(fd, health->plan + done, health->settings->health_size - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return lseek(fd, 0, SEEK_SET) < 0 ? -errno : steal_fd(&fd);
}

/* Every other descriptor is close-on-exec, and the program closes what is above in any case. */
static _Noreturn void become_monitor(const char *id, const int given[GIVEN])
{
    char *const argv[] = {(char *)"sandbox-monitor", (char *)id, NULL}, *const env[] = {NULL};
    int above[GIVEN];
    for (int i = 0; i < GIVEN; i++)
        above[i] = fcntl(given[i], F_DUPFD_CLOEXEC, FIRST_FREE);
    for (int i = 0; i < GIVEN; i++)
        if (above[i] < 0 || dup2(above[i], i) < 0)
            _exit(127);
    execve("/proc/self/exe", argv, env);
    _exit(127);
}

static int start_monitor(struct health *health)
{
    struct health_check *check = &health->check;
    int output[2], line[2];
    cleanup_fd int plan_fd = plan_file(health);
    cleanup_fd int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (plan_fd < 0 || null_fd < 0)
        return plan_fd < 0 ? plan_fd : -errno;
    if (pipe2(output, O_CLOEXEC) < 0)
        return -errno;
    check->output_fd = output[0];
    cleanup_fd int output_end = output[1];
    if (fcntl(check->output_fd, F_SETFL, O_NONBLOCK) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) < 0)
        return -errno;
    check->line_fd = line[0];
    cleanup_fd int line_end = line[1];
    const int given[GIVEN] = {null_fd, output_end, output_end, plan_fd, line_end, null_fd};
    pid_t pid = or_errno(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
    if (pid == 0)
        become_monitor(health->settings->id, given);
    if (pid < 0)
        return pid;
    check->pid = pid;
    /* Our own child, not reaped yet: the number is its own. */
    check->pidfd = or_errno(syscall(NR_PIDFD_OPEN, pid, 0));
    return check->pidfd < 0 ? check->pidfd : 0;
}

/* Kill the check's monitor, with which the check's process dies. */
static void put_down(struct health_check *check)
{
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    if (check->pid > 0) {
        kill(check->pid, SIGKILL); /* not reaped yet, as above */
        for (int i = 0; i < REAP_TRIES && waitpid(check->pid, NULL, WNOHANG) == 0; i++)
            nanosleep(&pause, NULL);
    }
    close_fd(&check->pidfd);
    close_fd(&check->line_fd);
    close_fd(&check->output_fd);
    check->pid = 0;
}

/* Before anyone is told of its end, a dying container takes its checks with it. */
static bool is_ending(const struct health *health)
{
    unsigned flags;
    return process_flags((pid_t)health->enter[0], &flags) && (flags & PF_EXITING);
}

static bool end_check(struct health *health, int state_fd)
{
    struct health_check *check = &health->check;
    struct health_result *result = &check->result;
    result->ended_ns = clock_ns(CLOCK_REALTIME);
    if (check->overdue) {
        result->kind = RESULT_TIMEOUT;
        result->number = health->settings->health_timeout_ms;
    }
    health->deadline = next_check(health);
    if ((result->kind != RESULT_EXIT || result->number != 0) && is_ending(health))
        return false;
    bool changed = judge(health, check);
    keep(health, result);
    write_health(health, state_fd);
    return changed;
}

static bool start_check(struct health *health, int state_fd)
{
    struct health_check *check = &health->check;
    struct health_result *result = &check->result;
    check->started = clock_ns(CLOCK_MONOTONIC);
    check->answered = check->overdue = false;
    result->started_ns = clock_ns(CLOCK_REALTIME);
    result->kind = RESULT_EXIT;
    result->number = -1;
    result->cut = false;
    result->length = 0;
    health->deadline = check->started + health->settings->health_timeout_ms * NS_PER_MS;
    int error = start_monitor(health);
    if (error == 0)
        return false;
    put_down(check);
    result->length = (uint32_t)snprintf(result->output, sizeof(result->output),
                                        "the check cannot be started: %s", strerror(-error));
    return end_check(health, state_fd);
}

static void take_output(struct health_check *check)
{
    struct health_result *result = &check->result;
    char more;
    while (check->output_fd >= 0) {
        uint32_t room = HEALTH_OUTPUT - result->length;
        ssize_t n = read(check->output_fd, room > 0 ? result->output + result->length : &more,
                         room > 0 ? room : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0 && room > 0) {
            result->length += (uint32_t)n;
            continue;
        }
        /* Its monitor drops the rest, when nobody reads it any more. */
        result->cut = n > 0;
        close_fd(&check->output_fd);
    }
}

static void take_ending(struct health_check *check, const char *text)
{
    const char *code = strstr(text, "\nexit_code "), *signal = strstr(text, "\nsignal ");
    check->answered = true;
    if (code != NULL)
        check->result.number = atoi(code + strlen("\nexit_code "));
    else if (signal != NULL)
        check->result.number = 128 + atoi(signal + strlen("\nsignal "));
}

/* The command did not run, so there is no output: the record is kept in its place. */
static void take_failure(struct health_check *check, const char *text, size_t size)
{
    check->answered = true;
    check->result.kind = RESULT_FAILED;
    check->result.length = (uint32_t)(size < HEALTH_OUTPUT ? size : HEALTH_OUTPUT);
    memcpy(check->result.output, text, check->result.length);
    close_fd(&check->output_fd);
}

static void take_words(struct health *health)
{
    struct health_check *check = &health->check;
    const char exited[] = "exited\n", failed[] = "failed\n";
    while (check->line_fd >= 0) {
        ssize_t n = recv(check->line_fd, health->text, sizeof(health->text) - 1, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_fd(&check->line_fd);
            return;
        }
        health->text[n] = '\0';
        if (strncmp(health->text, exited, strlen(exited)) == 0)
            take_ending(check, health->text);
        else if (strncmp(health->text, failed, strlen(failed)) == 0)
            take_failure(check, health->text + strlen(failed), (size_t)n - strlen(failed));
    }
}

/* Its monitor has ended: everything it had to say is there. */
static bool finish_check(struct health *health, int state_fd)
{
    struct health_check *check = &health->check;
    const char silent[] = "the check's monitor ended without a word";
    if (waitpid(check->pid, NULL, WNOHANG) == 0)
        return false;
    take_words(health);
    take_output(check);
    if (!check->answered && !check->overdue) {
        check->result.length = (uint32_t)strlen(silent);
        memcpy(check->result.output, silent, strlen(silent));
    }
    check->pid = 0;
    put_down(check);
    return end_check(health, state_fd);
}

static void end_time(struct health *health, int64_t now)
{
    struct health_check *check = &health->check;
    if (account_frozen(health->settings)) {
        /* Paused in the middle of it: the time starts anew. */
        health->deadline = now + health->settings->health_timeout_ms * NS_PER_MS;
        return;
    }
    health->deadline = now + GIVE_UP_NS;
    if (check->overdue || send(check->line_fd, "kill\n", 5, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        sys_pidfd_kill(check->pidfd, SIGKILL);
    check->overdue = true;
}

/* --- the poll loop --- */

int64_t health_deadline(const struct health *health)
{
    return health->is_on ? health->deadline : INT64_MAX;
}

void health_watch(struct health *health, struct pollset *set)
{
    struct health_check *check = &health->check;
    if (check->pid == 0)
        return;
    check->pid_slot = pollset_add(set, check->pidfd, POLLIN);
    check->line_slot = pollset_add(set, check->line_fd, POLLIN);
    check->output_slot = pollset_add(set, check->output_fd, POLLIN);
}

bool health_serve(struct health *health, const struct pollset *set, int state_fd)
{
    struct health_check *check = &health->check;
    if (!health->is_on)
        return false;
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    if (check->pid == 0) {
        if (now < health->deadline)
            return false;
        if (!account_frozen(health->settings))
            return start_check(health, state_fd);
        health->deadline = next_check(health);
        return false;
    }
    if (pollset_ready(set, check->output_slot))
        take_output(check);
    if (pollset_ready(set, check->line_slot))
        take_words(health);
    if (pollset_ready(set, check->pid_slot))
        return finish_check(health, state_fd);
    if (now >= health->deadline)
        end_time(health, now);
    return false;
}

void health_end(struct health *health)
{
    if (!health->is_on)
        return;
    health->is_on = false;
    put_down(&health->check);
}
