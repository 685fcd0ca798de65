/* A whiteout speaks of lower layers only, wherever it stands in its own.
 *
 * May assume: a struct unpack with its parent open.  In overlay form a whiteout is a 0:0 device
 * where this layer has nothing of that name, or the opaque mark on a directory where it has.  In
 * applied form what it names is deleted unless this layer made it, which a set of (parent inode,
 * name) hashes remembers.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tree.h"
#include "unpacker.h"

/* Multiply and fold over a secret seed: an archive cannot aim for a collision.  The parent goes
 * through a round of its own: xored with the first letter it would meet its neighbours. */
static uint64_t mixed(const struct unpack *u, uint64_t h)
{
    unsigned __int128 product = (unsigned __int128)(h ^ u->seed[0]) * (u->seed[1] | 1);

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_of(const struct unpack *u, uint64_t parent, const char *name)
{
    uint64_t h = mixed(u, parent);

    for (; *name; name++)
        h = mixed(u, h ^ (uint8_t)*name);
    return h;
}

int note_made(struct unpack *u, uint64_t parent, const char *name)
{
    if (is_applied(u) && keyset_add(&u->made, hash_of(u, parent, name)) < 0)
        return fault_system(u->fault, "malloc", ENOMEM);
    return 0;
}

static bool was_made(const struct unpack *u, uint64_t parent, const char *name)
{
    return keyset_has(&u->made, hash_of(u, parent, name));
}

/* The directory `fd` and those above it get something of this layer: a whiteout of one of them has
 * to look inside.  The empty name stands for the directory itself. */
int note_holders(struct unpack *u, int fd)
{
    struct stat root, st;
    int here = dup(fd), above, added = 0;

    if (here < 0 || fstat(u->options->root, &root) || fstat(here, &st)) {
        added = fault_system(u->fault, "fstat", errno);
        st = root = (struct stat){0};
    }
    while (added >= 0 && (st.st_ino != root.st_ino || st.st_dev != root.st_dev)) {
        added = keyset_add(&u->made, hash_of(u, st.st_ino, ""));
        if (added == 0)
            break;
        above = openat(here, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (added < 0 || above < 0 || fstat(above, &st))
            added = fault_system(u->fault, "openat", added < 0 ? ENOMEM : errno);
        if (above >= 0) {
            close(here);
            here = above;
        }
    }
    if (here >= 0)
        close(here);
    return added < 0 ? added : 0;
}

static bool is_holder(const struct unpack *u, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && was_made(u, st.st_ino, "");
}

int mark_opaque(struct unpack *u, int fd)
{
    if (fsetxattr(fd, u->options->opaque_xattr, "y", 1, 0))
        return fault_system(u->fault, "fsetxattr", errno);
    return 0;
}

int open_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd >= 0 ? fd : -errno;
}

static int purge(struct unpack *u, int fd);

static int purge_entry(struct unpack *u, int fd, uint64_t inode, const char *name)
{
    bool is_ours = was_made(u, inode, name);
    int below = open_directory(fd, name), error;

    if (below < 0 && below != -ENOTDIR && below != -ELOOP)
        return fault_system(u->fault, "openat", -below);
    if (below >= 0 && (is_ours || is_holder(u, below)))
        error = purge(u, below);
    else
        error = is_ours ? 0 : tree_remove(fd, name);
    if (below >= 0)
        close(below);
    distrust_parent(u);
    return error && u->fault->kind == FAULT_NONE ? fault_system(u->fault, "unlinkat", -error)
                                                 : error;
}

/* Delete below `fd` all that this layer did not make.  As deep as this layer's names at most. */
static int purge(struct unpack *u, int fd)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    const struct dirent *entry;
    struct stat st;
    int error = 0;

    if (!dir || fstat(fd, &st)) {
        error = fault_system(u->fault, "opendir", errno);
        if (dir)
            closedir(dir);
        else if (again >= 0)
            close(again);
        return error;
    }
    while (!error && (errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = purge_entry(u, fd, st.st_ino, entry->d_name);
    if (!error && errno)
        error = fault_system(u->fault, "readdir", errno);
    closedir(dir);
    return error;
}

int make_opaque(struct unpack *u)
{
    return is_applied(u) ? purge(u, u->parent) : mark_opaque(u, u->parent);
}

static int apply_whiteout(struct unpack *u, const char *name)
{
    struct stat st;

    if (fstatat(u->parent, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : fault_system(u->fault, "fstatat", errno);
    return purge_entry(u, u->parent, u->parent_inode, name);
}

static int mark_whiteout(struct unpack *u, const char *name)
{
    int fd, error;

    if (mknodat(u->parent, name, S_IFCHR, 0) == 0)
        return 0;
    if (errno != EEXIST)
        return fault_system(u->fault, "mknodat", errno);
    /* This layer has the name: a directory hides what is below it, anything else hides by itself.
     */
    fd = open_directory(u->parent, name);
    if (fd == -ENOTDIR || fd == -ELOOP)
        return 0;
    if (fd < 0)
        return fault_system(u->fault, "openat", -fd);
    error = mark_opaque(u, fd);
    close(fd);
    return error;
}

int make_whiteout(struct unpack *u, const char *name)
{
    name += strlen(WHITEOUT);
    if (name[0] == 0 || !strcmp(name, ".") || !strcmp(name, ".."))
        return fault_unsafe(u->fault, "whiteout of nothing");
    return is_applied(u) ? apply_whiteout(u, name) : mark_whiteout(u, name);
}

/* 1: aufs' own notes, which mean nothing to us; 0: go on; -errno: a whiteout's name as a folder. */
int check_components(struct unpack *u)
{
    const struct name *name = &u->name;

    for (const char *at = name->path; *at; at += strcspn(at, "/"), at += *at == '/') {
        if (strncmp(at, WHITEOUT, strlen(WHITEOUT)) != 0)
            continue;
        if (at == name->last && !strcmp(at, WHITEOUT_OPAQUE))
            return 0;
        if (!strncmp(at, WHITEOUT_META, strlen(WHITEOUT_META)))
            return 1;
        if (at != name->last)
            return fault_unsafe(u->fault, "whiteout with something below it");
    }
    return 0;
}
