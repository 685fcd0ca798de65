/* The ids of a user namespace, as the host has them. */
#ifndef SANDBOX_IDRANGE_H
#define SANDBOX_IDRANGE_H

#include <stdbool.h>
#include <stdint.h>

struct id_range {
    uint32_t inside, outside, count;
};

/* Without ranges there is no such namespace, and an id is the same on both sides.  False: it is
 * not mapped. */
static inline bool id_outside(const struct id_range *ranges, uint32_t count, uint32_t inside,
                              uint32_t *outside)
{
    *outside = inside;
    for (uint32_t i = 0; i < count; i++)
        if (inside >= ranges[i].inside && inside - ranges[i].inside < ranges[i].count) {
            *outside = ranges[i].outside + (inside - ranges[i].inside);
            return true;
        }
    return count == 0;
}

#define ID_NOBODY 65534u /* as the kernel shows what is not mapped */

static inline uint32_t id_inside(const struct id_range *ranges, uint32_t count, uint32_t outside)
{
    for (uint32_t i = 0; i < count; i++)
        if (outside >= ranges[i].outside && outside - ranges[i].outside < ranges[i].count)
            return ranges[i].inside + (outside - ranges[i].outside);
    return count == 0 ? outside : ID_NOBODY;
}

#endif
