/* The container's cgroups, read by name below the directories that the launch opened.  Assumes
 * nothing about the layout: each group says which version and which controllers it is, and a file
 * that is not there is a number that this host does not have. */
#define _GNU_SOURCE
#include "account.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_US 1000u
#define REMOVE_TRIES 100 /* of 2 ms */
#define REMOVE_DEPTH 8

static const char *const names[ACCOUNT_KEYS] = {
    [OOM_KILLS] = "oom_kills",
    [OOM_GROUP_KILLS] = "oom_group_kills",
    [MEMORY_FAILURES] = "memory_failures",
    [PIDS_MAX_HITS] = "pids_max_hits",
    [CPU_NS] = "cpu_ns",
    [CPU_USER_NS] = "cpu_user_ns",
    [CPU_SYSTEM_NS] = "cpu_system_ns",
    [THROTTLED_NS] = "throttled_ns",
    [THROTTLED_PERIODS] = "throttled_periods",
    [READ_BYTES] = "read_bytes",
    [WRITE_BYTES] = "write_bytes",
    [PSI_CPU_SOME_US] = "psi_cpu_some_us",
    [PSI_CPU_FULL_US] = "psi_cpu_full_us",
    [PSI_MEMORY_SOME_US] = "psi_memory_some_us",
    [PSI_MEMORY_FULL_US] = "psi_memory_full_us",
    [PSI_IO_SOME_US] = "psi_io_some_us",
    [PSI_IO_FULL_US] = "psi_io_full_us",
    [MEMORY_PEAK] = "memory_peak",
    [MEMORY_SWAP_PEAK] = "memory_swap_peak",
    [SWAP_PEAK] = "swap_peak",
    [PIDS_PEAK] = "pids_peak",
    [DISK_SIZE] = "disk_size",
    [DISK_AVAILABLE] = "disk_available",
    [DISK_FILES] = "disk_files",
    [DISK_FILES_AVAILABLE] = "disk_files_available",
};

const char *account_name(enum account_key key)
{
    return names[key];
}

/* --- files --- */

static bool read_file(int dir_fd, const char *name, char *text, size_t size)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    if (n < 0)
        return false;
    text[n] = '\0';
    return true;
}

