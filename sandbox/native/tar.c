/* Entries of a tar stream.
 *
 * May assume: nothing about the bytes.  Every header's checksum is verified, every number parsed as
 * an integer with its overflow, every length compared with what is really there before it is used.
 * Memory is bounded by struct tar_bounds: one block, one name, one link, the extended headers of
 * one entry and its sparse map.  What a name means in a folder is not known here (unpack.c).
 *
 * Where the field disagrees: an extended header wins over the old GNU long name; a global header
 * may give owner and times, not names or sizes; directories, links, devices and fifos have no data
 * whatever their size says (as docker's and the Go reader do); an unknown type is refused, since
 * guessing would make a tree that differs from everyone else's.
 */
#include "tarreader.h"

#include <limits.h>
#include <stdlib.h>

/* ---- bytes ---- */

/* Copy `size` bytes; *at_end tells an end before the first byte from one in the middle. */
int take(struct tar *t, void *into, size_t size, bool *at_end)
{
    size_t got = 0;

    while (got < size) {
        const uint8_t *data;
        size_t n;
        int error = stream_window(t->stream, &data, &n);

        if (error)
            return error;
        if (n == 0) {
            if (at_end && got == 0) {
                *at_end = true;
                return 0;
            }
            return fault_damaged(t->fault, "unexpected EOF");
        }
        if (n > size - got)
            n = size - got;
        memcpy((uint8_t *)into + got, data, n);
        stream_advance(t->stream, n);
        got += n;
    }
    return 0;
}

int skip(struct tar *t, uint64_t size)
{
    while (size > 0) {
        const uint8_t *data;
        size_t n;
        int error = stream_window(t->stream, &data, &n);

        if (error)
            return error;
        if (n == 0)
            return fault_damaged(t->fault, "unexpected EOF");
        if (n > size)
            n = (size_t)size;
        stream_advance(t->stream, n);
        size -= n;
    }
    return 0;
}

/* ---- numbers ---- */

int bad_header(struct tar *t, const char *what)
{
    return fault_damaged(t->fault, "invalid tar header: %s", what);
}

/* Big-endian two's complement, marked by the top bit of the first byte. */
static int parse_base256(const uint8_t *field, size_t size, int64_t *value)
{
    uint8_t flip = field[0] & 0x40 ? 0xff : 0;
    uint64_t x = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = field[i] ^ flip;

        if (i == 0)
            byte &= 0x7f;
        if (x >> 56)
            return -ERANGE;
        x = x << 8 | byte;
    }
    if (x >> 63)
        return -ERANGE;
    *value = flip ? (int64_t)~x : (int64_t)x;
    return 0;
}

int parse_field(const uint8_t *field, size_t size, int64_t *value)
{
    uint64_t x = 0;
    size_t i = 0;

    if (field[0] & 0x80)
        return parse_base256(field, size, value);
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
        if (x >> 60)
            return -ERANGE;
        x = x << 3 | (uint64_t)(field[i] - '0');
    }
    if (i < size && field[i] != ' ' && field[i] != 0)
        return -EINVAL;
    *value = (int64_t)x;
    return 0;
}

int field_at(struct tar *t, size_t at, size_t size, int64_t most, const char *what, int64_t *value)
{
    if (parse_field(t->block + at, size, value))
        return bad_header(t, what);
    if (*value < 0 || *value > most)
        return fault_unsafe(t->fault, "%s out of range", what);
    return 0;
}

/* Digits and nothing else. */
int parse_decimal(const char *text, size_t len, int64_t *value)
{
    int64_t x = 0;

    if (len == 0 || len > MAX_DIGITS)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, text[i] - '0', &x))
            return -ERANGE;
    }
    *value = x;
    return 0;
}

/* ---- headers in front of an entry ---- */

