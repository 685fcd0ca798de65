/* What the monitor makes ready for init before it clones it.
 *
 * Runs in the monitor, in the host's namespaces, with the host's authority, single-threaded.  All
 * that is opened here init inherits; whatever is not in init->kept it closes first. */
#include "init.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define NS_GET_NSTYPE 0xb703
#define KNOWN_NAMESPACES (NS_TIME | NS_MOUNT | NS_UTS | NS_IPC | NS_USER | NS_PID | NS_NET)
#define MAX_FIXED_FDS (MAX_JOINS + MAX_CGROUPS + 8)

static int open_cgroups(struct settings *settings, struct init *init, struct error_record *error)
{
    for (int i = 0; i < settings->cgroup_count; i++) {
        struct cgroup *cgroup = &settings->cgroups[i];

        if (cgroup->dir_fd < 0)
            cgroup->dir_fd = open(cgroup->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (cgroup->dir_fd < 0)
            return fail(error, NULL, errno, "open", cgroup->path);
        if (cgroup->version != 1)
            continue;
        init->tasks_fds[i] = openat(cgroup->dir_fd, "tasks", O_WRONLY | O_CLOEXEC);
        if (init->tasks_fds[i] < 0)
            return fail(error, NULL, errno, "openat", cgroup->path);
    }
    return 0;
}

/* Is this the namespace that the monitor, and so init, is in already?  Joining it would change
 * nothing, and is refused where a user namespace has been joined before. */
static bool is_own_namespace(int fd, uint64_t kind)
{
    static const struct {
        unsigned kind;
        const char *path;
    } OWN[] = {
        {NS_USER, "/proc/self/ns/user"},     {NS_IPC, "/proc/self/ns/ipc"},
        {NS_UTS, "/proc/self/ns/uts"},       {NS_NET, "/proc/self/ns/net"},
        {NS_PID, "/proc/self/ns/pid"},       {NS_TIME, "/proc/self/ns/time"},
        {NS_CGROUP, "/proc/self/ns/cgroup"}, {NS_MOUNT, "/proc/self/ns/mnt"},
    };
    struct stat theirs, own;

    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        if (OWN[i].kind == kind)
            return fstat(fd, &theirs) == 0 && stat(OWN[i].path, &own) == 0 &&
                   theirs.st_ino == own.st_ino && theirs.st_dev == own.st_dev;
    return false;
}

/* setns of a pid namespace holds for children, so the monitor does it for init.  Without authority
 * over it here, it is init's maker in the joined user namespace who has it. */
static int join_pid(const struct settings *settings, struct init *init, struct error_record *error)
{
    for (int i = 0; i < settings->join_count; i++) {
        if (settings->joins[i].kind != NS_PID || init->join_fds[i] < 0)
            continue;
        if (setns(init->join_fds[i], (int)NS_PID) == 0)
            continue;
        if (errno != EPERM || !init->joined_user)
            return fail(error, NULL, errno, "setns", settings->joins[i].path);
        init->late_pid = true;
    }
    return 0;
}

static int open_joins(const struct settings *settings, struct init *init,
                      struct error_record *error)
{
    for (int i = 0; i < settings->join_count; i++) {
        uint64_t kind = settings->joins[i].kind;
        const char *path = settings->joins[i].path;
        int fd;

        if ((kind & (KNOWN_NAMESPACES | NS_CGROUP)) == 0 || (kind & (kind - 1)) != 0 ||
            (settings->namespaces & kind) != 0)
            return fail(error, NULL, EINVAL, "setns", path);
        fd = init->join_fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return fail(error, NULL, errno, "open", path);
        /* A file that is no namespace, or another kind of one. */
        if (ioctl(fd, NS_GET_NSTYPE) != (int)kind)
            return fail(error, NULL, EINVAL, "ioctl", path);
        if (is_own_namespace(fd, kind)) {
            close_fd(&init->join_fds[i]);
            continue;
        }
        init->joined_user |= kind == NS_USER;
    }
    return 0;
}

/* Field 22; the name in field 2 may hold anything, so counting begins after its last ")". */
int read_start_time(int process_fd, uint64_t *start_time)
{
    char text[1024], *at;
    cleanup_fd int fd = openat(process_fd, "stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (size < 0)
        return -errno;
    text[size] = 0;
    at = strrchr(text, ')');
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return -EINVAL;
    *start_time = strtoull(at + 1, NULL, 10);
    return 0;
}

/* All namespaces of a process that runs already.  Its folder in /proc is a handle on this one
 * process: what is opened below it belongs to it, or the process is gone. */
static int open_entered(const struct plan *plan, struct settings *settings, struct init *init,
                        struct error_record *error)
{
    static const struct {
        unsigned kind;
        const char *name;
    } KINDS[MAX_JOINS] = {
        {NS_USER, "ns/user"}, {NS_IPC, "ns/ipc"},   {NS_UTS, "ns/uts"},       {NS_NET, "ns/net"},
        {NS_PID, "ns/pid"},   {NS_TIME, "ns/time"}, {NS_CGROUP, "ns/cgroup"}, {NS_MOUNT, "ns/mnt"},
    };
    char path[32];
    cleanup_fd int process = -1;
    uint64_t start_time;
    int result;

    if (settings->namespaces != 0 || settings->join_count != 0)
        return fail(error, NULL, EINVAL, "setns", "enter");
    snprintf(path, sizeof path, "/proc/%d", (int)settings->enter_pid);
    process = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (process < 0)
        return fail(error, NULL, errno == ENOENT ? ESRCH : errno, "open", path);
    result = read_start_time(process, &start_time);
    if (result < 0)
        return fail(error, NULL, -result, "read", path);
    if (start_time != (uint64_t)settings->enter_start_time)
        return fail(error, NULL, ESRCH, "read", path);
    for (int i = 0; i < MAX_JOINS; i++) {
        int fd;

        /* What has no program comes for the network alone. */
        if (!plan->has_program && KINDS[i].kind != NS_USER && KINDS[i].kind != NS_NET)
            continue;
        fd = openat(process, KINDS[i].name, O_RDONLY | O_CLOEXEC);
        settings->joins[i].kind = KINDS[i].kind;
        settings->joins[i].path = KINDS[i].name;
        if (fd < 0 && errno == ENOENT && KINDS[i].kind == NS_TIME)
            continue; /* a kernel without them */
        if (fd < 0)
            return fail(error, NULL, errno == ENOENT ? ESRCH : errno, "openat", KINDS[i].name);
        init->join_fds[i] = fd;
        if (is_own_namespace(fd, KINDS[i].kind))
            close_fd(&init->join_fds[i]);
        else
            init->joined_user |= KINDS[i].kind == NS_USER;
    }
    settings->join_count = MAX_JOINS;
    return 0;
}

/* A clone of a tree of the host, for init to attach where it may not go itself; the host's later
 * mounts do not show in it unless the plan asks for them, and its own never show on the host. */
static int clone_tree(const char *path, bool recursive, int user_fd, uint64_t propagation)
{
    cleanup_fd int tree =
        sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0u));
    struct sys_mount_attr attr = {
        .propagation = propagation & (MS_SLAVE | MS_SHARED) ? MS_SLAVE : MS_PRIVATE,
    };
    int result;

    if (tree < 0)
        return tree;
    if (user_fd >= 0) {
        attr.attr_set = MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)user_fd;
    }
    result = sys_mount_setattr(tree, recursive ? AT_RECURSIVE : 0, &attr);
    return result < 0 ? result : steal_fd(&tree);
}

