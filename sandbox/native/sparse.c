/* Sparse files, in the five ways that GNU tar has written them.
 *
 * May assume: a reader that stands behind the entry's header, with its size in t->left.  A map is a
 * list of pieces; what it says is checked against the size of the data and of the file before a
 * byte is written.
 */
#include <stdlib.h>

#include "tarreader.h"

int grow(struct tar *t, void **array, size_t *room, size_t size, size_t most)
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

int add_segment(struct tar *t, int64_t offset, int64_t size)
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

int read_old_gnu_map(struct tar *t, struct tar_entry *entry)
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

int check_segments(struct tar *t, const struct tar_entry *entry)
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

int read_pax_sparse(struct tar *t, const struct pax *pax, struct tar_entry *entry)
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