/* "key value" at the start of a line; an empty key is the whole file's one number. */
static bool find_number(const char *text, const char *key, uint64_t *value)
{
    size_t length = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, length) == 0 && (length == 0 || line[length] == ' ')) {
            char *end;
            const char *digits = line + length + (length > 0);
            *value = strtoull(digits, &end, 10);
            return end != digits;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

/* The sum of every "key=number" (v2's io.stat). */
static uint64_t sum_fields(const char *text, const char *key)
{
    uint64_t sum = 0;
    size_t length = strlen(key);
    for (const char *at = text; (at = strstr(at, key)) != NULL; at += length)
        if (at == text || at[-1] == ' ')
            sum += strtoull(at + length, NULL, 10);
    return sum;
}

/* The sum of every "MAJOR:MINOR key number" (v1's blkio). */
static uint64_t sum_devices(const char *text, const char *key)
{
    uint64_t sum = 0;
    size_t length = strlen(key);
    for (const char *at = text; (at = strstr(at, key)) != NULL; at += length)
        sum += strtoull(at + length, NULL, 10);
    return sum;
}

static void put(struct number *number, uint64_t value, const char *source)
{
    if (number->source == NULL)
        *number = (struct number){.value = value, .source = source};
}

static void put_key(struct number *number, const char *text, const char *key, uint64_t scale,
                    const char *source)
{
    uint64_t value;
    if (find_number(text, key, &value))
        put(number, value * scale, source);
}

static void put_file(struct number *number, int dir_fd, const char *name)
{
    char text[64];
    if (number->source == NULL && read_file(dir_fd, name, text, sizeof(text)))
        put_key(number, text, "", 1, name);
}

static bool has_controller(const struct cgroup *group, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = group->controllers; at != NULL && *at != '\0';) {
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    return false;
}

bool process_flags(pid_t pid, unsigned *flags)
{
    char path[40], text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    const char *at = read_file(AT_FDCWD, path, text, sizeof(text)) ? strrchr(text, ')') : NULL;
    return at != NULL && sscanf(at, ") %*c %*d %*d %*d %*d %*d %u", flags) == 1;
}

/* --- numbers --- */

static void read_pressure(struct number *numbers, int dir_fd, const char *name,
                          enum account_key some)
{
    char text[512];
    if (!read_file(dir_fd, name, text, sizeof(text)))
        return;
    const char *full = strstr(text, "full ");
    const char *total = strstr(text, "total=");
    if (strncmp(text, "some ", 5) == 0 && total != NULL)
        put(&numbers[some], strtoull(total + 6, NULL, 10), name);
    total = full != NULL ? strstr(full, "total=") : NULL;
    if (total != NULL)
        put(&numbers[some + 1], strtoull(total + 6, NULL, 10), name);
}

static void read_counters_v1(struct number *numbers, const struct cgroup *group)
{
    char text[4096];
    int dir_fd = group->dir_fd;
    if (has_controller(group, "memory")) {
        if (read_file(dir_fd, "memory.oom_control", text, sizeof(text)))
            put_key(&numbers[OOM_KILLS], text, "oom_kill", 1, "memory.oom_control");
        put_file(&numbers[MEMORY_FAILURES], dir_fd, "memory.failcnt");
    }
    if (has_controller(group, "pids") && read_file(dir_fd, "pids.events", text, sizeof(text)))
        put_key(&numbers[PIDS_MAX_HITS], text, "max", 1, "pids.events");
    if (has_controller(group, "cpuacct")) {
        put_file(&numbers[CPU_NS], dir_fd, "cpuacct.usage");
        put_file(&numbers[CPU_USER_NS], dir_fd, "cpuacct.usage_user");
        put_file(&numbers[CPU_SYSTEM_NS], dir_fd, "cpuacct.usage_sys");
    }
    if (has_controller(group, "cpu") && read_file(dir_fd, "cpu.stat", text, sizeof(text))) {
        put_key(&numbers[THROTTLED_NS], text, "throttled_time", 1, "cpu.stat");
        put_key(&numbers[THROTTLED_PERIODS], text, "nr_throttled", 1, "cpu.stat");
    }
    if (has_controller(group, "blkio")) {
        static const char name[] = "blkio.throttle.io_service_bytes_recursive";
        if (read_file(dir_fd, name, text, sizeof(text))) {
            put(&numbers[READ_BYTES], sum_devices(text, " Read "), name);
            put(&numbers[WRITE_BYTES], sum_devices(text, " Write "), name);
        }
    }
}

static void read_counters_v2(struct number *numbers, const struct cgroup *group)
{
    char text[4096];
    int dir_fd = group->dir_fd;
    if (has_controller(group, "memory") && read_file(dir_fd, "memory.events", text, sizeof(text))) {
        put_key(&numbers[OOM_KILLS], text, "oom_kill", 1, "memory.events");
        put_key(&numbers[OOM_GROUP_KILLS], text, "oom_group_kill", 1, "memory.events");
        put_key(&numbers[MEMORY_FAILURES], text, "max", 1, "memory.events");
    }
    if (has_controller(group, "pids") && read_file(dir_fd, "pids.events", text, sizeof(text)))
        put_key(&numbers[PIDS_MAX_HITS], text, "max", 1, "pids.events");
    /* Without any controller too: the kernel counts time in every group of version 2. */
    if (read_file(dir_fd, "cpu.stat", text, sizeof(text))) {
        put_key(&numbers[CPU_NS], text, "usage_usec", NS_PER_US, "cpu.stat");
        put_key(&numbers[CPU_USER_NS], text, "user_usec", NS_PER_US, "cpu.stat");
        put_key(&numbers[CPU_SYSTEM_NS], text, "system_usec", NS_PER_US, "cpu.stat");
        put_key(&numbers[THROTTLED_NS], text, "throttled_usec", NS_PER_US, "cpu.stat");
        put_key(&numbers[THROTTLED_PERIODS], text, "nr_throttled", 1, "cpu.stat");
    }
    if (has_controller(group, "io") && read_file(dir_fd, "io.stat", text, sizeof(text))) {
        put(&numbers[READ_BYTES], sum_fields(text, "rbytes="), "io.stat");
        put(&numbers[WRITE_BYTES], sum_fields(text, "wbytes="), "io.stat");
    }
    read_pressure(numbers, dir_fd, "cpu.pressure", PSI_CPU_SOME_US);
    read_pressure(numbers, dir_fd, "memory.pressure", PSI_MEMORY_SOME_US);
    read_pressure(numbers, dir_fd, "io.pressure", PSI_IO_SOME_US);
}

/* A number of a controller of version 1 comes before the same of a version 2 group that merely
 * exists: in a hybrid host the former is the one with the limit. */
static void read_counters(struct number *numbers, const struct settings *settings)
{
    for (int version = 1; version <= 2; version++) {
        for (int i = 0; i < settings->cgroup_count; i++) {
            const struct cgroup *group = &settings->cgroups[i];
            if (group->dir_fd < 0 || group->version != version)
                continue;
            if (version == 1)
                read_counters_v1(numbers, group);
            else
                read_counters_v2(numbers, group);
        }
    }
}

static void read_peaks(struct number *numbers, const struct cgroup *group)
{
    int dir_fd = group->dir_fd;
    if (has_controller(group, "pids"))
        put_file(&numbers[PIDS_PEAK], dir_fd, "pids.peak");
    if (!has_controller(group, "memory"))
        return;
    if (group->version == 1) {
        put_file(&numbers[MEMORY_PEAK], dir_fd, "memory.max_usage_in_bytes");
        put_file(&numbers[MEMORY_SWAP_PEAK], dir_fd, "memory.memsw.max_usage_in_bytes");
    } else {
        put_file(&numbers[MEMORY_PEAK], dir_fd, "memory.peak");
        put_file(&numbers[SWAP_PEAK], dir_fd, "memory.swap.peak");
    }
}

/* Somebody has run in this group before.  One file tells for all of a group. */
static bool was_used(const struct cgroup *group)
{
    static const struct {
        int version;
        const char *controller, *file, *key;
    } signs[] = {
        {1, "cpuacct", "cpuacct.usage", ""},
        {1, "memory", "memory.max_usage_in_bytes", ""},
        {1, "pids", "pids.events", "max"},
        {2, NULL, "cpu.stat", "usage_usec"},
    };
    char path[PATH_MAX], text[1024];
    uint64_t value;
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (group->version != signs[i].version ||
            (signs[i].controller != NULL && !has_controller(group, signs[i].controller)))
            continue;
        snprintf(path, sizeof(path), "%s/%s", group->path, signs[i].file);
        if (read_file(AT_FDCWD, path, text, sizeof(text)) &&
            find_number(text, signs[i].key, &value) && value != 0)
            return true;
    }
    return false;
}