static int parent_of(const char *path, char *parent, size_t room)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash == path ? 1 : (size_t)(slash - path);

    if (slash == NULL || slash[1] == 0 || size >= room)
        return -EINVAL;
    memcpy(parent, path, size);
    parent[size] = 0;
    return 0;
}

/* Upper and work have to be seen through one mount: the folder that holds both. */
static int clone_upper(struct init *init, const struct op *op, const char *upper, const char *work,
                       int user_fd, struct error_record *error)
{
    char parent[PATH_MAX], other[PATH_MAX];

    if (upper[0] == 0) {
        struct sys_mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_fd};
        int result;

        if (init->disk_fd < 0 || user_fd < 0)
            return 0;
        result = sys_mount_setattr(init->disk_fd, 0, &attr);
        return result < 0 ? fail(error, op, -result, "mount_setattr", "disk") : 0;
    }
    if (parent_of(upper, parent, sizeof parent) < 0 || parent_of(work, other, sizeof other) < 0)
        return fail(error, op, EINVAL, "open_tree", upper);
    if (strcmp(parent, other) != 0)
        return fail(error, op, EXDEV, "open_tree", work);
    init->upper_fd = clone_tree(parent, false, user_fd, 0);
    return init->upper_fd < 0 ? fail(error, op, -init->upper_fd, "open_tree", parent) : 0;
}

