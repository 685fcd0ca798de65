"""Bytes in are bytes out: floods, slow and dead readers, stdin, terminals, attached clients."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requires
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.monitored import STDIN, TTY, Monitored

from sandbox.monitor import client, logs
from sandbox.monitor.exitrecord import verdict_of
from sandbox.native.plan import STDIO_STDIN_ONCE

pytestmark = requires.root

FLOOD = """
import os
for i in range(100):
    for fd, mark in ((1, b"o"), (2, b"e")):
        data = b"".join(b"%s %d %d %s\\n" % (mark, i, j, b"." * 90) for j in range(1000))
        while data:
            data = data[os.write(fd, data):]
"""


def flood(mark: bytes) -> bytes:
    lines = (b"%s %d %d %s\n" % (mark, i, j, b"." * 90) for i in range(100) for j in range(1000))
    return b"".join(lines)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        yield ends
    finally:
        for fd in ends:
            try:
                os.close(fd)
            except OSError:
                continue


class Reader:
    """Read a descriptor to its end, in a thread."""

    def __init__(self, fd: int) -> None:
        self.data = b""
        self._fd = fd
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        parts = []
        while part := os.read(self._fd, 1 << 20):
            parts.append(part)
        self.data = b"".join(parts)

    def result(self) -> bytes:
        self._thread.join(30)
        return self.data


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"not in 20 s: {what}"
        time.sleep(0.005)


def read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while end not in data:
        ready, _, _ = select.select([fd], [], [], 20)
        assert ready, f"only {data!r}"
        try:
            part = os.read(fd, 65536)
        except OSError as error:
            raise AssertionError(f"only {data!r}") from error
        assert part, f"only {data!r}"
        data += part
    return data


def logged(log: Path) -> dict[str, bytes]:
    streams = {"stdout": b"", "stderr": b"", "system": b""}
    parts: dict[str, list[bytes]] = {name: [] for name in streams}
    for entry in logs.read(str(log)):
        parts[entry.stream].append(entry.text)
    return {name: b"".join(found) for name, found in parts.items()}


def test_flood_on_both_streams_arrives_exactly(monitored: Monitored) -> None:
    with pipe() as (out, out_end), pipe() as (err, err_end):
        monitored.start(["python3", "-c", FLOOD], stdio=(0, out_end, err_end))
        os.close(out_end)
        os.close(err_end)
        readers = Reader(out), Reader(err)
        record = monitored.end()
        seen = [reader.result() for reader in readers]

    assert seen == [flood(b"o"), flood(b"e")]
    assert (record.stdout_bytes, record.stderr_bytes) == (len(seen[0]), len(seen[1]))
    assert logged(monitored.log) == {"stdout": seen[0], "stderr": seen[1], "system": b""}


def test_rotation_keeps_to_its_bounds_and_the_newest(monitored: Monitored) -> None:
    monitored.start(["python3", "-c", FLOOD], log=(str(monitored.log), 100_000, 3))
    monitored.end()

    files = sorted(monitored.state.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 100_000 for file in files)
    kept = logged(monitored.log)
    assert len(kept["stderr"]) > 30_000
    assert flood(b"e").endswith(kept["stderr"])
    assert flood(b"o").endswith(kept["stdout"]) or not kept["stdout"]


def test_long_lines_and_unfinished_ones_are_kept_to_the_byte(monitored: Monitored) -> None:
    script = "head -c 100000 /dev/zero; echo; echo; printf '\\377\\r x'; printf 'no end' >&2"
    monitored.outcome(script)

    kept = logged(monitored.log)
    assert kept["stdout"] == b"\0" * 100_000 + b"\n\n\xff\r x"
    assert kept["stderr"] == b"no end"
    longest = max(len(line) for line in monitored.log.read_bytes().split(b"\n"))
    assert longest <= 16384 + 40


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=50),
            st.just(b"\n"),
            st.integers(1, 40_000).map(lambda size: b"x" * size),
            st.sampled_from([b"y" * 16383, b"y" * 16384, b"y" * 16385]),
        ),
        max_size=12,
    ).map(b"".join),
    max_bytes=st.sampled_from([0, 0, 5_000, 70_000]),
)
def test_any_bytes_come_back_from_the_log(
    monitor_program: str, tmp_path_factory: pytest.TempPathFactory, data: bytes, max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    monitored = Monitored(folder, monitor_program)
    (folder / "in").write_bytes(data)
    with (folder / "in").open("rb") as source, (folder / "out").open("wb") as out:
        monitored.start(
            ["cat"],
            stdio=(source.fileno(), out.fileno(), out.fileno()),
            log=(str(monitored.log), max_bytes, 500),
            terminal=(STDIN, 0, 0),
        )
        monitored.end()

    assert (folder / "out").read_bytes() == data
    assert logged(monitored.log)["stdout"] == data


def test_slow_first_reader_holds_the_container_back(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        launch = monitored.start(
            ["python3", "-c", FLOOD], stdio=(0, out_end, out_end), limits=(0, 0, 0)
        )
        os.close(out_end)
        launch.wait_started(timeout_s=20)
        with client.connect(str(monitored.run)) as control:
            wait_until(lambda: int(control.status()["stdout_bytes"]) > 60_000, "it has begun")
            time.sleep(0.2)
            taken = int(control.status()["stdout_bytes"])
        reader = Reader(out)
        record = monitored.end()
        seen = reader.result()

    # What fits into the reader's pipe and our buffer, and not the whole flood.
    assert taken <= 65536 * 3
    assert len(seen) == (record.stdout_bytes or 0) + (record.stderr_bytes or 0)


def test_wall_limit_holds_while_the_reader_sleeps(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        monitored.start(
            ["python3", "-c", FLOOD], stdio=(0, out_end, out_end), limits=(300, 0, 0)
        ).wait_started(timeout_s=20)
        os.close(out_end)
        with client.connect(str(monitored.run)) as control:
            wait_until(lambda: control.status()["phase"] == "draining", "it is killed")
        reader = Reader(out)
        record = monitored.end()
        reader.result()

    assert verdict_of(record)[0] == "wall_timeout"


def test_callers_own_flags_do_not_change(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        monitored.shell("echo x", stdio=(0, out_end, out_end))
        monitored.end()

        assert os.get_blocking(out_end)
        assert os.get_blocking(out)


def test_closed_reader_does_not_stop_the_container(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        os.close(out)
        monitored.start(["python3", "-c", FLOOD], stdio=(0, out_end, out_end))
        os.close(out_end)
        record = monitored.end()

    assert verdict_of(record)[0] == "ok"
    assert logged(monitored.log)["stdout"] == flood(b"o")


def test_output_limit_delivers_exactly_the_limit(monitored: Monitored) -> None:
    with pipe() as (out, out_end), pipe() as (err, err_end):
        monitored.start(
            ["python3", "-c", FLOOD], stdio=(0, out_end, err_end), limits=(0, 0, 300_000)
        )
        os.close(out_end)
        os.close(err_end)
        readers = Reader(out), Reader(err)
        record = monitored.end()
        seen = [reader.result() for reader in readers]

    assert verdict_of(record)[0] == "output_limit"
    assert len(seen[0]) + len(seen[1]) == 300_000
    assert flood(b"o").startswith(seen[0])
    kept = logged(monitored.log)
    assert [kept["stdout"], kept["stderr"]] == seen


def test_output_of_exactly_the_limit_is_no_offence(monitored: Monitored) -> None:
    record = monitored.outcome("printf 12345; printf 12345 >&2", limits=(0, 0, 10))

    assert verdict_of(record)[0] == "ok"
    assert (record.stdout_bytes, record.stderr_bytes) == (5, 5)


def test_output_over_the_limit_by_one_counts_though_it_ended_by_itself(
    monitored: Monitored,
) -> None:
    record = monitored.outcome("printf 12345678901", limits=(0, 0, 10))

    assert verdict_of(record)[0] == "output_limit"
    assert record.stdout_bytes == 10


def test_last_output_of_a_killed_container_is_delivered(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        launch = monitored.shell("echo first; echo last; exec sleep 60", stdio=(0, out_end, 2))
        os.close(out_end)
        launch.wait_started(timeout_s=20)
        wait_until(lambda: monitored.log.stat().st_size > 0, "it has printed")
        launch.kill()
        reader = Reader(out)
        monitored.end()
        seen = reader.result()

    assert seen == b"first\nlast\n"


def test_pipe_held_by_a_stranger_does_not_hold_the_end_back(monitored: Monitored) -> None:
    # The stub's container without pid namespace leaves a background process; it has no cgroup.
    held = monitored.state / "held"
    script = f"sleep 60 & echo $! >{held}; echo done"

    record = monitored.outcome(script, namespaces=(0,))
    os.kill(int(held.read_text()), 9)

    assert verdict_of(record)[0] == "ok"
    assert logged(monitored.log)["stdout"] == b"done\n"


# --- input ---


def test_stdin_arrives_exactly_and_ends(monitored: Monitored) -> None:
    data = os.urandom(3_000_000)
    with pipe() as (source, feed), pipe() as (out, out_end):
        _start_cat(monitored, source, out_end)
        os.close(source)
        os.close(out_end)
        reader = Reader(out)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(feed, rest) :]
        os.close(feed)
        record = monitored.end()
        seen = reader.result()

    assert seen == data
    assert verdict_of(record)[0] == "ok"


def _start_cat(monitored: Monitored, source: int, out: int, flags: int = STDIN) -> client.Launch:
    return monitored.start(["cat"], stdio=(source, out, out), terminal=(flags, 0, 0))


def test_stdin_from_a_file_and_output_to_one(monitored: Monitored, tmp_path: Path) -> None:
    data = os.urandom(500_000)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as out:
        _start_cat(monitored, source.fileno(), out.fileno())
        monitored.end()

    assert (tmp_path / "out").read_bytes() == data


def test_stdin_and_output_by_sockets(monitored: Monitored) -> None:
    near, far = socket.socketpair()
    with near, far:
        _start_cat(monitored, far.fileno(), far.fileno())
        far.close()
        near.sendall(b"over a socket\n")
        near.shutdown(socket.SHUT_WR)
        parts = []
        while part := near.recv(1000):
            parts.append(part)
        monitored.end()

    assert b"".join(parts) == b"over a socket\n"


def test_without_stdin_the_container_reads_nothing(monitored: Monitored) -> None:
    with pipe() as (source, feed):
        os.write(feed, b"not for you\n")
        record = monitored.outcome("cat", stdio=(0, 0, 0))
        assert os.read(source, 100) == b"not for you\n"

    assert record.stdout_bytes == 0


def test_close_stdin_ends_the_input_of_a_detached_container(monitored: Monitored) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    launch = _start_cat(monitored, nothing, nothing)
    os.close(nothing)
    launch.wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        assert control.wait_for_exit(timeout_s=0.05) is None
        control.close_stdin()

    assert verdict_of(monitored.end())[0] == "ok"


def test_launcher_that_goes_takes_its_descriptors_along(monitored: Monitored) -> None:
    with pipe() as (source, feed), pipe() as (out, out_end):
        launch = monitored.start(
            ["cat"],
            stdio=(source, out_end, out_end),
            terminal=(STDIN | STDIO_STDIN_ONCE, 0, 0),
            lifetime=(0,),
        )
        os.close(out_end)
        launch.wait_started(timeout_s=20)

        launch.close()
        end = os.read(out, 100)
        launch.wait_gone()
        os.write(feed, b"for the shell\n")

        # Its input, open only once, has ended; what is typed now is the caller's own.
        assert end == b""
        assert verdict_of(monitored.exit_file())[0] == "ok"
        assert os.read(source, 100) == b"for the shell\n"


# --- terminals ---


def _start_terminal(monitored: Monitored, script: str, fd: int, flags: int = TTY) -> client.Launch:
    return monitored.shell(script, stdio=(fd, fd, fd), terminal=(flags, 24, 80))


def test_terminal_has_a_size_echoes_and_resizes(monitored: Monitored) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    launch = _start_terminal(monitored, "stty size; read x; stty size; echo got $x; exit 4", slave)
    try:
        os.close(slave)
        first = read_until(master, b"24 80\r\n")
        launch.resize(50, 132)
        with client.connect(str(monitored.run)) as control:
            control.resize(50, 132)
        os.write(master, b"hello\n")
        rest = read_until(master, b"got hello\r\n")
        record = monitored.end()
    finally:
        os.close(master)

    assert first == b"24 80\r\n"
    assert rest == b"hello\r\n50 132\r\ngot hello\r\n"
    assert record.exit_code == 4


def test_last_output_on_a_terminal_is_not_lost(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        _start_terminal(monitored, "seq 1 20000", out_end)
        os.close(out_end)
        reader = Reader(out)
        monitored.end()
        seen = reader.result()

    assert seen == b"".join(b"%d\r\n" % i for i in range(1, 20001))
    assert logged(monitored.log)["stdout"] == seen


def test_resize_without_a_terminal_is_refused(monitored: Monitored) -> None:
    launch = monitored.shell("sleep 60")
    launch.wait_started(timeout_s=20)

    with client.connect(str(monitored.run)) as control:
        with pytest.raises(Exception, match="the monitor refused: inappropriate ioctl"):
            control.resize(1, 1)
        control.kill()
    monitored.end()


def test_size_of_a_terminal_is_the_plans(monitored: Monitored) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 1, 2, 0, 0))
    _start_terminal(monitored, "stty size", slave)
    os.close(slave)
    seen = read_until(master, b"\n")
    monitored.end()
    os.close(master)

    assert seen.startswith(b"24 80")


# --- attached clients ---


def _connected(monitored: Monitored) -> client.Control:
    return client.connect(str(monitored.run))


def test_attached_client_sees_output_and_sends_input(monitored: Monitored) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    launch = _start_cat(monitored, nothing, nothing, STDIN | STDIO_STDIN_ONCE)
    os.close(nothing)
    launch.wait_started(timeout_s=20)

    with pipe() as (source, feed), pipe() as (out, out_end):
        with client.connect(str(monitored.run)) as control:
            control.attach((source, out_end, out_end), stdin=True, lossy=False)
            os.close(source)
            os.close(out_end)
            os.write(feed, b"ping\n")
            seen = read_until(out, b"\n")
            os.close(feed)
            record = control.wait()
        end = os.read(out, 100)

    assert (seen, end) == (b"ping\n", b"")
    assert verdict_of(record)[0] == "ok"
    monitored.end()


def test_detaching_leaves_the_container_alone(monitored: Monitored) -> None:
    launch = monitored.shell("while :; do echo tick; sleep 0.01; done")
    launch.wait_started(timeout_s=20)

    with pipe() as (out, out_end):
        with client.connect(str(monitored.run)) as control:
            control.attach((out_end, out_end, out_end), stdin=False, lossy=True)
            os.close(out_end)
            seen = read_until(out, b"tick\n")
        while os.read(out, 100):
            pass
    with client.connect(str(monitored.run)) as control:
        assert control.status()["phase"] == "running"
        control.kill()

    assert seen.startswith(b"tick\n")
    monitored.end()


def test_stopped_lossy_client_misses_output_and_is_told_so(monitored: Monitored) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    script = "read go; head -c 1000000 /dev/zero; read go; echo; echo after; read go"
    launch = monitored.shell(script, stdio=(nothing, nothing, nothing), terminal=(STDIN, 0, 0))
    os.close(nothing)
    launch.wait_started(timeout_s=20)

    with pipe() as (source, feed), pipe() as (out, out_end), _connected(monitored) as control:
        control.attach((source, out_end, out_end), stdin=True, lossy=True)
        os.close(source)
        os.close(out_end)
        os.write(feed, b"go\n")
        wait_until(
            lambda: int(control.status()["stdout_bytes"]) == 1_000_000,
            "the flood passes a client that does not read",
        )
        shown = b""
        while select.select([out], [], [], 0)[0]:
            shown += os.read(out, 65536)
        os.write(feed, b"go\n")
        rest = read_until(out, b"after\n")
        os.write(feed, b"go\n")
        control.wait()

    monitored.end()
    assert shown == b"\0" * len(shown)
    missed = 1_000_000 - len(shown)
    assert rest == b"\n[sandbox: %d bytes not shown]\n\nafter\n" % missed


def test_many_stopped_clients_do_not_hold_the_container(monitored: Monitored) -> None:
    with pipe() as (hold, release), pipe() as (out, out_end):
        del hold
        launch = monitored.start(["python3", "-c", "import time; time.sleep(0.2)\n" + FLOOD])
        launch.wait_started(timeout_s=20)
        clients = []
        for _ in range(10):
            control = client.connect(str(monitored.run))
            control.attach((release, out_end, out_end), stdin=False, lossy=True)
            clients.append(control)
        record = monitored.end()
        for control in clients:
            control.close()
        assert os.read(out, 10)

    assert record.stdout_bytes == len(flood(b"o"))


# --- the log's disk ---


def test_full_log_disk_is_marked_and_the_container_goes_on(monitored: Monitored) -> None:
    # A limit on the size of files stands in for a full disk: the write fails in its middle.
    import resource

    # The monitor inherits the limit; posix_spawn has no other way to set it.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        monitored.start(["python3", "-c", FLOOD])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    record = monitored.end()

    kept = logged(monitored.log)
    assert verdict_of(record)[0] == "ok"
    assert record.log_dropped_bytes
    assert record.stdout_bytes == len(flood(b"o"))
    total = len(kept["stdout"]) + len(kept["stderr"]) + record.log_dropped_bytes
    assert total == record.stdout_bytes + (record.stderr_bytes or 0)
    assert flood(b"o").startswith(kept["stdout"])


def test_write_end_as_stdin_is_an_end_and_is_never_read(monitored: Monitored) -> None:
    with pipe() as (out, out_end):
        os.write(out_end, b"mine\n")
        _start_cat(monitored, out_end, out_end)
        record = monitored.end()
        os.close(out_end)

        assert os.read(out, 100) == b"mine\n"
    assert verdict_of(record)[0] == "ok"
