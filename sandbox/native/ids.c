/* Ids, groups and capabilities.
 *
 * Runs in init, with every capability that its user namespace gives.  Order within a plan: "ids"
 * keeps all capabilities effective; "capabilities" gives up what is not asked for.  A seccomp
 * filter without no_new_privileges needs CAP_SYS_ADMIN and so comes before them (and must let
 * through what they call); with no_new_privileges it comes last. */
#include "init.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define CAPABILITY_VERSION_3 0x20080522
#define MAX_GROUPS 65536

struct capability_header {
    uint32_t version;
    int pid;
};

struct capability_data {
    uint32_t effective;
    uint32_t permitted;
    uint32_t inheritable;
};

/* The kernel ends init when the monitor is killed.  A change of ids forgets this, so it is said
 * again after each. */
int die_with_monitor(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

static int get_capabilities(struct capability_data data[2])
{
    struct capability_header header = {.version = CAPABILITY_VERSION_3};

    return or_errno(syscall(SYS_capget, &header, data));
}

static int set_capabilities(const struct capability_data data[2])
{
    struct capability_header header = {.version = CAPABILITY_VERSION_3};

    return or_errno(syscall(SYS_capset, &header, data));
}

static int raise_permitted(void)
{
    struct capability_data data[2];
    int result = get_capabilities(data);

    if (result < 0)
        return result;
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return set_capabilities(data);
}

/* -1 means "leave as it is" to the kernel: an unset id must never reach it. */
static bool good_id(int64_t id)
{
    return id >= 0 && id < UINT32_MAX;
}

static int set_groups(struct init *init, const struct op *op, const int64_t *groups, uint32_t count)
{
    /* The list is on the stack in pieces no larger than the kernel takes. */
    gid_t list[1024];

    if (count > sizeof list / sizeof *list)
        return fail(init->error, op, EINVAL, "setgroups", "too many groups");
    for (uint32_t i = 0; i < count; i++) {
        if (!good_id(groups[i]))
            return fail(init->error, op, EINVAL, "setgroups", "group out of range");
        list[i] = (gid_t)groups[i];
    }
    if (syscall(SYS_setgroups, count, list) == 0)
        return 0;
    /* A user namespace of one id has setgroups denied, and no group to be in or out of. */
    if (errno == EPERM && (init->new_user || init->joined_user) && count <= 1)
        return 0;
    return fail(init->error, op, errno, "setgroups", "");
}

int do_ids(struct init *init, struct op *op)
{
    struct op cursor = *op;
    int64_t uid = op_integer(&cursor);
    int64_t gid = op_integer(&cursor);
    const int64_t *groups;
    uint32_t count = op_integers(&cursor, &groups);
    uid_t now[3];
    int result;

    if (!good_id(uid) || !good_id(gid))
        return fail(init->error, op, EINVAL, "setresuid", "id out of range");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return fail(init->error, op, errno, "prctl", "PR_SET_KEEPCAPS");
    result = set_groups(init, op, groups, count);
    if (result < 0)
        return result;
    if (syscall(SYS_setresgid, gid, gid, gid) < 0)
        return fail(init->error, op, errno, "setresgid", "");
    if (syscall(SYS_setresuid, uid, uid, uid) < 0)
        return fail(init->error, op, errno, "setresuid", "");
    if (getresuid(&now[0], &now[1], &now[2]) < 0 || now[0] != uid || now[1] != uid || now[2] != uid)
        return fail(init->error, op, EPERM, "getresuid", "");
    result = raise_permitted();
    if (result < 0)
        return fail(init->error, op, -result, "capset", "effective");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return fail(init->error, op, errno, "prctl", "PR_SET_KEEPCAPS");
    if (die_with_monitor() < 0)
        return fail(init->error, op, errno, "prctl", "PR_SET_PDEATHSIG");
    return 0;
}

static int drop_bounding(struct init *init, const struct op *op, uint64_t keep)
{
    for (int capability = 0; capability < 64; capability++) {
        if (keep & (1ull << capability))
            continue;
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        if (errno == EINVAL)
            return 0; /* past the last one of this kernel */
        return fail(init->error, op, errno, "prctl", "PR_CAPBSET_DROP");
    }
    return 0;
}

static int raise_ambient(struct init *init, const struct op *op, uint64_t ambient)
{
    for (int capability = 0; capability < 64; capability++) {
        if ((ambient & (1ull << capability)) == 0)
            continue;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
            return fail(init->error, op, errno, "prctl", "PR_CAP_AMBIENT_RAISE");
    }
    return 0;
}

static struct capability_data half(uint64_t effective, uint64_t permitted, uint64_t inheritable,
                                   int shift)
{
    return (struct capability_data){
        .effective = (uint32_t)(effective >> shift),
        .permitted = (uint32_t)(permitted >> shift),
        .inheritable = (uint32_t)(inheritable >> shift),
    };
}

int do_capabilities(struct init *init, struct op *op)
{
    struct op cursor = *op;
    uint64_t bounding = (uint64_t)op_integer(&cursor);
    uint64_t effective = (uint64_t)op_integer(&cursor);
    uint64_t permitted = (uint64_t)op_integer(&cursor);
    uint64_t inheritable = (uint64_t)op_integer(&cursor);
    uint64_t ambient = (uint64_t)op_integer(&cursor);
    struct capability_data wanted[2] = {
        half(effective, permitted, inheritable, 0),
        half(effective, permitted, inheritable, 32),
    };
    struct capability_data now[2];
    int result = drop_bounding(init, op, bounding);

    if (result < 0)
        return result;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return fail(init->error, op, errno, "prctl", "PR_CAP_AMBIENT_CLEAR_ALL");
    result = set_capabilities(wanted);
    if (result < 0)
        return fail(init->error, op, -result, "capset", "");
    result = raise_ambient(init, op, ambient);
    if (result < 0)
        return result;
    result = get_capabilities(now);
    if (result < 0)
        return fail(init->error, op, -result, "capget", "");
    if (memcmp(now, wanted, sizeof now) != 0)
        return fail(init->error, op, EPERM, "capget", "the sets are not what was asked for");
    return 0;
}

int do_no_new_privileges(struct init *init, struct op *op)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail(init->error, op, errno, "prctl", "PR_SET_NO_NEW_PRIVS");
    return 0;
}
