/* What one turn of the poll loop waits for.  Each part of the monitor adds its descriptors and
 * keeps the slot that it got; a slot is good for one turn. */
#ifndef SANDBOX_POLLSET_H
#define SANDBOX_POLLSET_H

#include <poll.h>

#define POLLSET_SIZE 128
#define NO_SLOT (-1)

struct pollset {
    struct pollfd fds[POLLSET_SIZE];
    int count;
};

static inline int pollset_add(struct pollset *set, int fd, short events)
{
    if (fd < 0 || set->count == POLLSET_SIZE)
        return NO_SLOT;
    set->fds[set->count] = (struct pollfd){.fd = fd, .events = events};
    return set->count++;
}

/* True too for errors and hang-ups: the call that follows finds out what it is. */
static inline int pollset_ready(const struct pollset *set, int slot)
{
    return slot != NO_SLOT && set->fds[slot].revents != 0;
}

#endif