static int clone_layers(struct init *init, const struct op *op, struct error_record *error)
{
    struct op cursor = *op;
    const char *path, *upper, *work;
    uint32_t count = op_strings(&cursor, &path);
    int user_fd;

    upper = op_string(&cursor);
    work = op_string(&cursor);
    user_fd = op_integer(&cursor) & OVERLAY_IDMAPPED ? init->user_fd : -1;
    if (count > MAX_LAYERS)
        return fail(error, op, E2BIG, "open_tree", "lowers");
    for (uint32_t i = 0; i < count; i++, path += strlen(path) + 1) {
        init->layers[i] = clone_tree(path, false, user_fd, 0);
        if (init->layers[i] < 0)
            return fail(error, op, -init->layers[i], "open_tree", path);
        init->layer_count = (int)i + 1;
    }
    return clone_upper(init, op, upper, work, user_fd, error);
}

static int clone_source(struct init *init, const struct op *op, struct error_record *error)
{
    struct op cursor = *op;
    const char *path = op_string(&cursor);
    uint64_t propagation = 0;
    bool recursive = false;
    int user_fd = -1, fd;

    if (op->code == OP_BIND) {
        int64_t flags;

        op_string(&cursor);
        op_integer(&cursor);
        propagation = (uint64_t)op_integer(&cursor);
        flags = op_integer(&cursor);
        recursive = (flags & MOUNT_RECURSIVE) != 0;
        user_fd = flags & MOUNT_IDMAPPED ? init->user_fd : -1;
    } else if (op_integer(&cursor) & OVERLAY_IDMAPPED) {
        user_fd = init->user_fd;
    }
    fd = clone_tree(path, recursive, user_fd, propagation);
    if (fd < 0)
        return fail(error, op, -fd, "open_tree", path);
    init->sources[op->index] = fd;
    return 0;
}

static int64_t last_integer(const struct op *op)
{
    struct op last = {.at = op->end - 8, .end = op->end};

    return op_integer(&last);
}

static bool is_idmapped(const struct op *op)
{
    switch (op->code) {
    case OP_ROOT_OVERLAY:
    case OP_ROOT_BIND:
        return (last_integer(op) & OVERLAY_IDMAPPED) != 0;
    case OP_BIND:
        return (last_integer(op) & MOUNT_IDMAPPED) != 0;
    default:
        return false;
    }
}

/* One look at every operation: the host's trees that init cannot reach itself. */
static int clone_trees(const struct plan *plan, const struct settings *settings, struct init *init,
                       struct error_record *error)
{
    bool all = init->new_user && geteuid() == 0;
    struct op op = {0};
    int result = 0;

    while (result == 0 && plan_next(plan, &op)) {
        bool mapped = is_idmapped(&op);

        if (mapped && settings->uid_map == NULL)
            return fail(error, &op, EINVAL, "mount_setattr", "no id map");
        if (mapped && init->user_fd < 0) {
            init->user_fd = open_user_namespace(settings, error);
            if (init->user_fd < 0)
                return init->user_fd;
        }
        if (!all && !mapped)
            continue;
        if (op.code == OP_ROOT_OVERLAY)
            result = clone_layers(init, &op, error);
        else if (op.code == OP_BIND || op.code == OP_ROOT_BIND)
            result = clone_source(init, &op, error);
    }
    return result;
}

/* ---- memory ---- */

static char **point_at(char **vector, uint32_t count, const char *string)
{
    for (uint32_t i = 0; i < count; i++, string += strlen(string) + 1)
        *vector++ = (char *)(uintptr_t)string;
    *vector++ = NULL;
    return vector;
}

