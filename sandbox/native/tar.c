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
#include "tar.h"

#include <limits.h>
#include <stdlib.h>

#define BLOCK 512u
#define MAX_DIGITS 20

struct pax {
    bool has_uid, has_gid, has_size, has_mtime;
    int64_t uid, gid, size, mtime;
    uint32_t mtime_ns;
    const char *path, *linkpath;
    /* GNU.sparse.* */
    const char *sparse_name, *sparse_map;
    bool has_real_size, has_major;
    int64_t real_size, sparse_major, sparse_minor, sparse_offset;
    bool has_offset, has_pairs;
};

struct tar {
    struct stream *stream;
    struct fault *fault;
    struct tar_bounds bounds;
    uint64_t left;    /* data of the present entry not yet taken */
    uint32_t padding; /* behind it */
    uint8_t block[BLOCK];
    char *name, *link; /* max_path + 1 bytes each */
    bool has_long_name, has_long_link;
    char *extended; /* the extended headers of this entry, one behind the other */
    size_t extended_len;
    struct pax global;
    struct tar_xattr *xattrs;
    size_t xattr_count, xattr_room;
    struct tar_segment *segments;
    size_t segment_count, segment_room;
};

/* Where things are in a header block. */
#define AT_NAME 0
#define AT_MODE 100
#define AT_UID 108
#define AT_GID 116
#define AT_SIZE 124
#define AT_MTIME 136
#define AT_CHECKSUM 148
#define AT_TYPE 156
#define AT_LINK 157
#define AT_MAGIC 257
#define AT_MAJOR 329
#define AT_MINOR 337
#define AT_PREFIX 345
#define AT_GNU_SPARSE 386
#define AT_GNU_EXTENDED 482
#define AT_GNU_REAL_SIZE 483
#define AT_STAR_TRAILER 508

/* ---- bytes ---- */

/* Copy `size` bytes; *at_end tells an end before the first byte from one in the middle. */
static int take(struct tar *t, void *into, size_t size, bool *at_end)
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

static int skip(struct tar *t, uint64_t size)
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

static uint32_t padding_of(uint64_t size)
{
    return (uint32_t)(-size & (BLOCK - 1));
}

/* ---- numbers ---- */

static int bad_header(struct tar *t, const char *what)
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

static int parse_field(const uint8_t *field, size_t size, int64_t *value)
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

static int field_at(struct tar *t, size_t at, size_t size, int64_t most, const char *what,
                    int64_t *value)
{
    if (parse_field(t->block + at, size, value))
        return bad_header(t, what);
    if (*value < 0 || *value > most)
        return fault_unsafe(t->fault, "%s out of range", what);
    return 0;
}

/* Digits and nothing else. */
static int parse_decimal(const char *text, size_t len, int64_t *value)
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

/* [-]SECONDS[.FRACTION], the fraction cut to nanoseconds, as integers all the way. */
static int parse_time(const char *text, int64_t *seconds, uint32_t *nanoseconds)
{
    bool is_negative = *text == '-';
    uint32_t ns = 0, scale = 100000000;
    size_t len;

    text += is_negative;
    len = strcspn(text, ".");
    if (parse_decimal(text, len, seconds))
        return -EINVAL;
    if (text[len] == '.') {
        for (const char *p = text + len + 1; *p; p++, scale /= 10) {
            if (*p < '0' || *p > '9')
                return -EINVAL;
            ns += (uint32_t)(*p - '0') * scale;
        }
    }
    if (is_negative) {
        *seconds = -*seconds - (ns > 0);
        ns = ns > 0 ? 1000000000 - ns : 0;
    }
    *nanoseconds = ns;
    return 0;
}

/* ---- extended headers ---- */

static int grow(struct tar *t, void **array, size_t *room, size_t size, size_t most)
{
    size_t more = *room ? *room * 2 : 16;
    void *bigger;

    if (more > most * 2)
        return fault_unsafe(t->fault, "too many parts in one entry");
    bigger = realloc(*array, more * size);
    if (!bigger)
        return fault_system(t->fault, "malloc", ENOMEM);
    *array = bigger;
    *room = more;
    return 0;
}

static int add_segment(struct tar *t, int64_t offset, int64_t size)
{
    if (t->segment_count >= t->bounds.max_segments)
        return fault_unsafe(t->fault, "sparse file of more than %u pieces", t->bounds.max_segments);
    if (t->segment_count == t->segment_room) {
        int error = grow(t, (void **)&t->segments, &t->segment_room, sizeof *t->segments,
                         t->bounds.max_segments);

        if (error)
            return error;
    }
    t->segments[t->segment_count++] =
        (struct tar_segment){.offset = (uint64_t)offset, .size = (uint64_t)size};
    return 0;
}

