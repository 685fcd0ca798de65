/* The launch core: the plan in C, the error record, and the border between launch and monitor.
 *
 * THEORY OF OPERATION
 *
 * A command (Python) compiles a launch plan, puts it into a memfd, and starts the monitor from a
 * sealed copy of the monitor's executable.  Three processes take part:
 *
 *   launcher   the command or the library's process, in the host's namespaces.  It holds one end of
 *              a SOCK_SEQPACKET pair and reads what became of the launch.
 *   monitor    this program, in the host's namespaces, as the user who started it; its own session;
 *              the container's parent.  It reads and checks the plan, prepares what needs the
 * host's authority, clones init, writes the id maps, joins init to its cgroups, and then lives in
 * one poll loop (monitor.c) until the container is over. init       cloned by the monitor into the
 * new namespaces.  It waits on the sync pipe until it is in its cgroups and has its id maps,
 * carries out the operations of the plan one by one (launch.c), and becomes the program.  A failure
 * goes to the monitor as one struct error_record through a close-on-exec pipe; its closing without
 * a record is the success of execve.
 *
 * An exec is the same with the "enter" setting: init joins all namespaces and groups of a container
 * that runs already instead of having its own.  Then the groups are somebody else's to account for
 * and to remove, and a kill takes init's session and nothing beside it; there are no folders, no
 * control socket, and the lock is none.  One that ends with "network" has no program either: it
 * joins the network alone, gives it a link (network.c), and is over.
 *
 * Descriptors that the monitor inherits: 0-2 stdio of the first client (or /dev/null), 3 the plan,
 * 4 the launch socket, 5 the lock on <run>/alive (held open until the end, never by init).  With
 * the "keep" setting, that many more wait in the launch socket before the plan is whole; they are
 * held like the lock.
 *
 * ERROR CONTRACT
 *
 * A function returns 0, or a negative errno after filling one struct error_record; the first error
 * wins and is never overwritten.  Nothing here prints.  Nothing allocates after clone: strings
 * point into the mapped plan.  Every descriptor is close-on-exec.  Init calls nothing that reads a
 * locale, resolves a name or loads a library.
 */
#ifndef SANDBOX_LAUNCH_H
#define SANDBOX_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PLAN_MAGIC "SBXPLAN" /* and its NUL: eight bytes */
#define PLAN_VERSION 1
#define PLAN_MAX_BYTES (4u << 20)
#define PLAN_MAX_OPS 4096
#define FIRST_INIT_OP 100