/* Append the body of an 'x' or 'g' header. */
static int read_extended(struct tar *t, uint64_t size)
{
    char *bigger;
    int error;

    if (size > t->bounds.max_pax || t->extended_len + size > t->bounds.max_pax)
        return fault_unsafe(t->fault, "extended header of more than %u bytes", t->bounds.max_pax);
    bigger = realloc(t->extended, t->extended_len + size + 1);
    if (!bigger)
        return fault_system(t->fault, "malloc", ENOMEM);
    t->extended = bigger;
    error = take(t, t->extended + t->extended_len, size, NULL);
    if (!error)
        error = skip(t, padding_of(size));
    return error;
}

static int read_global(struct tar *t, uint64_t size)
{
    int error = read_extended(t, size);

    if (!error)
        error = parse_pax(t, &t->global, true, t->extended + t->extended_len, size);
    return error;
}

/* The body of an 'L' or 'K' header: a name with its NUL. */
static int read_long(struct tar *t, uint64_t size, char *into)
{
    size_t len = (size_t)size;
    int error;

    if (size > t->bounds.max_path + 1)
        return fault_unsafe(t->fault, "a name of %llu bytes", (unsigned long long)size);
    error = take(t, into, len, NULL);
    if (error)
        return error;
    while (len > 0 && into[len - 1] == 0)
        len--;
    into[len] = 0;
    if (strlen(into) != len)
        return fault_unsafe(t->fault, "a name with a NUL inside");
    return skip(t, padding_of(size));
}

/* ---- entries ---- */

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && !memcmp(block, block + 1, BLOCK - 1);
}

static bool checksum_holds(const struct tar *t)
{
    int64_t stored, plain = 0, with_sign = 0;

    if (parse_field(t->block + AT_CHECKSUM, 8, &stored))
        return false;
    for (size_t i = 0; i < BLOCK; i++) {
        uint8_t c = i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : t->block[i];

        plain += c;
        with_sign += (int8_t)c;
    }
    return stored == plain || stored == with_sign;
}

/* The next header; 1: it is in t->block, 0: the end of the archive. */
static int read_header(struct tar *t)
{
    bool at_end = false;
    int error = take(t, t->block, BLOCK, &at_end);

    if (error)
        return error;
    if (!at_end && !is_zero(t->block)) {
        if (!checksum_holds(t))
            return bad_header(t, "wrong checksum");
        return 1;
    }
    if (!at_end) {
        error = take(t, t->block, BLOCK, &at_end);
        if (error)
            return error;
        if (!at_end)
            return is_zero(t->block) ? 0 : bad_header(t, "data behind a zero block");
    }
    if (!stream_end_is_proven(t->stream))
        return fault_damaged(t->fault, "unexpected EOF: no end of archive");
    return 0;
}

static void name_from_header(struct tar *t)
{
    size_t prefix = 0, size = 155;
    char *name = t->name;

    if (!memcmp(t->block + AT_MAGIC, "ustar", 6)) {
        if (!memcmp(t->block + AT_STAR_TRAILER, "tar", 4))
            size = 131;
        prefix = strnlen((char *)t->block + AT_PREFIX, size);
    }
    if (prefix) {
        memcpy(name, t->block + AT_PREFIX, prefix);
        name[prefix] = '/';
        name += prefix + 1;
    }
    size = strnlen((char *)t->block + AT_NAME, 100);
    memcpy(name, t->block + AT_NAME, size);
    name[size] = 0;
}

static void link_from_header(struct tar *t)
{
    size_t size = strnlen((char *)t->block + AT_LINK, 100);

    memcpy(t->link, t->block + AT_LINK, size);
    t->link[size] = 0;
}

static int owner(struct tar *t, bool has, int64_t given, size_t at, const char *what, uint32_t *id)
{
    /* The last id means "leave it" to chown. */
    const int64_t most = 0xfffffffe;

    if (!has) {
        int error = field_at(t, at, 8, most, what, &given);

        if (error)
            return error;
    } else if (given > most) {
        return fault_unsafe(t->fault, "%s out of range", what);
    }
    *id = (uint32_t)given;
    return 0;
}

