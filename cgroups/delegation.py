"""Where a caller may make groups in the v2 tree, when it may not at the top.

systemd gives a user's manager a subtree; processes sit in its leaves, so the
controllers can be had only from the highest group that is still ours.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.detect import Hierarchy


def delegated(hierarchy: Hierarchy) -> str:
    """The highest group above (or at) the caller's own in which it may make groups.

    ``""`` is the top.  Both the directory and ``cgroup.procs`` must be ours: the
    kernel asks for the common ancestor's when a process is moved.
    """
    own = here = hierarchy.own
    while here:
        parent = here.rpartition("/")[0]
        path = hierarchy.mount + parent
        if not (os.access(path, os.W_OK) and os.access(path + "/cgroup.procs", os.W_OK)):
            break
        here = parent
    return here or own