enum op_code {
    OP_ID = 1,            /* s: id */
    OP_FOLDERS = 2,       /* sss: state, run, mount_point */
    OP_STDIO = 3,         /* iii: flags, rows, columns */
    OP_LOG = 4,           /* sii: path, max_bytes, max_files */
    OP_LIMITS = 5,        /* iii: wall_ms, cpu_us, output_bytes */
    OP_CGROUP = 6,        /* iss: version, controllers, path */
    OP_NAMESPACES = 7,    /* i: flags */
    OP_JOIN = 8,          /* is: kind, path */
    OP_ID_MAP = 9,        /* ss: uid_map, gid_map */
    OP_LIFETIME = 10,     /* i: flags */
    OP_EXIT_COMMAND = 11, /* vv: argv, env */
    OP_RESTART = 12,      /* ii: policy, max */
    OP_DISK = 13,         /* sss: path, fstype, options */
    OP_ENTER = 14,        /* ii: pid, start_time */
    OP_HEALTH = 15,
    /* biiiii: plan, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms */
    OP_EVENTS = 16,             /* ss: path, exec_id */
    OP_ENDPOINT = 17,           /* sssibbb: link, name, bridge, flags, make, plumb, settle */
    OP_KEEP = 18,               /* i: count */
    OP_PROPAGATION = 100,       /* i: flags */
    OP_ROOT_OVERLAY = 101,      /* vssi: lowers, upper, work, flags */
    OP_ROOT_BIND = 102,         /* si: path, flags */
    OP_MOUNT = 103,             /* sssivi: fstype, source, target, attributes, options, flags */
    OP_BIND = 104,              /* ssiii: source, target, attributes, propagation, flags */
    OP_MASK = 105,              /* s: path */
    OP_READONLY = 106,          /* s: path */
    OP_MKDIR = 107,             /* siii: path, mode, uid, gid */
    OP_SYMLINK = 108,           /* ss: target, path */
    OP_MKNOD = 109,             /* siiiii: path, mode, major, minor, uid, gid */
    OP_CONSOLE = 110,           /* ii: uid, gid */
    OP_PIVOT = 111,             /* nothing */
    OP_ROOT_READONLY = 112,     /* nothing */
    OP_SYSCTL = 113,            /* ss: name, value */
    OP_HOSTNAME = 114,          /* s: name */
    OP_DOMAINNAME = 115,        /* s: name */
    OP_LOOPBACK_UP = 116,       /* nothing */
    OP_OOM_SCORE_ADJ = 117,     /* i: value */
    OP_RLIMIT = 118,            /* iii: resource, soft, hard */
    OP_WORKDIR = 119,           /* si: path, flags */
    OP_UMASK = 120,             /* i: mask */
    OP_KEYRING = 121,           /* s: name */
    OP_IDS = 122,               /* iil: uid, gid, groups */
    OP_CAPABILITIES = 123,      /* iiiii: bounding, effective, permitted, inheritable, ambient */
    OP_NO_NEW_PRIVILEGES = 124, /* nothing */
    OP_SECCOMP = 125,           /* bi: program, flags */
    OP_EXEC = 126,              /* vvi: argv, env, flags */
    OP_CGROUP_NAMESPACE = 127,  /* nothing */
    OP_NICE = 128,              /* i: value */
    OP_NETWORK = 129,           /* nothing */
};

/* The flags of plan.py, by the same names and values. */
#define STDIO_TTY 1
#define STDIO_STDIN 2
#define STDIO_STDIN_ONCE 4
#define LIFETIME_WITH_LAUNCHER 1
#define OVERLAY_VOLATILE 1
#define OVERLAY_READONLY 2
#define OVERLAY_HOST_ROOT 4
#define OVERLAY_IDMAPPED 8
#define MOUNT_OPTIONAL 1
#define MOUNT_RECURSIVE 2
#define MOUNT_RECURSIVE_ATTRIBUTES 4
#define MOUNT_IDMAPPED 8
#define MOUNT_NO_CREATE 16
#define MOUNT_COPY_UP 32
#define WORKDIR_CREATE 1
#define ENDPOINT_IPV6 1
#define EXEC_INIT 1

/* Why execve failed, in the last operation; "" elsewhere. */
#define REASON_NOT_FOUND "not_found"
#define REASON_NOT_EXECUTABLE "not_executable"
#define REASON_BAD_INTERPRETER "bad_interpreter"
#define REASON_WRONG_ARCH "wrong_arch"

struct error_record {
    uint32_t step;    /* enum op_code, or 0 for what is no operation (clone, the plan itself) */
    uint32_t index;   /* which operation of the plan, from 0 */
    int32_t error;    /* errno */
    char syscall[28]; /* "openat2", "fsmount", ... */
    char reason[24];  /* REASON_*, or "" */
    char path[448];   /* cut at its end when longer */
};

/* A plan in memory; plan_check() has seen every byte of it. */
struct plan {
    const uint8_t *data;
    uint32_t size;
    uint32_t count;
    bool has_program; /* it ends with "exec"; else with "network", in a container that runs */
};

/* One operation, and a cursor over its fields. */
struct op {
    uint32_t code;
    uint32_t index;
    const uint8_t *at;
    const uint8_t *end;
};

/* plan.c: the decoder.  plan_check() walks the whole plan: magic, version, sizes, known codes, each
 * field's kind and bounds, NULs where strings end, settings before operations, exec last and once.
 * After it the readers below cannot fail. */