void account_before(struct account *account, struct settings *settings)
{
    bool used = false;
    memset(account, 0, sizeof(*account));
    account_close(settings);
    for (int i = 0; i < settings->cgroup_count; i++)
        used |= was_used(&settings->cgroups[i]);
    if (!used)
        return; /* groups made for this run: every counter begins at 0 */
    for (int i = 0; i < settings->cgroup_count; i++)
        settings->cgroups[i].dir_fd =
            open(settings->cgroups[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    read_counters(account->before, settings);
    account_close(settings);
}

void account_close(struct settings *settings)
{
    for (int i = 0; i < settings->cgroup_count; i++) {
        if (settings->cgroups[i].dir_fd >= 0)
            close(settings->cgroups[i].dir_fd);
        settings->cgroups[i].dir_fd = -1;
    }
}

void account_after(struct account *account, const struct settings *settings, int disk_fd)
{
    struct number *numbers = account->numbers;
    struct statvfs disk;
    memset(numbers, 0, sizeof(account->numbers));
    read_counters(numbers, settings);
    for (int key = 0; key <= LAST_COUNTER; key++) {
        const struct number *before = &account->before[key];
        if (numbers[key].source != NULL && before->source == numbers[key].source)
            numbers[key].value -= before->value;
    }
    for (int i = 0; i < settings->cgroup_count; i++)
        if (settings->cgroups[i].dir_fd >= 0)
            read_peaks(numbers, &settings->cgroups[i]);
    if (disk_fd >= 0 && fstatvfs(disk_fd, &disk) == 0) {
        put(&numbers[DISK_SIZE], disk.f_blocks * disk.f_frsize, "statvfs");
        put(&numbers[DISK_AVAILABLE], disk.f_bavail * disk.f_frsize, "statvfs");
        put(&numbers[DISK_FILES], disk.f_files, "statvfs");
        put(&numbers[DISK_FILES_AVAILABLE], disk.f_favail, "statvfs");
    }
}

bool account_cpu_ns(const struct settings *settings, pid_t pid, uint64_t *ns)
{
    char text[1024], path[40];
    for (int i = 0; i < settings->cgroup_count; i++) {
        const struct cgroup *group = &settings->cgroups[i];
        if (group->dir_fd >= 0 && group->version == 1 && has_controller(group, "cpuacct") &&
            read_file(group->dir_fd, "cpuacct.usage", text, sizeof(text)) &&
            find_number(text, "", ns))
            return true;
    }
    for (int i = 0; i < settings->cgroup_count; i++) {
        const struct cgroup *group = &settings->cgroups[i];
        if (group->dir_fd >= 0 && group->version == 2 &&
            read_file(group->dir_fd, "cpu.stat", text, sizeof(text)) &&
            find_number(text, "usage_usec", ns)) {
            *ns *= NS_PER_US;
            return true;
        }
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!read_file(AT_FDCWD, path, text, sizeof(text)))
        return false;
    const char *at = strrchr(text, ')');
    unsigned long user, system;
    long child_user, child_system;
    if (at == NULL || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld",
                             &user, &system, &child_user, &child_system) != 4)
        return false;
    *ns = (user + system + (unsigned long)child_user + (unsigned long)child_system) *
          (1000000000u / (unsigned long)sysconf(_SC_CLK_TCK));
    return true;
}

/* --- the end of the groups --- */

static bool kill_of_session(pid_t pid, pid_t session)
{
    bool found = false;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    /* Who is asked after the handle was made is whom it is on. */
    if (pid != session && getsid(pid) == session)
        found = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
    close(fd);
    return found;
}

/* A visit to every process of a group, a buffer at a time. */
enum visit { VISIT_FIND, VISIT_KILL, VISIT_SESSION };

/* VISIT_FIND: is the monitor itself a member?  The others: was there anybody to kill? */
static bool visit_members(int dir_fd, enum visit visit, pid_t session)
{
    char text[2048];
    bool found = false;
    long pid = 0;
    ssize_t n;
    int fd = openat(dir_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while ((n = read(fd, text, sizeof(text))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] != '\n') {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (visit == VISIT_FIND)
                found |= pid == getpid();
            else if (visit == VISIT_SESSION)
                found |= pid > 1 && kill_of_session((pid_t)pid, session);
            else if (pid > 1)
                found |= kill((pid_t)pid, SIGKILL) == 0;
            pid = 0;
        }
    }
    close(fd);
    return found;
}

/* Returns true when nobody was left. */
static bool kill_group(int dir_fd)
{
    /* A group that the monitor is in is not the container's own: killing it would be a disaster. */
    if (visit_members(dir_fd, VISIT_FIND, 0))
        return true;
    int fd = openat(dir_fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, "1", 1);
        (void)ignored; /* one by one, then */
        close(fd);
    }
    return !visit_members(dir_fd, VISIT_KILL, 0);
}

