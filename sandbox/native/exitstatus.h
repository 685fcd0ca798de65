/* The exit record: how a container ended, as text, one "key value" a line, "version 1" first.
 *
 * A key that is absent is a fact that is not known.  Backslash and newline in a value are written
 * as \\ and \n.  sandbox/monitor/exitrecord.py reads it and draws the verdict.
 */
#ifndef SANDBOX_EXITSTATUS_H
#define SANDBOX_EXITSTATUS_H

#include "account.h"
#include "launch.h"

#define EXIT_TEXT 8192
#define BOOT_ID_LENGTH 36
#define BOOT_ID (BOOT_ID_LENGTH + 1)

#define KILL_WALL_TIMEOUT "wall_timeout"
#define KILL_CPU_TIMEOUT "cpu_timeout"
#define KILL_OUTPUT_LIMIT "output_limit"
#define KILL_USER "user"
#define KILL_STOP "stop"
#define KILL_LAUNCHER_GONE "launcher_gone"
#define KILL_MONITOR_TERMINATED "monitor_terminated"

struct ending {
    bool failed; /* the launch did; error says why */
    struct error_record error;
    pid_t pid;
    bool has_reaper; /* process 1 is ours, and passes its program's ending on as 128 + signal */
    bool reaped;     /* wait_status and usage are known */
    int wait_status; /* as wait4 gives it */
    struct rusage usage;
    int64_t started_ns, finished_ns;    /* CLOCK_REALTIME; 0: never started */
    int64_t started_monotonic, wall_ns; /* CLOCK_MONOTONIC */
    const char *kill_reason;            /* the first kill of our own; NULL is none */
    int64_t killed_ns;                  /* CLOCK_REALTIME */
    int user_signal;                    /* the last that a client asked for; 0 is none */
    bool stopping;                      /* ... in order to stop the container, also between runs */
    char boot_id[BOOT_ID];              /* of the boot that it is in; empty: not known */
    uint64_t stdout_bytes, stderr_bytes, undelivered_bytes, log_dropped_bytes;
    int restarts;
};

/* Write the record into text; returns its length. */
size_t ending_text(const struct ending *ending, const struct account *account,
                   char text[EXIT_TEXT]);

/* Put text in the file `name` of a folder, by way of a temporary one.  Returns 0 or -errno. */
int write_record(int folder_fd, const char *name, const char *text, size_t size, bool durable);

#endif
