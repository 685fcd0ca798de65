"""The monitors that were started here and let go: they become zombies when they end.

Beside `sandbox.monitor.client` because the sweep at the head of every command reaps, and most
commands start none: they do without the price of sockets.
"""

from __future__ import annotations

import os

_let_go: set[int] = set()


def let_go(pid: int) -> None:
    """Nobody here waits for this child any more: `reap` does."""
    _let_go.add(pid)


def forget(pid: int) -> None:
    """This child has been waited for."""
    _let_go.discard(pid)


def reap() -> None:
    """Reap those that have ended since."""
    for pid in tuple(_let_go):
        try:
            done, _status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _let_go.discard(pid)