/* execve's vectors and two tables of descriptors, in one mapping: nothing is allocated later. */
static int make_memory(const struct plan *plan, struct init *init, struct error_record *error)
{
    struct op op = {0}, last = {0};
    const char *argv = "", *envp = "";
    uint32_t argc = 0, envc = 0;
    size_t vectors, ints;
    char **next;

    while (plan_next(plan, &op))
        last = op;
    if (plan->has_program) {
        argc = op_strings(&last, &argv);
        envc = op_strings(&last, &envp);
    }
    vectors = ((size_t)argc + envc + 2) * sizeof *next;
    ints = 2 * (size_t)plan->count + MAX_LAYERS + MAX_FIXED_FDS;
    init->memory_size = vectors + ints * sizeof(int);
    init->memory =
        mmap(NULL, init->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (init->memory == MAP_FAILED) {
        init->memory = NULL;
        return fail(error, NULL, errno, "mmap", "");
    }
    init->argv = init->memory;
    next = point_at(init->argv, argc, argv);
    init->envp = next;
    next = point_at(next, envc, envp);
    init->sources = (int *)(void *)next;
    for (uint32_t i = 0; i < plan->count; i++)
        init->sources[i] = -1;
    init->source_count = plan->count;
    return 0;
}

static void keep(int *kept, int *count, int fd)
{
    int at = *count;

    if (fd < 0)
        return;
    while (at > 0 && kept[at - 1] > fd) {
        kept[at] = kept[at - 1];
        at--;
    }
    kept[at] = fd;
    (*count)++;
}

/* The last thing before clone: which descriptors init keeps, in order. */
void prepare_kept(struct init *init)
{
    int *kept = init->sources + init->source_count;
    int count = 0;

    keep(kept, &count, init->sync_fd);
    keep(kept, &count, init->error_fd);
    keep(kept, &count, init->console_fd);
    keep(kept, &count, init->disk_fd);
    keep(kept, &count, init->upper_fd);
    keep(kept, &count, init->wire_fd);
    keep(kept, &count, init->sysctl_fd);
    for (int i = 0; i < MAX_JOINS; i++)
        keep(kept, &count, init->join_fds[i]);
    for (int i = 0; i < MAX_CGROUPS; i++)
        keep(kept, &count, init->tasks_fds[i]);
    for (int i = 0; i < init->layer_count; i++)
        keep(kept, &count, init->layers[i]);
    for (uint32_t i = 0; i < init->source_count; i++)
        keep(kept, &count, init->sources[i]);
    init->kept = kept;
    init->kept_count = count;
}

int prepare(const struct plan *plan, struct settings *settings, struct init *init,
            struct error_record *error)
{
    int result;

    if (settings->namespaces & ~(uint64_t)KNOWN_NAMESPACES)
        return fail(error, NULL, EINVAL, "clone3", "namespaces");
    if (init->new_user && settings->uid_map == NULL)
        return fail(error, NULL, EINVAL, "clone3", "no id map");
    if (!plan->has_program && settings->enter_pid == 0)
        return fail(error, NULL, EINVAL, "plan", "no program");
    result = make_memory(plan, init, error);
    if (result == 0)
        result = open_cgroups(settings, init, error);
    if (result == 0)
        result = settings->enter_pid > 0 ? open_entered(plan, settings, init, error)
                                         : open_joins(settings, init, error);
    if (result == 0)
        result = join_pid(settings, init, error);
    if (result == 0)
        result = network_prepare(settings, init, error);
    if (result == 0 && settings->disk_path != NULL) {
        init->disk_fd = disk_mount(settings, error);
        result = init->disk_fd < 0 ? init->disk_fd : 0;
    }
    if (result == 0 && (init->new_user || settings->uid_map != NULL))
        result = clone_trees(plan, settings, init, error);
    return result;
}

/* Everything that was opened for init, in the monitor, once init has it or will not be. */
void prepare_undo(struct init *init)
{
    for (int i = 0; i < MAX_JOINS; i++)
        close_fd(&init->join_fds[i]);
    for (int i = 0; i < MAX_CGROUPS; i++)
        close_fd(&init->tasks_fds[i]);
    for (int i = 0; i < init->layer_count; i++)
        close_fd(&init->layers[i]);
    for (uint32_t i = 0; init->sources != NULL && i < init->source_count; i++)
        close_fd(&init->sources[i]);
    close_fd(&init->upper_fd);
    close_fd(&init->user_fd);
    close_fd(&init->wire_fd);
    close_fd(&init->sysctl_fd);
    close_fd(&init->sync_fd);
    close_fd(&init->error_fd);
    close_fd(&init->console_fd);
    if (init->memory != NULL)
        munmap(init->memory, init->memory_size);
    init->memory = NULL;
    init->sources = NULL;
}
