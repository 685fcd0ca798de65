/* Open and make paths below a root that may be hostile: never a joined string, never outside. */
#ifndef SANDBOX_INROOT_H
#define SANDBOX_INROOT_H

#include <sys/types.h>

/* What to do about a component that is no directory.  `directory` is asked with the open parent,
 * the name, and the path from the root without links; it makes the directory, or returns -errno. */
struct inroot_maker {
    int (*directory)(void *context, int parent, const char *name, const char *path, int error);
    void *context;
};

/* A descriptor for `path` as a process chrooted to `root` would find it (magic links refused), or
 * -errno.  O_CLOEXEC is always set. */
int inroot_open(int root, const char *path, int flags, mode_t mode);

/* The same, but a link anywhere in `path` is an error (-ELOOP). */
int inroot_open_plain(int root, const char *path, int flags);

/* The same as inroot_open for a directory, O_RDONLY, asking `maker` for each component that is not
 * there.  `real` (PATH_MAX bytes) becomes its path from the root without links. */
int inroot_make(int root, const char *path, const struct inroot_maker *maker, char *real);

#endif
