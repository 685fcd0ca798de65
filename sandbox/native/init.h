/* What the files of init share: its state, and one function an operation.
 *
 * struct init is filled by the monitor before clone and inherited as memory.  An operation takes
 * the cursor at its first field, returns 0, or a negative errno after fail(). */
#ifndef SANDBOX_INIT_H
#define SANDBOX_INIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* included first everywhere: before any header of libc */
#endif

#include "launch.h"
#include "overlay.h"
#include "sys.h"

#define MAX_LINKS 40 /* symbolic links followed in one path, the kernel's bound */

struct init {
    const struct plan *plan;
    const struct settings *settings;
    struct error_record *error;

    /* made by the monitor (prepare.c) */
    int stdio[3];
    int sync_fd;    /* a byte arrives when the id maps are written, and one when the links of the
                       endpoints are made; -1 where neither is waited for */
    int error_fd;   /* the write end */
    int console_fd; /* init's end of the console socket, or -1 */
    int disk_fd;    /* the disk image's root, detached, or -1 */
    int user_fd;    /* a user namespace with the plan's id maps, for id-mapped mounts, or -1 */
    int wire_fd;    /* with endpoints: a netlink socket of the host's network, or -1 */
    int sysctl_fd;  /* likewise /proc/sys/net, which shows the network of who looks */
    int join_fds[MAX_JOINS];
    int tasks_fds[MAX_CGROUPS]; /* "tasks" of v1 groups; cgroup.procs of v2 when clone3 could not */
    int *sources;               /* by operation: the tree that the monitor cloned, or -1 */
    uint32_t source_count;
    int layer_count; /* 0: init opens them by path */
    int upper_fd;    /* the folder that holds upper and work, cloned; or -1 */
    const int *kept; /* sorted: what init keeps open when it starts */
    int kept_count;
    char **argv, **envp;
    const char *search; /* the rest of PATH, from where the program may be; NULL is all of it */
    void *memory;       /* of sources, kept, argv and envp */
    size_t memory_size;

    /* made by init */
    int attach_fd; /* the mount point, before the root is on it */
    int root_fd;   /* the container's root */
    int dev_fd;    /* its own tmpfs on /dev */
    int pts_fd;    /* its own devpts on /dev/pts */
    int proc_fd;   /* its own procfs on /proc */
    int host_proc_fd;
    int null_fd;  /* a mount of the host's /dev/null, attached from the first mask on */
    int empty_fd; /* an empty read-only tmpfs, likewise */
    bool null_attached;
    bool empty_attached;
    bool new_user;    /* in a new user namespace */
    bool joined_user; /* or in somebody's */
    bool late_pid;    /* init's own maker joins the pid namespace, after the user namespace */
    bool new_mounts;  /* in a new mount namespace: nothing mounts without */
    bool old_mount;   /* this kernel refuses the new mount calls */
    bool pivoted;
    bool has_console;
    bool umask_set;
    bool readonly_root;     /* the root becomes read-only with the pivot */
    bool is_private;        /* "/" no longer shares its mounts with the host */
    int fail_at;            /* fault injection: 0 for none; negative dies instead of failing */
    int layers[MAX_LAYERS]; /* overlay's lower folders, cloned by the monitor; layer_count of them
                             */
};

/* namespaces.c */
int join_namespaces(struct init *init);
int become_mapped_root(struct init *init);
pid_t clone_init(uint64_t namespaces, int cgroup_fd, int *pidfd);
pid_t clone_late(struct init *init, int *pidfd);
int write_id_maps(pid_t pid, const struct settings *settings, struct error_record *error);
int open_user_namespace(const struct settings *settings, struct error_record *error);
int do_cgroup_namespace(struct init *init, struct op *op);
int do_hostname(struct init *init, struct op *op);
int do_domainname(struct init *init, struct op *op);
int do_loopback_up(struct init *init, struct op *op);
int do_keyring(struct init *init, struct op *op);

/* launch.c */
void wait_for_monitor(struct init *init);

/* prepare.c: the monitor's side before clone */
int prepare(const struct plan *plan, struct settings *settings, struct init *init,
            struct error_record *error);
void prepare_undo(struct init *init);
void prepare_kept(struct init *init);
int read_start_time(int process_fd, uint64_t *start_time);

/* network.c */
int network_prepare(const struct settings *settings, struct init *init, struct error_record *error);
int network_make(const struct settings *settings, const struct init *init, pid_t pid,
                 struct error_record *error);
int do_network(struct init *init, struct op *op);

/* disk.c */
int disk_mount(const struct settings *settings, struct error_record *error);

/* targets.c: paths below the container's root, as handles */
enum target_kind { TARGET_EXISTING, TARGET_FOLDER, TARGET_FILE };
int root_of(struct init *init); /* the root's descriptor, or -errno; not the caller's to close */
int target_open(struct init *init, const char *path, enum target_kind kind);
int target_open_plain(struct init *init, const char *path, enum target_kind kind);
int target_parent(struct init *init, const char *path, const char **name, int *close_this);
bool is_on(int fd, long magic);
int do_mkdir(struct init *init, struct op *op);
int do_symlink(struct init *init, struct op *op);
int do_workdir(struct init *init, struct op *op);

/* mounts.c */
int old_mount_on(struct init *init, const char *source, int target, const char *fstype,
                 unsigned long flags, const char *data);
unsigned long old_flags(uint64_t attributes);
int set_attributes(int fd, uint64_t attributes, bool recursive);
int old_bind(struct init *init, int source, int target, bool recursive);
int old_attributes(struct init *init, int fd, uint64_t attributes);
int no_namespace(struct init *init, const struct op *op, const char *path);
int do_propagation(struct init *init, struct op *op);
int do_mount(struct init *init, struct op *op);
int do_bind(struct init *init, struct op *op);

/* masks.c */
int prepare_null(struct init *init);
int do_mask(struct init *init, struct op *op);
int do_readonly(struct init *init, struct op *op);

/* nodes.c */
int do_mknod(struct init *init, struct op *op);

/* root.c */
int do_root_overlay(struct init *init, struct op *op);
int do_root_bind(struct init *init, struct op *op);
int do_pivot(struct init *init, struct op *op);
int do_root_readonly(struct init *init, struct op *op);

/* copyup.c: copy a folder's content by handle; bounded */
int copy_folder(int from, int to);

/* console.c */
int do_console(struct init *init, struct op *op);

/* limits.c */
int do_sysctl(struct init *init, struct op *op);
int do_oom_score_adj(struct init *init, struct op *op);
int do_rlimit(struct init *init, struct op *op);
int do_nice(struct init *init, struct op *op);
int do_umask(struct init *init, struct op *op);

/* ids.c */
int die_with_monitor(void);
int do_ids(struct init *init, struct op *op);
int do_capabilities(struct init *init, struct op *op);
int do_no_new_privileges(struct init *init, struct op *op);

/* seccomp_load.c */
int do_seccomp(struct init *init, struct op *op);

/* exec.c, reaper.c */
int do_exec(struct init *init, struct op *op);
void exec_skip_missing(struct init *init);
int reaper_fork(struct init *init, const struct op *op); /* returns in the child only */

#endif
