/*
 * What a container costs when nothing but the kernel is paid for: the yardstick
 * of scripts/bench.  One process clones one child into new namespaces, puts it
 * into fresh cgroups with limits, builds an overlay root with the usual mounts,
 * pivots, drops capabilities, loads a seccomp filter, executes the command,
 * waits, reads the counters and takes everything away again.
 *
 *     bench_bare LOWERDIRS SCRATCH FILTER COMMAND...
 *
 * Each line on standard input is one run; its wall time in nanoseconds is one
 * line on standard output.  LOWERDIRS is overlayfs' option, SCRATCH an empty
 * folder, FILTER a file of struct sock_filter or "-" for one that allows all.
 *
 * It may assume root and a host on which every step works: a step that fails
 * ends the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_HIERARCHIES 24
#define PATH_SIZE 512
#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

struct hierarchy {
    char mount[PATH_SIZE]; /* where it is mounted */
    char options[64];      /* its controllers, for mounting it again */
    char group[PATH_SIZE]; /* the group of the present run */
    int is_v2;
};

struct bench {
    const char *lower;
    const char *scratch;
    char *const *command;
    struct hierarchy hierarchies[MAX_HIERARCHIES];
    size_t count;
    struct sock_fprog filter;
    char root[PATH_SIZE];
    char upper[PATH_SIZE];
    char work[PATH_SIZE];
    unsigned long number;
};

static const char *const masked_files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list",
                                           "/proc/interrupts"};
static const char *const masked_folders[] = {"/proc/acpi", "/proc/scsi", "/sys/firmware",
                                             "/sys/devices/virtual/powercap"};
static const char *const readonly_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                             "/proc/sysrq-trigger"};

