/* The root of a container that does not run, as one detached tree of mounts. */
#ifndef SANDBOX_VIEW_H
#define SANDBOX_VIEW_H

#include <stdint.h>

#include "fault.h"

enum view_flags {
    VIEW_READONLY = 1,   /* nothing in it can be changed */
    VIEW_VOLATILE = 2,   /* the container's overlay is */
    VIEW_USER_XATTR = 4, /* it was mounted in a user namespace */
    VIEW_HOST_ROOT = 8,  /* the lowest layer is this machine's "/" */
};

struct view_bind {
    const char *source; /* of the host */
    const char *target; /* in the container */
    int is_readonly, is_recursive;
};

struct view_options {
    const char *lowers; /* host paths, each with a NUL, top first */
    uint32_t lower_count;
    const char *upper, *work; /* empty: the overlay has none, and is read-only */
    const char *mount_point;  /* an empty folder of the host */
    const struct view_bind *binds;
    uint32_t bind_count;
    int disk; /* a mount that is attached nowhere and has some of these folders in it, or -1 */
    int flags;
};

/* A descriptor of the root, or -errno with *fault filled.  The mounts are in no namespace: they go
 * with the last descriptor that was opened through this one. */
int view_open(const struct view_options *options, struct fault *fault);

#endif
