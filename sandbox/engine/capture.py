"""A captured run: the library's ``run``, from pipes to result."""

from __future__ import annotations

import os
import select

from ..errors import RunFailed
from ..monitor import exitrecord
from .launching import StartAs
from .result import RunResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..monitor.exitrecord import ExitRecord
    from .container import Attachment
    from .engine import Engine
    from .options import RunOptions

_CHUNK = 1 << 18


def capture(engine: Engine, options: RunOptions, stdin: bytes | None, *, check: bool) -> RunResult:
    """Run, collect both streams, and judge."""
    start = StartAs(is_attached=True, size=(24, 80), with_launcher=True)
    record, outputs, attachment = collect(
        lambda stdio: engine.start_options(options, start, stdio), stdin
    )
    verdict, detail = exitrecord.verdict_of(record)
    result = RunResult(
        container_id=attachment.container.id,
        stdout=outputs["stdout"],
        stderr=outputs["stderr"],
        exit_code=record.exit_code,
        signal=record.signal,
        verdict=verdict,
        detail=detail,
        receipt=exitrecord.receipt_of(record, layer_bytes=attachment.written_bytes),
        enforcement=attachment.enforcement,
        record=record,
    )
    if check and not result.ok:
        raise RunFailed(f"{verdict}: {detail}" if detail else verdict, result=result)
    return result


def collect(
    start: Callable[[tuple[int, int, int]], Attachment], stdin: bytes | None
) -> tuple[ExitRecord, dict[str, bytes], Attachment]:
    """Start something on three pipes, feed it, and drain it until its end."""
    opened: list[int] = []
    try:
        ours: dict[str, int] = {}
        theirs = []
        for name in ("stdin", "stdout", "stderr"):
            if name == "stdin" and stdin is None:
                theirs.append(_keep(opened, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)))
                continue
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            opened += [read_end, write_end]
            mine, other = (write_end, read_end) if name == "stdin" else (read_end, write_end)
            os.set_blocking(mine, False)
            ours[name] = mine
            theirs.append(other)
        attachment = start((theirs[0], theirs[1], theirs[2]))
        for fd in theirs:
            _drop(opened, fd)
        try:
            outputs = _exchange(opened, ours, stdin or b"")
            record = attachment.wait()
        except BaseException:
            # Interrupted: the monitor sees the socket close, and ends the container.
            attachment.abandon()
            raise
    finally:
        for fd in list(opened):
            _drop(opened, fd)
    return record, outputs, attachment


def _exchange(opened: list[int], ours: dict[str, int], data: bytes) -> dict[str, bytes]:
    """Feed stdin and drain both outputs until their ends."""
    poll = select.poll()
    names = {}
    for name, fd in ours.items():
        poll.register(fd, select.POLLOUT if name == "stdin" else select.POLLIN)
        names[fd] = name
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    rest = memoryview(data)
    if "stdin" in ours and not rest:
        fd = ours["stdin"]
        poll.unregister(fd)
        del names[fd]
        _drop(opened, fd)
    while names:
        for fd, _events in poll.poll():
            name = names[fd]
            done = False
            if name == "stdin":
                try:
                    rest = rest[os.write(fd, rest[:_CHUNK]) :]
                    done = not rest
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    done = True
            else:
                try:
                    part = os.read(fd, _CHUNK)
                except BlockingIOError:
                    continue
                done = not part
                parts[name].append(part)
            if done:
                poll.unregister(fd)
                del names[fd]
                _drop(opened, fd)
    return {name: b"".join(found) for name, found in parts.items()}


def _keep(opened: list[int], fd: int) -> int:
    opened.append(fd)
    return fd


def _drop(opened: list[int], fd: int) -> None:
    if fd in opened:
        opened.remove(fd)
        os.close(fd)