int plan_check(const void *data, size_t size, struct plan *plan, struct error_record *error);
bool plan_next(const struct plan *plan, struct op *op); /* start with a zeroed op */
int64_t op_integer(struct op *op);
const char *op_string(struct op *op);
const void *op_bytes(struct op *op, uint32_t *size);
/* A vector of strings: returns their count and the first; each next one begins after its NUL. */
uint32_t op_strings(struct op *op, const char **first);
uint32_t op_integers(struct op *op, const int64_t **first);
const char *op_kinds(uint32_t code); /* "sii", one letter a field; NULL for no operation */

#define MAX_CGROUPS 24
#define MAX_JOINS 8
#define MAX_ENDPOINTS 16
#define MAX_LINK_NAME 15
#define MAX_MESSAGE 1024 /* bytes of one netlink message of an endpoint */
#define MAX_KEPT 4096

struct cgroup {
    int version;
    const char *controllers;
    const char *path;
    int dir_fd; /* O_PATH or O_DIRECTORY; opened by the monitor, -1 when gone */
};

/* Netlink messages in a row, each with its whole length in front and on a multiple of four. */
struct messages {
    const uint8_t *data;
    uint32_t size;
};

/* A pair of links: "link" on the host, a port of "bridge", and "name" in the container
 * (network.c). */
struct endpoint {
    uint32_t index; /* of its operation */
    const char *link, *name, *bridge;
    int64_t flags;
    struct messages make, plumb, settle;
};

/* The settings, read once by settings_read(); strings point into the plan. */
struct settings {
    const char *id, *state, *run, *mount_point;
    int64_t stdio_flags, rows, columns;
    const char *log_path;
    int64_t log_max_bytes, log_max_files;
    int64_t wall_ms, cpu_us, output_bytes;
    struct cgroup cgroups[MAX_CGROUPS];
    int cgroup_count;
    uint64_t namespaces;
    struct {
        uint64_t kind;
        const char *path;
    } joins[MAX_JOINS];
    int join_count;
    const char *uid_map, *gid_map; /* NULL without a user namespace */
    int64_t lifetime;
    const char *exit_argv, *exit_env; /* first of the vector */
    uint32_t exit_argc, exit_envc;
    int64_t restart_policy, restart_max;
    const char *disk_path, *disk_fstype, *disk_options;
    int64_t enter_pid, enter_start_time; /* a container that runs already; 0 without */
    const uint8_t *health_plan;          /* of each check, not looked at yet; NULL without */
    uint32_t health_size;
    int64_t health_interval_ms, health_timeout_ms, health_retries;
    int64_t health_start_period_ms, health_start_interval_ms;
    const char *events_path, *exec_id; /* "" without */
    struct endpoint endpoints[MAX_ENDPOINTS];
    int endpoint_count;
    int64_t keep; /* descriptors that the monitor shall hold open */
};
int settings_read(const struct plan *plan, struct settings *settings, struct error_record *error);

/* launch.c: everything from opening the cgroups to execve. */
struct launch {
    pid_t pid;
    int pidfd;
    int error_fd;   /* init's error pipe: a struct error_record, or its end */
    int console_fd; /* with STDIO_TTY: a socket on which init sends the pty's master; else -1 */
    int disk_fd;    /* the mounted disk image's root, to ask how full it is; -1 without */
    uint64_t start_time; /* field 22 of /proc/PID/stat */
};

/* Make init.  stdio are the three descriptors that it shall have as 0, 1 and 2 (ignored with
 * STDIO_TTY).  Joins it to every cgroup and writes its id maps before it runs anything.  On failure
 * nothing is left: no process, no mount, no loop device. */
int launch_start(const struct plan *plan, struct settings *settings, const int stdio[3],
                 struct launch *launch, struct error_record *error);

/* Set the first error of a record; returns -errno. */
int fail(struct error_record *error, const struct op *op, int errno_value, const char *syscall,
         const char *path);

#endif
