/* What a stack of layers looks like from inside, read-only, for no longer than a descriptor. */
#ifndef SANDBOX_LAYERVIEW_H
#define SANDBOX_LAYERVIEW_H

#include <stddef.h>

/* A descriptor of the folders `layers` (NUL-terminated paths, `count` of them, at least two, the
 * top first) merged by overlayfs, or -errno.  The mount is attached nowhere, so nobody finds it,
 * and it is gone with the descriptor: with the process at the latest. */
int layer_view(const char *const *layers, size_t count);

#endif
