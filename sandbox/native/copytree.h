/* Copy a whole tree by handle, and move one into another folder. */
#ifndef SANDBOX_COPYTREE_H
#define SANDBOX_COPYTREE_H

#include <stdbool.h>

/* Make the empty folder `to` what the folder `from` is: owner, mode, times, extended attributes,
 * and everything below it, hard links and holes too.  Devices and sockets are left out; no link is
 * followed and no other mount entered.  With `durable` all of it is on the disk afterwards.
 * 0 or -errno; `to` then holds a part. */
int tree_copy(int from, int to, bool durable);

/* Move all that is in the folder `from` into the folder `to`, and then make `to` what `from` is.
 * What `to` has by the same name stays.  Broken off, the same again finishes it, but for the times.
 * 0 or -errno. */
int tree_move(int from, int to);

#endif
