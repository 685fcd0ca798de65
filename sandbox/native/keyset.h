/* A set of 64-bit keys, open addressing, for inode numbers and hashes. */
#ifndef SANDBOX_KEYSET_H
#define SANDBOX_KEYSET_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

struct keyset {
    uint64_t *slots; /* 0 is empty, so key 0 is kept as 1 */
    size_t size, used;
};

static inline size_t keyset_slot(const struct keyset *set, uint64_t key)
{
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (set->size - 1);

    while (set->slots[at] && set->slots[at] != key)
        at = (at + 1) & (set->size - 1);
    return at;
}

static inline int keyset_has(const struct keyset *set, uint64_t key)
{
    key = key ? key : 1;
    return set->size && set->slots[keyset_slot(set, key)] == key;
}

/* 1: added, 0: it was there, -ENOMEM. */
static inline int keyset_add(struct keyset *set, uint64_t key)
{
    size_t at;

    key = key ? key : 1;
    if (set->used * 2 >= set->size) {
        struct keyset bigger = {.size = set->size ? set->size * 2 : 256};

        bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
        if (!bigger.slots)
            return -ENOMEM;
        for (size_t i = 0; i < set->size; i++)
            if (set->slots[i])
                bigger.slots[keyset_slot(&bigger, set->slots[i])] = set->slots[i];
        bigger.used = set->used;
        free(set->slots);
        *set = bigger;
    }
    at = keyset_slot(set, key);
    if (set->slots[at] == key)
        return 0;
    set->slots[at] = key;
    set->used++;
    return 1;
}

static inline void keyset_free(struct keyset *set)
{
    free(set->slots);
    *set = (struct keyset){0};
}

#endif