bool account_kill(const struct settings *settings)
{
    bool empty = true;
    if (settings->enter_pid > 0)
        return true; /* the groups are not ours */
    for (int i = 0; i < settings->cgroup_count; i++)
        if (settings->cgroups[i].dir_fd >= 0)
            empty &= kill_group(settings->cgroups[i].dir_fd);
    return empty;
}

void account_thaw(const struct settings *settings)
{
    for (int i = 0; i < settings->cgroup_count && settings->enter_pid == 0; i++) {
        const struct cgroup *group = &settings->cgroups[i];
        if (group->dir_fd < 0 || group->version != 1 || !has_controller(group, "freezer"))
            continue;
        int fd = openat(group->dir_fd, "freezer.state", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        ssize_t ignored = write(fd, "THAWED", 6);
        (void)ignored;
        close(fd);
    }
}

bool account_frozen(const struct settings *settings)
{
    char text[32];
    for (int i = 0; i < settings->cgroup_count; i++) {
        const struct cgroup *group = &settings->cgroups[i];
        if (group->dir_fd < 0)
            continue;
        if (group->version == 2 && read_file(group->dir_fd, "cgroup.freeze", text, sizeof(text)) &&
            text[0] == '1')
            return true;
        if (group->version == 1 && has_controller(group, "freezer") &&
            read_file(group->dir_fd, "freezer.state", text, sizeof(text)) && text[0] == 'F')
            return true;
    }
    return false;
}

/* One group has them all: nobody leaves the container's. */
bool account_kill_session(const struct settings *settings, pid_t session)
{
    for (int i = 0; i < settings->cgroup_count; i++)
        if (settings->cgroups[i].dir_fd >= 0)
            return !visit_members(settings->cgroups[i].dir_fd, VISIT_SESSION, session);
    return true;
}

struct directory_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static void remove_below(int dir_fd, int depth);

static void remove_child(int dir_fd, const char *name, int depth)
{
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno != EBUSY || depth == 0)
        return;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    kill_group(fd);
    remove_below(fd, depth - 1);
    close(fd);
    unlinkat(dir_fd, name, AT_REMOVEDIR);
}