static int add_xattr(struct tar *t, const char *name, const char *value, size_t size)
{
    if (name[0] == 0 || strlen(name) > 255)
        return fault_unsafe(t->fault, "extended attribute with a name of %zu bytes", strlen(name));
    if (size > t->bounds.max_xattr)
        return fault_unsafe(t->fault, "extended attribute of %zu bytes", size);
    for (size_t i = 0; i < t->xattr_count; i++) {
        if (!strcmp(t->xattrs[i].name, name)) {
            t->xattrs[i].value = (const uint8_t *)value;
            t->xattrs[i].size = size;
            return 0;
        }
    }
    if (t->xattr_count == t->xattr_room) {
        int error = grow(t, (void **)&t->xattrs, &t->xattr_room, sizeof *t->xattrs, 1024);

        if (error)
            return error;
    }
    t->xattrs[t->xattr_count++] =
        (struct tar_xattr){.name = name, .value = (const uint8_t *)value, .size = size};
    return 0;
}

static int bad_record(struct tar *t, const char *key)
{
    return fault_damaged(t->fault, "invalid tar header: extended record %.80s", key);
}

static int number_record(struct tar *t, const char *key, const char *value, size_t size, bool *has,
                         int64_t *number)
{
    *has = size > 0;
    if (*has && parse_decimal(value, size, number))
        return bad_record(t, key);
    return 0;
}

static int sparse_record(struct tar *t, struct pax *pax, const char *key, const char *value,
                         size_t size)
{
    bool has;

    if (!strcmp(key, "name")) {
        pax->sparse_name = size ? value : NULL;
    } else if (!strcmp(key, "realsize") || !strcmp(key, "size")) {
        return number_record(t, key, value, size, &pax->has_real_size, &pax->real_size);
    } else if (!strcmp(key, "major")) {
        return number_record(t, key, value, size, &pax->has_major, &pax->sparse_major);
    } else if (!strcmp(key, "minor")) {
        return number_record(t, key, value, size, &has, &pax->sparse_minor);
    } else if (!strcmp(key, "map")) {
        pax->sparse_map = value;
    } else if (!strcmp(key, "offset")) {
        pax->has_pairs = true;
        return number_record(t, key, value, size, &pax->has_offset, &pax->sparse_offset);
    } else if (!strcmp(key, "numbytes")) {
        int64_t bytes = 0;
        int error = number_record(t, key, value, size, &has, &bytes);

        if (error)
            return error;
        if (!has || !pax->has_offset)
            return bad_record(t, key);
        pax->has_offset = false;
        return add_segment(t, pax->sparse_offset, bytes);
    }
    return 0;
}

/* One record; `value` has a NUL behind its `size` bytes. */
static int pax_record(struct tar *t, struct pax *pax, bool is_global, const char *key,
                      const char *value, size_t size)
{
    bool names = !strcmp(key, "path") || !strcmp(key, "linkpath");

    if (is_global && (names || !strcmp(key, "size") || !strncmp(key, "GNU.sparse.", 11)))
        return fault_damaged(t->fault, "invalid tar header: global %s", key);
    if (names || !strcmp(key, "GNU.sparse.name")) {
        if (memchr(value, 0, size))
            return fault_unsafe(t->fault, "a name with a NUL inside");
        if (size > t->bounds.max_path)
            return fault_unsafe(t->fault, "a name of %zu bytes", size);
    }
    if (!strcmp(key, "path")) {
        pax->path = size ? value : NULL;
    } else if (!strcmp(key, "linkpath")) {
        pax->linkpath = size ? value : NULL;
    } else if (!strcmp(key, "size")) {
        return number_record(t, key, value, size, &pax->has_size, &pax->size);
    } else if (!strcmp(key, "uid")) {
        return number_record(t, key, value, size, &pax->has_uid, &pax->uid);
    } else if (!strcmp(key, "gid")) {
        return number_record(t, key, value, size, &pax->has_gid, &pax->gid);
    } else if (!strcmp(key, "mtime")) {
        pax->has_mtime = size > 0;
        if (pax->has_mtime &&
            (memchr(value, 0, size) || parse_time(value, &pax->mtime, &pax->mtime_ns)))
            return bad_record(t, key);
    } else if (!strncmp(key, "SCHILY.xattr.", 13) && !is_global) {
        return add_xattr(t, key + 13, value, size);
    } else if (!strncmp(key, "GNU.sparse.", 11)) {
        return sparse_record(t, pax, key + 11, value, size);
    }
    return 0;
}

/* Records are "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
static int parse_pax(struct tar *t, struct pax *pax, bool is_global, char *text, size_t len)
{
    while (len > 0) {
        const char *space = memchr(text, ' ', len < MAX_DIGITS ? len : MAX_DIGITS);
        char *end, *equals;
        int64_t size;
        int error;

        if (!space || parse_decimal(text, (size_t)(space - text), &size))
            return bad_header(t, "extended record without a length");
        if (size > (int64_t)len || size < (space - text) + 3)
            return bad_header(t, "extended record of a wrong length");
        end = text + size - 1;
        equals = memchr(space + 1, '=', (size_t)(end - space - 1));
        if (*end != '\n' || !equals || equals == space + 1)
            return bad_header(t, "extended record without a key");
        *end = 0;
        *equals = 0;
        if (strlen(space + 1) != (size_t)(equals - space - 1))
            return bad_header(t, "extended record with a NUL in its key");
        error = pax_record(t, pax, is_global, space + 1, equals + 1, (size_t)(end - equals - 1));
        if (error)
            return error;
        text += size;
        len -= (size_t)size;
    }
    return 0;
}

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

/* ---- sparse files ---- */

