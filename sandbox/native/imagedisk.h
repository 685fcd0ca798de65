/* A file that holds a file system, mounted through a loop device. */
#ifndef SANDBOX_IMAGEDISK_H
#define SANDBOX_IMAGEDISK_H

#include <stdbool.h>

struct imagedisk {
    const char *path, *fstype, *options;
    bool is_in_use;   /* it is mounted already, and is not to be otherwise: else -ENXIO */
    const char *call; /* the one that failed */
};

/* Its root, attached nowhere, or -errno.  While somebody has it mounted, whoever mounts it gets the
 * same file system: two of one file would destroy it. */
int imagedisk_mount(struct imagedisk *disk);

#endif
