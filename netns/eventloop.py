"""One thread, many sockets: who is called when one of them is ready, or at a time.

A callback never waits.  It may be called for a socket that is not ready after all (another
callback closed one and opened another in its place), so it takes `BlockingIOError` for nothing.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Timer:
    """A call that is to be made; `cancel` may be called twice, and after it was made."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Make it nothing."""
        self._call = None

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Loop:
    """Sockets and times that are waited for; `close` it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0

    def watch(self, fd: int, call: Callable[[], None], *, events: int = READ) -> None:
        """Call when the descriptor is ready, or has failed; again for other events."""
        if fd in self._calls:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._calls[fd] = call

    def forget(self, fd: int) -> None:
        """Call no more; before the descriptor is closed."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, after so many seconds."""
        timer = Timer(call)
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, timer))
        return timer

    def turn(self, most_s: float) -> None:
        """Wait until something is ready or due, at most so long, and make the calls."""
        wait = most_s
        if self._timers:
            wait = min(wait, max(0.0, self._timers[0][0] - time.monotonic()))
        for fd, _ in self._epoll.poll(wait):
            call = self._calls.get(fd)
            if call is not None:
                call()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        """Forget everything; the sockets are their owners'."""
        self._calls.clear()
        self._timers.clear()
        self._epoll.close()
