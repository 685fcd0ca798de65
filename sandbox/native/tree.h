/* Whole trees by handle: delete one, measure one. */
#ifndef SANDBOX_TREE_H
#define SANDBOX_TREE_H

#include <stdint.h>

/* Delete what `name` in `dir` is: a file, a link itself, or a directory with all that is below it.
 * Never follows a link, never enters another mount (-EXDEV).  Makes unreadable directories readable
 * first.  0 or -errno. */
int tree_remove(int dir, const char *name);

/* Apparent size of everything below `dir` that is not a directory, each inode once; the number of
 * inodes with `dir` itself; and what all of them take of the disk.  A tree that changes meanwhile
 * is measured as far as it is found. */
int tree_size(int dir, uint64_t *bytes, uint64_t *inodes, uint64_t *disk_bytes);

#endif
