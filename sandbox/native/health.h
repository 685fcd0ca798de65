/* Health checks: a command that runs in the container now and then, and what its exit codes say.
 *
 * Each check is an exec like any other: a second monitor, made of this very program, with the plan
 * that the setting "health" holds.  That one joins, runs, limits and reaps; here it is started, its
 * output kept up to a bound, and its word about the ending taken.  Nothing here waits for it: a
 * check that hangs, floods or is frozen costs a few descriptors until its time is up.
 *
 * The state of the health is one text file, replaced as a whole after each check:
 *
 *     version 1
 *     status starting|healthy|unhealthy
 *     streak N                                    failed checks in a row, as far as they count
 *     result START_NS END_NS KIND NUMBER OUTPUT   the last five, oldest first
 *
 * Kinds: "exit" with the exit code (-1: it could not be asked), "timeout" with the milliseconds it
 * had, "failed" when the command could not be executed: OUTPUT is the exit record that says why.
 * Backslash and newline in OUTPUT are \\ and \n.  sandbox/monitor/health.py reads it.
 */
#ifndef SANDBOX_HEALTH_H
#define SANDBOX_HEALTH_H

#include "launch.h"
#include "pollset.h"

#define HEALTH_RESULTS 5
#define HEALTH_OUTPUT 4096 /* bytes kept of what one check prints */

enum health_status { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

enum result_kind { RESULT_EXIT, RESULT_TIMEOUT, RESULT_FAILED };

struct health_result {
    int64_t started_ns, ended_ns; /* CLOCK_REALTIME */
    enum result_kind kind;
    int64_t number;
    bool cut; /* there was more output than is kept */
    uint32_t length;
    char output[HEALTH_OUTPUT];
};

/* The check that runs now. */
struct health_check {
    pid_t pid; /* of its monitor; 0 while none runs */
    int pidfd, line_fd, output_fd;
    int pid_slot, line_slot, output_slot;
    int64_t started; /* CLOCK_MONOTONIC */
    bool answered;   /* its monitor has said how it ended */
    bool overdue;    /* its time was up, and it was told to end */
    struct health_result result;
};

struct health {
    const struct settings *settings;
    uint8_t *plan;    /* ours to write in; NULL: there is nothing to check */
    int64_t *enter;   /* in it: whom to join, pid and start time */
    int64_t started;  /* the container's program, CLOCK_MONOTONIC */
    int64_t deadline; /* the next check, or the end of this one's time */
    bool is_on;       /* the container's program runs */
    enum health_status status;
    int64_t streak;
    struct health_check check;
    int count;
    struct health_result results[HEALTH_RESULTS];
    char text[HEALTH_RESULTS * (2 * HEALTH_OUTPUT + 128) + 128];
};

/* Check the plan that the settings hold, if they do. */
int health_prepare(struct health *health, const struct settings *settings,
                   struct error_record *error);

/* The container's program has been executed: "starting", until a check says otherwise. */
void health_begin(struct health *health, const struct launch *launch, int state_fd);
/* It has ended: nothing is checked any more, and a check that runs is killed. */
void health_end(struct health *health);

int64_t health_deadline(const struct health *health); /* CLOCK_MONOTONIC; INT64_MAX is never */
void health_watch(struct health *health, struct pollset *set);
/* Whether the status has changed. */
bool health_serve(struct health *health, const struct pollset *set, int state_fd);

const char *health_word(const struct health *health); /* of the status */

#endif