static int fill_numbers(struct tar *t, const struct pax *pax, struct tar_entry *entry)
{
    int64_t value;
    int error = owner(t, pax->has_uid, pax->uid, AT_UID, "uid", &entry->uid);

    if (!error)
        error = owner(t, pax->has_gid, pax->gid, AT_GID, "gid", &entry->gid);
    if (!error)
        error = field_at(t, AT_MODE, 8, INT32_MAX, "mode", &value);
    if (error)
        return error;
    entry->mode = (uint32_t)value & 07777;
    if (pax->has_mtime) {
        entry->mtime = pax->mtime;
        entry->mtime_ns = pax->mtime_ns;
    } else if (parse_field(t->block + AT_MTIME, 12, &entry->mtime)) {
        return bad_header(t, "mtime");
    }
    if (entry->type == '3' || entry->type == '4') {
        error = field_at(t, AT_MAJOR, 8, (1 << 12) - 1, "major number", &value);
        entry->major = (uint32_t)value;
        if (!error)
            error = field_at(t, AT_MINOR, 8, (1 << 20) - 1, "minor number", &value);
        entry->minor = (uint32_t)value;
    }
    return error;
}

static int fill_names(struct tar *t, const struct pax *pax, struct tar_entry *entry)
{
    if (!t->has_long_name)
        name_from_header(t);
    if (!t->has_long_link)
        link_from_header(t);
    entry->name = pax->sparse_name ? pax->sparse_name : pax->path ? pax->path : t->name;
    entry->link = pax->linkpath ? pax->linkpath : t->link;
    if (entry->name[0] == 0)
        return fault_unsafe(t->fault, "empty name");
    return 0;
}

static int fill_data(struct tar *t, const struct pax *pax, struct tar_entry *entry, char type)
{
    int64_t size = pax->size;
    int error = pax->has_size ? 0 : field_at(t, AT_SIZE, 12, INT64_MAX, "size", &size);

    if (error)
        return error;
    if (type == 'S') {
        if (memcmp(t->block + AT_MAGIC, "ustar  ", 8) != 0)
            return bad_header(t, "sparse file in another format than GNU's");
        error = read_old_gnu_map(t, entry);
        if (error)
            return error;
    }
    if (type >= '1' && type <= '6')
        size = 0;
    if (size > INT64_MAX - (int64_t)BLOCK)
        return fault_unsafe(t->fault, "size out of range");
    t->left = (uint64_t)size;
    t->padding = padding_of(t->left);
    if (type == 'S') {
        entry->is_sparse = true;
        return check_segments(t, entry);
    }
    if (entry->type == '0' && (pax->has_major || pax->sparse_map || pax->has_pairs)) {
        entry->is_sparse = true;
        error = read_pax_sparse(t, pax, entry);
        return error ? error : check_segments(t, entry);
    }
    if (entry->type == '0')
        entry->size = t->left;
    return 0;
}

/* What kind of entry a type flag stands for; 0: none that we know. */
static char kind_of(char type, const char *name)
{
    size_t len = strlen(name);

    switch (type) {
    case 0:
    case '0':
    case '7':
        /* How archives from before ustar spell a directory. */
        return len > 0 && name[len - 1] == '/' ? '5' : '0';
    case 'S':
        return '0';
    case 'D':
        return '5';
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
        return type;
    default:
        return 0;
    }
}

