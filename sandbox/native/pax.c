/* Extended headers: "LENGTH KEY=VALUE\n", again and again.
 *
 * May assume: a text that ends where it is said to end and can be written to; hostile in every
 * byte. A later record for the same key wins, and an empty value takes back what an earlier one
 * said.  Keys that mean nothing to a layer are passed over.
 */
#include <string.h>

#include "tarreader.h"

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
int parse_pax(struct tar *t, struct pax *pax, bool is_global, char *text, size_t len)
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