static int old_gnu_pairs(struct tar *t, const uint8_t *at, int count, bool *over)
{
    for (int i = 0; i < count && !*over; i++, at += 24) {
        int64_t offset, size;
        int error;

        if (at[0] == 0) {
            *over = true;
            break;
        }
        if (parse_field(at, 12, &offset) || parse_field(at + 12, 12, &size) || offset < 0 ||
            size < 0)
            return bad_header(t, "sparse map");
        error = add_segment(t, offset, size);
        if (error)
            return error;
    }
    return 0;
}

static int read_old_gnu_map(struct tar *t, struct tar_entry *entry)
{
    bool over = false, more = t->block[AT_GNU_EXTENDED] != 0;
    int64_t real_size;
    int error = old_gnu_pairs(t, t->block + AT_GNU_SPARSE, 4, &over);

    if (!error)
        error = field_at(t, AT_GNU_REAL_SIZE, 12, INT64_MAX, "real size", &real_size);
    while (!error && more) {
        uint8_t block[BLOCK];

        error = take(t, block, BLOCK, NULL);
        if (!error) {
            more = block[504] != 0;
            error = old_gnu_pairs(t, block, 21, &over);
        }
    }
    if (!error)
        entry->size = (uint64_t)real_size;
    return error;
}

/* Format 0.1: "offset,size,offset,size,..." */
static int parse_map_record(struct tar *t, const char *map)
{
    int64_t pair[2];
    int half = 0;

    t->segment_count = 0;
    while (*map) {
        size_t len = strcspn(map, ",");

        if (parse_decimal(map, len, &pair[half]))
            return bad_header(t, "sparse map");
        if (half == 1) {
            int error = add_segment(t, pair[0], pair[1]);

            if (error)
                return error;
        }
        half = !half;
        map += len + (map[len] == ',');
    }
    return half ? bad_header(t, "sparse map") : 0;
}

/* Format 1.0: decimal lines in front of the data, filled up to whole blocks. */
struct map_lines {
    uint8_t block[BLOCK];
    size_t at; /* BLOCK: nothing read yet */
};

static int map_line(struct tar *t, struct map_lines *lines, int64_t *value)
{
    char text[MAX_DIGITS + 1];
    size_t len = 0;

    for (;;) {
        uint8_t c;

        if (lines->at == BLOCK) {
            int error;

            if (t->left < BLOCK)
                return bad_header(t, "sparse map");
            error = take(t, lines->block, BLOCK, NULL);
            if (error)
                return error;
            t->left -= BLOCK;
            lines->at = 0;
        }
        c = lines->block[lines->at++];
        if (c == '\n')
            break;
        if (len == MAX_DIGITS)
            return bad_header(t, "sparse map");
        text[len++] = (char)c;
    }
    return parse_decimal(text, len, value) ? bad_header(t, "sparse map") : 0;
}

static int read_map_lines(struct tar *t)
{
    struct map_lines lines = {.at = BLOCK};
    int64_t count, offset, size;
    int error = map_line(t, &lines, &count);

    t->segment_count = 0;
    for (int64_t i = 0; !error && i < count; i++) {
        error = map_line(t, &lines, &offset);
        if (!error)
            error = map_line(t, &lines, &size);
        if (!error)
            error = add_segment(t, offset, size);
    }
    return error;
}

static int check_segments(struct tar *t, const struct tar_entry *entry)
{
    uint64_t at = 0, total = 0;

    for (size_t i = 0; i < t->segment_count; i++) {
        const struct tar_segment *s = &t->segments[i];

        if (s->offset < at || s->offset > entry->size || s->size > entry->size - s->offset)
            return bad_header(t, "sparse map");
        at = s->offset + s->size;
        total += s->size;
    }
    if (total != t->left)
        return bad_header(t, "sparse map");
    return 0;
}

static int read_pax_sparse(struct tar *t, const struct pax *pax, struct tar_entry *entry)
{
    int error = 0;

    if (!pax->has_real_size || pax->has_offset)
        return bad_header(t, "sparse map");
    if (pax->has_major && pax->sparse_major == 1 && pax->sparse_minor == 0)
        error = read_map_lines(t);
    else if (pax->has_major && pax->sparse_major != 0)
        error = bad_header(t, "sparse format");
    else if (pax->sparse_map)
        error = parse_map_record(t, pax->sparse_map);
    entry->size = (uint64_t)pax->real_size;
    return error;
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
