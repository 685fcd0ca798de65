"""One more link for a container that runs, and other links for its next runs.

The work is done by a monitor of its own, as for an exec, but with no program: a
process of the launch core joins the container's network, sets up the link and
ends.  It joins nothing else, so the container does not see it, and no Python is
ever in the container's network.

A link is taken back by removing its end on the host (``netns.packed.remove``),
which needs none of this.
"""

from __future__ import annotations

import errno
import os

from ..errors import LaunchFailed
from ..monitor import client, exitrecord
from ..native.plan import encode, op
from .launch import endpoint_ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..monitor.client import Control
    from ..native.plan import Op
    from .launch import Plumbing


def compile_connect(pid: int, start_time: int, endpoint: Plumbing) -> tuple[Op, ...]:
    """The plan that gives the network of a process one more link."""
    return (
        op("id", endpoint.link),
        op("enter", pid, start_time),
        *endpoint_ops((endpoint,)),
        op("network"),
    )


def connect_endpoint(pid: int, start_time: int, endpoint: Plumbing) -> None:
    """Give a running container one more link; returns when it is there and up.

    ``pid`` and ``start_time`` (clock ticks since boot) are the container's first
    process, as its monitor tells them.  Nothing is left of a link that fails;
    when this process or its monitor is killed the link may stay, half made, so
    its name is to be written down before.

    Raises `LaunchFailed`: with ``errno`` ESRCH when the process is gone, EEXIST
    when there is a link of such a name on the host or in the container, EINVAL
    when the container has the host's network, or the bridge is not there.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        # The lock of another container is not this monitor's to hold, and it writes no file.
        launch = client.start(
            encode(compile_connect(pid, start_time, endpoint)),
            run_dir=f"/proc/{pid}",
            lock_fd=null,
            stdio=(null, null, null),
            id=endpoint.link,
        )
    finally:
        os.close(null)
    with launch:
        record = launch.wait()
    launch.wait_gone()
    if record.status == "failed":
        raise exitrecord.describe_failure(record)
    if record.exit_code != 0:
        raise LaunchFailed(
            f"the network link {endpoint.link} was not made: who was to make it was killed",
            step="endpoint",
            syscall="",
            path=endpoint.link,
            errno=errno.ECHILD,
        )


def set_endpoints(control: Control, endpoints: Iterable[Plumbing]) -> None:
    """Tell a container's monitor all of its links, for when its restart policy starts it again.

    `UsageError` for a container that was started without networks.
    """
    control.endpoints(encode((*endpoint_ops(endpoints), op("network"))))