/* Groups that the container made inside its own. */
static void remove_below(int dir_fd, int depth)
{
    _Alignas(struct directory_entry) char entries[2048];
    long n;
    while ((n = syscall(SYS_getdents64, dir_fd, entries, sizeof(entries))) > 0) {
        for (long at = 0; at < n;) {
            const struct directory_entry *entry = (const void *)(entries + at);
            if (entry->type == 4 /* DT_DIR */ && entry->name[0] != '.')
                remove_child(dir_fd, entry->name, depth);
            at += entry->length;
        }
    }
}

static bool remove_group(const struct cgroup *group, bool thorough)
{
    if (rmdir(group->path) == 0 || errno == ENOENT)
        return true;
    if (errno != EBUSY || !thorough)
        return false;
    int fd = open(group->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    kill_group(fd);
    remove_below(fd, REMOVE_DEPTH);
    close(fd);
    return false;
}

bool account_remove(struct settings *settings)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    bool removed[MAX_CGROUPS] = {false};
    account_close(settings);
    if (settings->enter_pid > 0)
        return true; /* the groups are not ours */
    for (int try = 0; try < REMOVE_TRIES; try++) {
        bool all = true;
        for (int i = 0; i < settings->cgroup_count; i++) {
            removed[i] = removed[i] || remove_group(&settings->cgroups[i], try > 0);
            all &= removed[i];
        }
        if (all)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}
