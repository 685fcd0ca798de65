/* An overlay of layers, for init and for whoever looks at a container's root from outside. */
#ifndef SANDBOX_OVERLAY_H
#define SANDBOX_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_LAYERS 500 /* overlayfs' own bound */

struct overlay {
    const char *first; /* lower folders, by path: each with a NUL, top first */
    uint32_t count;
    const char *upper, *work;
    int lowers[MAX_LAYERS]; /* or by descriptor: all of them or none; owned */
    int upper_fd, work_fd;  /* likewise */
    bool has_upper;
    bool by_descriptor;
    bool is_volatile;
    bool user_xattr; /* trusted.* is out of reach of a user namespace */
};

/* No folder is open yet. */
void overlay_init(struct overlay *overlay);

/* The overlay as a detached mount, or -errno and the call that failed.  -E2BIG: too many layers for
 * this kernel's calls; -ENOSYS: the kernel has none of them.  Changes the working folder. */
int overlay_make(struct overlay *overlay, const char **call);

/* The same by mount(2), on a folder that is open and whose mount namespace is the caller's own.
 * Changes the working folder. */
int overlay_mount(struct overlay *overlay, int at);

/* A volatile mount leaves a mark in the work folder, which says that a crash may have torn the
 * upper folder, and the next mount refuses it.  Whoever asks for a volatile one again takes that:
 * true when there was a mark, and it is gone. */
bool overlay_forget_volatile(const struct overlay *overlay);

/* The lowest layer is this machine's "/", which has the upper folder below it, which overlayfs
 * refuses as overlapping.  Seen through a read-only overlay of its own, stacked at `at`, it is
 * another file system. */
int overlay_replace_host(struct overlay *overlay, int at, const char **call);

void overlay_close(struct overlay *overlay);

#endif