static void die(const char *step)
{
    fprintf(stderr, "bench_bare: %s: %s\n", step, strerror(errno));
    _exit(1);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            die(#call);                                                                            \
    } while (0)

static void put(const char *folder, const char *name, const char *value)
{
    char path[PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    if (write(fd, value, strlen(value)) < 0)
        die(path);
    close(fd);
}

static void get(const char *folder, const char *name, char *value, size_t size)
{
    char path[PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    ssize_t length = read(fd, value, size - 1);
    if (length < 0)
        die(path);
    value[length] = 0;
    close(fd);
}

static int has(const struct hierarchy *hierarchy, const char *controller)
{
    char words[sizeof hierarchy->options];
    strcpy(words, hierarchy->options);
    for (char *rest = words, *word; (word = strsep(&rest, ","));)
        if (!strcmp(word, controller))
            return 1;
    return 0;
}

static void find_hierarchies(struct bench *bench)
{
    static const char *const known[] = {"cpu",     "cpuacct",    "cpuset",  "memory",  "devices",
                                        "freezer", "blkio",      "pids",    "rdma",    "misc",
                                        "net_cls", "perf_event", "hugetlb", "net_prio"};
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096];
    if (!file)
        die("/proc/self/mountinfo");
    while (fgets(line, sizeof line, file) && bench->count < MAX_HIERARCHIES) {
        char point[PATH_SIZE], kind[64], options[256];
        char *right = strstr(line, " - ");
        if (!right || sscanf(line, "%*s %*s %*s %*s %511s", point) != 1 ||
            sscanf(right, " - %63s %*s %255s", kind, options) != 2)
            continue;
        int is_v2 = !strcmp(kind, "cgroup2");
        if (!is_v2 && strcmp(kind, "cgroup"))
            continue;
        struct hierarchy *made = &bench->hierarchies[bench->count++];
        strcpy(made->mount, point);
        made->is_v2 = is_v2;
        for (char *rest = options, *word; (word = strsep(&rest, ","));)
            for (size_t i = 0; i < LENGTH(known); i++)
                if (!strcmp(word, known[i])) {
                    if (*made->options)
                        strcat(made->options, ",");
                    strcat(made->options, word);
                }
        if (!is_v2 && !*made->options)
            bench->count--; /* a named hierarchy limits nothing */
    }
    fclose(file);
}

static void make_groups(struct bench *bench)
{
    for (size_t i = 0; i < bench->count; i++) {
        struct hierarchy *h = &bench->hierarchies[i];
        snprintf(h->group, sizeof h->group, "%.400s/bench-bare-%d-%lu", h->mount, (int)getpid(),
                 bench->number);
        TRY(mkdir(h->group, 0755));
        if (h->is_v2) {
            char controllers[256];
            get(h->group, "cgroup.controllers", controllers, sizeof controllers);
            if (!strstr(controllers, "memory"))
                continue;
            put(h->group, "memory.max", "67108864");
            put(h->group, "cpu.max", "50000 100000");
            put(h->group, "pids.max", "64");
            continue;
        }
        if (has(h, "cpuset")) {
            char value[256];
            get(h->mount, "cpuset.cpus", value, sizeof value);
            put(h->group, "cpuset.cpus", value);
            get(h->mount, "cpuset.mems", value, sizeof value);
            put(h->group, "cpuset.mems", value);
        }
        if (has(h, "memory"))
            put(h->group, "memory.limit_in_bytes", "67108864");
        if (has(h, "cpu"))
            put(h->group, "cpu.cfs_quota_us", "50000");
        if (has(h, "pids"))
            put(h->group, "pids.max", "64");
        if (has(h, "devices")) {
            static const char *const allowed[] = {
                "c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
            put(h->group, "devices.deny", "a");
            for (size_t rule = 0; rule < LENGTH(allowed); rule++)
                put(h->group, "devices.allow", allowed[rule]);
        }
    }
}

static void read_counters(struct bench *bench)
{
    char value[4096];
    for (size_t i = 0; i < bench->count; i++) {
        struct hierarchy *h = &bench->hierarchies[i];
        if (h->is_v2) {
            get(h->group, "cgroup.events", value, sizeof value);
            get(h->group, "cpu.stat", value, sizeof value);
            continue;
        }
        if (has(h, "memory")) {
            get(h->group, "memory.max_usage_in_bytes", value, sizeof value);
            get(h->group, "memory.oom_control", value, sizeof value);
        }
        if (has(h, "cpuacct")) {
            get(h->group, "cpuacct.usage", value, sizeof value);
            get(h->group, "cpuacct.stat", value, sizeof value);
        }
        if (has(h, "cpu"))
            get(h->group, "cpu.stat", value, sizeof value);
        if (has(h, "pids"))
            get(h->group, "pids.events", value, sizeof value);
    }
}

static void remove_groups(struct bench *bench)
{
    for (size_t i = 0; i < bench->count; i++)
        while (rmdir(bench->hierarchies[i].group) < 0)
            if (errno != EBUSY)
                die(bench->hierarchies[i].group);
}

static void mount_over(const char *kind, const char *at, unsigned long flags, const char *options)
{
    if (mount(kind, at, kind, flags, options) < 0)
        die(at);
}

static void make_readonly(const char *at)
{
    if (mount(at, at, NULL, MS_BIND | MS_REC, NULL) < 0)
        die(at);
    if (mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              NULL) < 0)
        die(at);
}

static void build_root(struct bench *bench)
{
    char options[4 * PATH_SIZE];
    const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", bench->lower,
             bench->upper, bench->work);
    mount_over("overlay", bench->root, 0, options);
    TRY(chdir(bench->root));

    mount_over("proc", "proc", safe, NULL);
    mount_over("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    TRY(mkdir("dev/pts", 0755));
    TRY(mkdir("dev/mqueue", 0755));
    TRY(mkdir("dev/shm", 01777));
    mount_over("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC,
               "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_over("sysfs", "sys", safe | MS_RDONLY, NULL);
    mount_over("tmpfs", "sys/fs/cgroup", safe, "mode=755");
    for (size_t i = 0; i < bench->count; i++) {
        const struct hierarchy *h = &bench->hierarchies[i];
        char at[PATH_SIZE];
        if (h->is_v2 && bench->count > 1)
            continue;
        snprintf(at, sizeof at, "sys/fs/cgroup/%s", h->is_v2 ? "unified" : h->options);
        TRY(mkdir(at, 0755));
        mount_over(h->is_v2 ? "cgroup2" : "cgroup", at, safe | MS_RDONLY,
                   h->is_v2 ? NULL : h->options);
    }
    TRY(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL));
    mount_over("mqueue", "dev/mqueue", safe, NULL);
    mount_over("tmpfs", "dev/shm", safe, "mode=1777,size=65536k");

    static const struct {
        const char *name;
        unsigned int major, minor;
    } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},   {"dev/full", 1, 7},
                 {"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
    for (size_t i = 0; i < LENGTH(nodes); i++) {
        TRY(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
        TRY(chmod(nodes[i].name, 0666));
    }
    TRY(symlink("/proc/self/fd", "dev/fd"));
    TRY(symlink("/proc/self/fd/0", "dev/stdin"));
    TRY(symlink("/proc/self/fd/1", "dev/stdout"));
    TRY(symlink("/proc/self/fd/2", "dev/stderr"));
    TRY(symlink("pts/ptmx", "dev/ptmx"));

    static const char *const etc[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; i < LENGTH(etc); i++) {
        char source[PATH_SIZE], at[64];
        snprintf(source, sizeof source, "%.400s/%s", bench->scratch, etc[i]);
        snprintf(at, sizeof at, "etc/%s", etc[i]);
        TRY(mount(source, at, NULL, MS_BIND, NULL));
    }

    TRY((int)syscall(SYS_pivot_root, ".", "."));
    TRY(umount2(".", MNT_DETACH));
    TRY(chdir("/"));

    for (size_t i = 0; i < LENGTH(readonly_paths); i++)
        if (!access(readonly_paths[i], F_OK))
            make_readonly(readonly_paths[i]);
    for (size_t i = 0; i < LENGTH(masked_files); i++)
        if (!access(masked_files[i], F_OK))
            TRY(mount("/dev/null", masked_files[i], NULL, MS_BIND, NULL));
    for (size_t i = 0; i < LENGTH(masked_folders); i++)
        if (!access(masked_folders[i], F_OK))
            mount_over("tmpfs", masked_folders[i], safe | MS_RDONLY, "size=0");
}

static void bring_up_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    TRY(fd);
    TRY(ioctl(fd, SIOCGIFFLAGS, &request));
    request.ifr_flags |= IFF_UP;
    TRY(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

static void drop_privileges(void)
{
    /* docker's fourteen */
    const uint64_t kept = 0x00000000a80425fbULL;
    for (int capability = 0; capability <= 63; capability++)
        if (!(kept >> capability & 1))
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
        {.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)},
    };
    TRY((int)syscall(SYS_capset, &header, data));
}

static void child(struct bench *bench, const int *joins)
{
    for (size_t i = 0; i < bench->count; i++)
        if (!bench->hierarchies[i].is_v2 && write(joins[i], "0", 1) < 0)
            die("tasks");
    TRY(unshare(CLONE_NEWCGROUP));
    TRY(setsid());
    build_root(bench);
    TRY(sethostname("bench", 5));
    bring_up_loopback();
    struct rlimit none = {0, 0};
    TRY(setrlimit(RLIMIT_CORE, &none));
    TRY((int)syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC));
    umask(022);
    drop_privileges();
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    TRY((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &bench->filter));
    execve(bench->command[0], bench->command, (char *[]){"PATH=/bin", NULL});
    die(bench->command[0]);
}

static void drain(int fd)
{
    char text[4096];
    while (read(fd, text, sizeof text) > 0)
        ;
    close(fd);
}

static void run(struct bench *bench)
{
    char folder[PATH_SIZE];
    int joins[MAX_HIERARCHIES], out[2], err[2], pidfd = -1, unified = -1;

    bench->number++;
    snprintf(folder, sizeof folder, "%.400s/%lu", bench->scratch, bench->number);
    snprintf(bench->upper, sizeof bench->upper, "%.480s/upper", folder);
    snprintf(bench->work, sizeof bench->work, "%.480s/work", folder);
    TRY(mkdir(folder, 0700));
    TRY(mkdir(bench->upper, 0755));
    TRY(mkdir(bench->work, 0755));
    make_groups(bench);
    /* The cheapest way into each: a thread that moves itself on v1, clone3 on v2. */
    for (size_t i = 0; i < bench->count; i++) {
        const struct hierarchy *h = &bench->hierarchies[i];
        char path[PATH_SIZE + 16];
        snprintf(path, sizeof path, "%s/%s", h->group, h->is_v2 ? "" : "tasks");
        joins[i] = open(path, (h->is_v2 ? O_PATH : O_WRONLY) | O_CLOEXEC);
        TRY(joins[i]);
        if (h->is_v2)
            unified = joins[i];
    }
    TRY(pipe2(out, O_CLOEXEC));
    TRY(pipe2(err, O_CLOEXEC));

    struct clone_args arguments = {
        .flags =
            CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    if (unified >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)unified;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    TRY(pid);
    if (pid == 0) {
        TRY(dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0));
        TRY(dup2(out[1], 1));
        int errors = fcntl(2, F_DUPFD_CLOEXEC, 3);
        TRY(dup2(err[1], 2));
        (void)errors;
        child(bench, joins);
    }
    close(out[1]);
    close(err[1]);
    for (size_t i = 0; i < bench->count; i++)
        close(joins[i]);
    drain(out[0]);
    drain(err[0]);

    siginfo_t info;
    TRY(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED));
    close(pidfd);
    if (info.si_code != CLD_EXITED || info.si_status != 0) {
        fprintf(stderr, "bench_bare: the command failed\n");
        _exit(1);
    }
    read_counters(bench);
    remove_groups(bench);
    /* What a volatile overlay leaves in its work folder. */
    static const char *const left[] = {"work/incompat/volatile/dirty", "work/incompat/volatile",
                                       "work/incompat", "work"};
    for (size_t i = 0; i < LENGTH(left); i++) {
        char path[PATH_SIZE + 32];
        snprintf(path, sizeof path, "%s/%s", bench->work, left[i]);
        TRY(remove(path));
    }
    TRY(rmdir(bench->work));
    TRY(rmdir(bench->upper));
    TRY(rmdir(folder));
}