static int fill_entry(struct tar *t, struct tar_entry *entry)
{
    struct pax pax = t->global;
    char type = (char)t->block[AT_TYPE];
    int error;

    *entry = (struct tar_entry){0};
    error = parse_pax(t, &pax, false, t->extended, t->extended_len);
    if (error)
        return error;
    error = fill_names(t, &pax, entry);
    if (error)
        return error;
    entry->type = kind_of(type, entry->name);
    if (entry->type == 0)
        return fault_damaged(t->fault, "unhandled tar header type %d", (uint8_t)type);
    error = fill_numbers(t, &pax, entry);
    if (!error)
        error = fill_data(t, &pax, entry, type);
    entry->xattrs = t->xattrs;
    entry->xattr_count = t->xattr_count;
    entry->segments = t->segments;
    entry->segment_count = t->segment_count;
    return error;
}

/* Headers that belong to the entry behind them; 1: the block was one of those. */
static int take_prelude(struct tar *t)
{
    char type = (char)t->block[AT_TYPE];
    int64_t size;
    int error;

    if (!type || !strchr("xXgLKV", type))
        return 0;
    error = field_at(t, AT_SIZE, 12, INT64_MAX, "size", &size);
    if (error)
        return error;
    if (type == 'g') {
        error = read_global(t, (uint64_t)size);
    } else if (type == 'L') {
        t->has_long_name = true;
        error = read_long(t, (uint64_t)size, t->name);
    } else if (type == 'K') {
        t->has_long_link = true;
        error = read_long(t, (uint64_t)size, t->link);
    } else if (type != 'V') {
        error = read_extended(t, (uint64_t)size);
        if (!error)
            t->extended_len += (size_t)size;
    }
    return error ? error : 1;
}

int tar_next(struct tar *t, struct tar_entry *entry)
{
    bool expects_entry = false;
    int result = skip(t, t->left + t->padding);

    t->left = t->padding = 0;
    t->has_long_name = t->has_long_link = false;
    t->extended_len = t->xattr_count = t->segment_count = 0;
    if (result)
        return result;
    for (;;) {
        char type;

        result = read_header(t);
        if (result < 0)
            return result;
        if (result == 0)
            return expects_entry
                       ? fault_damaged(t->fault, "unexpected EOF: a header without its entry")
                       : 0;
        type = (char)t->block[AT_TYPE];
        result = take_prelude(t);
        if (result < 0)
            return result;
        if (result == 0)
            break;
        expects_entry |= type != 'g' && type != 'V';
    }
    result = fill_entry(t, entry);
    if (result && entry->name)
        snprintf(t->fault->entry, sizeof t->fault->entry, "%s", entry->name);
    return result ? result : 1;
}

int tar_data(struct tar *t, const uint8_t **data, size_t *size)
{
    int error;

    *size = 0;
    if (t->left == 0)
        return 0;
    error = stream_window(t->stream, data, size);
    if (error)
        return error;
    if (*size == 0)
        return fault_damaged(t->fault, "unexpected EOF");
    if (*size > t->left)
        *size = (size_t)t->left;
    return 0;
}

void tar_advance(struct tar *t, size_t size)
{
    t->left -= size;
    stream_advance(t->stream, size);
}

int tar_open(struct tar **tar, struct stream *stream, const struct tar_bounds *bounds,
             struct fault *fault)
{
    struct tar *t = calloc(1, sizeof *t);

    *tar = NULL;
    if (!t)
        return fault_system(fault, "malloc", ENOMEM);
    t->stream = stream;
    t->fault = fault;
    t->bounds = *bounds;
    if (t->bounds.max_path > PATH_MAX - 1)
        t->bounds.max_path = PATH_MAX - 1;
    if (t->bounds.max_path < 256)
        t->bounds.max_path = 256;
    t->name = malloc(t->bounds.max_path + 2);
    t->link = malloc(t->bounds.max_path + 2);
    if (!t->name || !t->link) {
        tar_close(t);
        return fault_system(fault, "malloc", ENOMEM);
    }
    *tar = t;
    return 0;
}

void tar_close(struct tar *t)
{
    if (!t)
        return;
    free(t->name);
    free(t->link);
    free(t->extended);
    free(t->xattrs);
    free(t->segments);
    free(t);
}
