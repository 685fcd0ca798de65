"""Bytes that are kept in a file and read by someone else at the same time; work in threads.

What is written to the file goes to the reader through a pipe whose pages are the file's
own: nothing is copied, and nobody reads anything but what is kept.

Out of scope: where the bytes come from, and what they are.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from threading import Condition, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    Result = TypeVar("Result")

PIPE_BYTES = 1 << 20  # what anybody may ask for


class NobodyReads(Exception):
    """The reader has gone, and says itself why."""


@contextmanager
def flowing(
    fd: int, feed: Callable[[Callable[[int], None]], None], leave: Callable[[], None]
) -> Iterator[int]:
    """Let a thread fill the file ``fd`` from its beginning, and give a pipe to read it from.

    ``feed`` writes to the file and calls what it is given with how many bytes more are
    there; `NobodyReads` then ends it.  ``leave`` is called when the block fails, so that
    ``feed`` need not wait for anything.  The descriptor is borrowed, the pipe closed here.
    A failure of ``feed`` is raised at the end of the block, whose own then is its cause:
    of a stream that ends early a reader knows no more than that.
    """
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    failures: list[BaseException] = []
    at = 0

    def pass_on(count: int) -> None:
        nonlocal at
        end = at + count
        try:
            while at < end:
                at += os.sendfile(write, fd, at, end - at)
        except BrokenPipeError:
            raise NobodyReads from None

    def fill() -> None:
        try:
            feed(pass_on)
        except NobodyReads:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            os.close(write)

    feeder = Thread(target=fill, name="feed")
    feeder.start()
    try:
        yield read
    except BaseException as error:
        leave()
        os.close(read)
        feeder.join()
        if failures:
            raise failures[0] from error
        raise
    os.close(read)
    feeder.join()
    if failures:
        raise failures[0]


def together(
    jobs: Sequence[Callable[[], Result]], *, threads: int, stop: Callable[[], None]
) -> tuple[Result, ...]:
    """Do all jobs, so many at a time, in their order; what they return.

    After the first failure, or an interruption, ``stop`` is called, those at work are
    waited for, and it is raised.  (`concurrent.futures` loads ``logging``, which takes
    longer than a small image.)
    """
    changed = Condition()
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    waiting = list(enumerate(jobs))[::-1]
    at_work = min(threads, len(waiting))

    def work() -> None:
        nonlocal at_work
        while True:
            with changed:
                if not waiting or failures:
                    at_work -= 1
                    changed.notify()
                    return
                number, job = waiting.pop()
            try:
                result = job()
            except BaseException as error:
                with changed:
                    failures.append(error)
                    changed.notify()
            else:
                results[number] = result

    pool = [Thread(target=work, name="layer") for _ in range(at_work)]
    try:
        for thread in pool:
            thread.start()
        with changed:
            while at_work and not failures:
                changed.wait()
    except BaseException as error:
        with changed:
            failures.insert(0, error)
    if failures:
        stop()
    for thread in pool:
        if thread.ident is not None:
            thread.join()
    if failures:
        raise failures[0]
    return tuple(results[number] for number in range(len(jobs)))
