/* Load the seccomp filter.
 *
 * Runs in init.  Needs CAP_SYS_ADMIN in effect, or no_new_privileges set before (see ids.c for the
 * order).  The program was assembled and checked on Python's side; the kernel checks it again. */
#include "init.h"

#define SET_MODE_FILTER 1
#define FLAG_NEW_LISTENER 8
#define MAX_INSTRUCTIONS 4096

struct filter_program {
    unsigned short count;
    const void *instructions;
};

int do_seccomp(struct init *init, struct op *op)
{
    struct op cursor = *op;
    uint32_t size;
    const void *bytes = op_bytes(&cursor, &size);
    int64_t flags = op_integer(&cursor);
    struct filter_program program = {.count = (unsigned short)(size / 8), .instructions = bytes};
    int result;

    if (size == 0 || size % 8 != 0 || size / 8 > MAX_INSTRUCTIONS)
        return fail(init->error, op, EINVAL, "seccomp", "size of the program");
    if (flags < 0 || flags > INT32_MAX || (flags & FLAG_NEW_LISTENER))
        return fail(init->error, op, EINVAL, "seccomp", "flags");
    exec_skip_missing(init);
    result = or_errno(syscall(SYS_seccomp, SET_MODE_FILTER, (unsigned)flags, &program));
    if (result < 0)
        return fail(init->error, op, -result, "seccomp", "");
    /* With TSYNC, the id of a thread that could not be brought along. */
    return result > 0 ? fail(init->error, op, ESRCH, "seccomp", "TSYNC") : 0;
}
