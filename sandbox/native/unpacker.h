/* What the files of the unpacker share; outside them there is unpack.h. */
#ifndef SANDBOX_UNPACKER_H
#define SANDBOX_UNPACKER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "keyset.h"
#include "unpack.h"

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct directory;

struct name {
    char path[PATH_MAX]; /* clean: no empty, `.` or `..` component; empty is the root itself */
    size_t len, parent_len;
    const char *last;
};

struct unpack {
    const struct unpack_options *options;
    struct progress *progress;
    struct unpack_result *result;
    struct fault *fault;
    struct tar *tar;
    const struct tar_entry *entry;
    struct name name, target;

    int parent; /* of the last entry; root itself is never closed */
    uint64_t parent_inode;
    char parent_path[PATH_MAX]; /* as the archive has it */
    char parent_real[PATH_MAX]; /* without links */

    struct directory *directories;
    size_t directory_count, directory_room;
    char *texts;
    size_t texts_len, texts_room;

    struct keyset made; /* applied form only */
    uint64_t seed[2];
};

static inline bool is_applied(const struct unpack *u)
{
    return u->options->flags & UNPACK_APPLY;
}

static inline bool is_rootless(const struct unpack *u)
{
    return u->options->flags & UNPACK_ROOTLESS;
}

static inline bool is_copy(const struct unpack *u)
{
    return u->options->flags & UNPACK_COPY;
}

static inline bool is_stripped(const struct unpack *u)
{
    return u->options->flags & UNPACK_STRIPPED;
}

/* The mode that an object gets of the archive's. */
static inline uint32_t mode_for(const struct unpack *u, uint32_t mode)
{
    return is_stripped(u) ? mode & 01777 : mode;
}

static inline bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* ---- unpack.c ---- */

/* Something was taken away: the handle of the parent serves the present entry to its end, and is
 * looked for anew by the next one. */
void distrust_parent(struct unpack *u);

/* ---- unpackdirs.c ---- */

/* Remember what the open directory is to become; `path` is from the root, without links. */
int keep_directory(struct unpack *u, int fd, const char *path, bool is_implied);

/* Mode, default ACL and times of all that were kept; fills in result->implied. */
int finish_directories(struct unpack *u);

/* ---- whiteouts.c ---- */

/* This layer made `name` in the directory with this inode; that directory `fd` holds something. */
int note_made(struct unpack *u, uint64_t parent, const char *name);
int note_holders(struct unpack *u, int fd);

/* A descriptor, or -errno: -ENOTDIR for whatever is not a directory itself. */
int open_directory(int parent, const char *name);

int mark_opaque(struct unpack *u, int fd);

/* 1: u->name is of aufs' own notes, which mean nothing to us; 0: go on; -errno: a whiteout's name
 * with something below it. */
int check_components(struct unpack *u);

/* The two kinds of whiteout, in u->parent; `name` still has its prefix. */
int make_opaque(struct unpack *u);
int make_whiteout(struct unpack *u, const char *name);

#endif
