/* What the kernel counted: the evidence for the verdict, and the numbers of the receipt. */
#ifndef SANDBOX_ACCOUNT_H
#define SANDBOX_ACCOUNT_H

#include "launch.h"

#include <sys/resource.h>

/* A number, and where it is from; no source: this host cannot give it. */
struct number {
    uint64_t value;
    const char *source;
};

enum account_key {
    /* Evidence: counters, given as the difference to what they were at the start. */
    OOM_KILLS,
    OOM_GROUP_KILLS,
    MEMORY_FAILURES,
    PIDS_MAX_HITS,
    /* CPU time in nanoseconds: the difference, too. */
    CPU_NS,
    CPU_USER_NS,
    CPU_SYSTEM_NS,
    THROTTLED_NS,
    THROTTLED_PERIODS,
    READ_BYTES,
    WRITE_BYTES,
    PSI_CPU_SOME_US,
    PSI_CPU_FULL_US,
    PSI_MEMORY_SOME_US,
    PSI_MEMORY_FULL_US,
    PSI_IO_SOME_US,
    PSI_IO_FULL_US,
    LAST_COUNTER = PSI_IO_FULL_US,
    /* What is no counter. */
    MEMORY_PEAK,
    MEMORY_SWAP_PEAK, /* memory and swap together: all that v1 has */
    SWAP_PEAK,
    PIDS_PEAK,
    DISK_SIZE,
    DISK_AVAILABLE,
    DISK_FILES,
    DISK_FILES_AVAILABLE,
    ACCOUNT_KEYS,
};

struct account {
    struct number before[LAST_COUNTER + 1];
    struct number numbers[ACCOUNT_KEYS];
};

/* The name of a key in the exit record. */
const char *account_name(enum account_key key);

/* The counters as they are before a launch: of a restarted container, or in a group that somebody
 * else made.  Before, because a program can run into its limits before anyone looks.  Leaves the
 * groups' directories closed, for the launch to open. */
void account_before(struct account *account, struct settings *settings);
void account_close(struct settings *settings);

/* All there is, in the end; disk_fd may be -1. */
void account_after(struct account *account, const struct settings *settings, int disk_fd);

/* CPU time so far, for the limit; without a cgroup that counts it, of init and of the children that
 * it waited for.  Returns false when nobody can tell. */
bool account_cpu_ns(const struct settings *settings, pid_t pid, uint64_t *ns);

/* SIGKILL whatever is in the container's groups.  Returns true when they are empty. */
bool account_kill(const struct settings *settings);

/* In version 1 what is frozen does not die: end that, once the signal waits for it. */
void account_thaw(const struct settings *settings);
/* What /proc/PID/stat says of a process that is not reaped yet, PF_*; false: nothing. */
bool process_flags(pid_t pid, unsigned *flags);

/* It is paused, or on its way there. */
bool account_frozen(const struct settings *settings);

/* SIGKILL the rest of a session, by handles; its leader is not reaped yet, so the number is its
 * own. Returns true when nobody else was in it. */
bool account_kill_session(const struct settings *settings, pid_t session);

/* Remove the groups; kills what is left in them and tries for a while.  Returns true when all are
 * gone; what stays is for the sweep of a later command.  Closes their descriptors. */
bool account_remove(struct settings *settings);

#endif