static void load_filter(struct bench *bench, const char *path)
{
    static struct sock_filter program[4096];
    program[0] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    bench->filter.filter = program;
    bench->filter.len = 1;
    if (!strcmp(path, "-"))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    TRY(fd);
    ssize_t size = read(fd, program, sizeof program);
    TRY((int)size);
    bench->filter.len = (unsigned short)((size_t)size / sizeof *program);
    close(fd);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    char line[16];

    if (argc < 5) {
        fprintf(stderr, "usage: bench_bare LOWERDIRS SCRATCH FILTER COMMAND...\n");
        return 2;
    }
    bench.lower = argv[1];
    bench.scratch = argv[2];
    bench.command = argv + 4;
    load_filter(&bench, argv[3]);
    find_hierarchies(&bench);
    snprintf(bench.root, sizeof bench.root, "%.400s/root", bench.scratch);
    TRY(mkdir(bench.root, 0755));
    static const char *const etc[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; i < LENGTH(etc); i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%.400s/%s", bench.scratch, etc[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        TRY(fd);
        close(fd);
    }
    while (fgets(line, sizeof line, stdin)) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        run(&bench);
        clock_gettime(CLOCK_MONOTONIC, &after);
        printf("%lld\n",
               (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec);
        fflush(stdout);
    }
    return 0;
}
