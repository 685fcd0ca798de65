"""Where a caller may make groups in the v2 tree, when it may not at the top.

systemd gives a user's manager a subtree; processes sit in its leaves, so the
controllers can be had only from the highest group that is still ours.
"""

from __future__ import annotations

import os
from errno import ESRCH

from cgroups import files
from cgroups.errors import FileError, GroupRefused, LimitUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cgroups.detect import Hierarchy, Layout

_ROUNDS = 20


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


def make_room(layout: Layout, *, leaf: str = "init") -> str:
    """Move every process of the caller's own v2 group into a leaf below it.

    A group with processes in it hands no controllers down, but for the top of the
    host.  Inside a container the caller's group looks like the top and is not; so
    this is what a container that is to hold others does first, once.  Returns the
    leaf; a layout detected before is out of date.
    """
    hierarchy = next((h for h in layout.hierarchies if h.version == 2), None)
    if hierarchy is None:
        raise LimitUnavailable("delegation", "no v2 tree is mounted here")
    group = hierarchy.mount + hierarchy.own
    path = f"{group}/{leaf}"
    try:
        files.make_directory(path)
    except FileExistsError:
        pass
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise GroupRefused(f"cannot make the group ({reason})", path=path) from error
    for _ in range(_ROUNDS):
        pids = files.read(group + "/cgroup.procs").split()
        if not pids:
            return path
        for pid in pids:
            try:
                files.write(path + "/cgroup.procs", pid)
            except FileError as error:
                if error.errno != ESRCH:
                    raise
    raise GroupRefused("processes are made faster than they can be moved", path=group)


def why_missing(path: str, controller: str) -> tuple[str, str]:
    """Why a v2 group lacks a controller: the reason, and a hint that may be empty."""
    here = path.rpartition("/")[0]
    while (text := files.read_if_present(here + "/cgroup.controllers")) is not None:
        if controller in text.split():
            if files.read_if_present(here + "/cgroup.procs"):
                reason = (
                    f"processes in {here} keep it from handing down the {controller} controller"
                )
                return reason, "move them into a group below, as delegation.make_room does"
            return f"{here} may not hand down the {controller} controller", ""
        here = here.rpartition("/")[0]
    return f"no {controller} controller here", ""
