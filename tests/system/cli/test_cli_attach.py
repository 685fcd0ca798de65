"""``attach``: join a running container, leave it, come back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import Store, program_path
from kit.screen import DEADLINE_S, Screen

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = requires.root

DETACH = b"\x10\x11"
PROMPT = b"# "


def until(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(store: Store, *arguments: str) -> None:
    done = store.program("run", "-d", "--name", "aa", *arguments)
    assert done.returncode == 0, done.stderr.decode()


def client(store: Store, *arguments: str, **streams: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program_path(), "attach", *arguments],
        env=store.environ,
        **({"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | streams),
    )


@pytest.fixture
def attached(busybox: Store) -> Iterator[Screen]:
    """A client of a shell that was started without one."""
    start(busybox, "-it", "busybox", "sh")
    screen = Screen(busybox, "attach", "aa")
    try:
        screen.wait_for(PROMPT)
        yield screen
    finally:
        screen.close()
        busybox.program("rm", "-f", "aa")


def test_a_detached_shell_prompts_whoever_attaches(attached: Screen) -> None:
    assert not attached.is_as_before()
    assert attached.size_inside() == b"33 101"

    attached.resize(40, 120)
    until(lambda: attached.size_inside() == b"40 120")
    attached.type(b"exit 7\r")

    assert attached.wait() == 7
    assert attached.is_as_before()


def test_the_detach_keys_leave_and_attach_comes_back(attached: Screen, busybox: Store) -> None:
    attached.type(b"here=$((40 + 2))\r" + DETACH)

    assert attached.wait() == 1
    assert b"read escape sequence" in attached.seen
    assert attached.is_as_before()

    again = Screen(busybox, "attach", "--detach-keys", "ctrl-x,x", "aa")
    try:
        again.wait_for(PROMPT)
        again.type(b"echo $here\r")
        again.wait_for(b"\r\n42\r\n")
        again.type(b"\x18x")
        assert again.wait() == 1
    finally:
        again.close()
    assert busybox.program("ps", "--format", "{{.Names}}").stdout == b"aa\n"


def test_a_shell_begun_in_the_foreground_is_joined_after_the_detach_keys(busybox: Store) -> None:
    first = Screen(busybox, "run", "-it", "--name", "aa", "busybox", "sh")
    try:
        first.wait_for(PROMPT)
        first.type(DETACH)
        assert first.wait() == 0
    finally:
        first.close()
    second = Screen(busybox, "start", "-ai", "aa")
    try:
        second.wait_for(PROMPT)
        second.type(b"sleep 1000\r")
        second.wait_for(b"leep 1000\r\n")
        time.sleep(0.2)
        second.type(b"\x03")
        second.wait_for(PROMPT)
        second.type(b"exit 5\r")
        assert second.wait() == 5
        assert second.is_as_before()
    finally:
        second.close()
    assert busybox.program("rm", "aa").returncode == 0


def test_several_clients_see_and_type_the_same(attached: Screen, busybox: Store) -> None:
    other = Screen(busybox, "attach", "aa")
    try:
        other.wait_for(PROMPT)
        other.type(b"echo $((40 + 2))\r")

        attached.wait_for(b"\r\n42\r\n")
        other.wait_for(b"\r\n42\r\n")
        attached.type(b"exit 3\r")

        assert (attached.wait(), other.wait()) == (3, 3)
        assert attached.is_as_before()
        assert other.is_as_before()
    finally:
        other.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_the_client_ends_the_client_alone(
    attached: Screen, busybox: Store, number: signal.Signals
) -> None:
    attached.process.send_signal(number)

    assert attached.wait() == 128 + number
    assert attached.is_as_before()
    assert busybox.program("ps", "--format", "{{.Names}}").stdout == b"aa\n"


def test_the_terminal_is_restored_when_the_container_is_killed(
    attached: Screen, busybox: Store
) -> None:
    assert busybox.program("kill", "aa").returncode == 0

    assert attached.wait() == 137
    assert attached.is_as_before()


def test_the_terminal_is_restored_when_the_monitor_is_killed(
    attached: Screen, busybox: Store
) -> None:
    (container,) = sandbox.Engine().containers()
    started = (busybox.run / "containers" / container.id / "started").read_text()
    monitor = int(started.partition("monitor ")[2].split()[0])

    os.kill(monitor, signal.SIGKILL)

    assert attached.wait() == 255
    assert attached.is_as_before()


def test_the_streams_stay_apart_without_a_terminal(busybox: Store) -> None:
    script = "read x; echo out $x; echo err $x >&2; exit 4"
    start(busybox, "-i", "busybox", "sh", "-c", script)

    done = busybox.program("attach", "aa", stdin=b"7\n")
    busybox.program("rm", "aa")

    assert (done.returncode, done.stdout, done.stderr) == (4, b"out 7\n", b"err 7\n")


def test_no_stdin_means_that_nothing_is_typed(busybox: Store) -> None:
    script = "while ! read -t 1 x; do echo tick; done; echo got $x"
    start(busybox, "-i", "busybox", "sh", "-c", script)

    with client(busybox, "--no-stdin", "aa", stdin=subprocess.PIPE) as watching:
        assert watching.stdin is not None
        assert watching.stdout is not None
        watching.stdin.write(b"nobody\n")
        watching.stdin.flush()
        assert watching.stdout.readline() == b"tick\n"
        typing = busybox.program("attach", "aa", stdin=b"somebody\n")
        seen = watching.stdout.read()
    busybox.program("rm", "aa")

    assert typing.stdout.endswith(b"got somebody\n")
    assert seen.endswith(b"got somebody\n")


def test_a_container_without_input_is_watched(busybox: Store) -> None:
    script = "while ! test -e /go; do echo tick; sleep 0.05; done; cat; echo end"
    start(busybox, "busybox", "sh", "-c", script)

    with client(busybox, "aa", stdin=subprocess.PIPE) as watching:
        assert watching.stdin is not None
        assert watching.stdout is not None
        watching.stdin.write(b"not for it\n")
        watching.stdin.flush()
        assert watching.stdout.readline() == b"tick\n"
        busybox.program("exec", "aa", "touch", "/go")
        seen = watching.stdout.read()
    busybox.program("rm", "aa")

    assert watching.returncode == 0
    assert seen.replace(b"tick\n", b"") == b"end\n"


def test_signals_are_passed_on_without_a_terminal(busybox: Store) -> None:
    script = "trap 'echo caught; exit 9' TERM; while :; do echo x; sleep 0.05; done"
    start(busybox, "busybox", "sh", "-c", script)

    passing = client(busybox, "aa")
    own = client(busybox, "--sig-proxy=false", "aa")
    for process in (passing, own):
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
    own.terminate()
    own.communicate(timeout=DEADLINE_S)
    assert own.returncode == -signal.SIGTERM
    assert busybox.program("ps", "-q").stdout
    passing.terminate()
    out, _ = passing.communicate(timeout=DEADLINE_S)
    busybox.program("rm", "aa")

    assert (passing.returncode, out.splitlines()[-1]) == (9, b"caught")


def test_a_reader_that_stands_still_holds_nobody_up(busybox: Store, tmp_path: Path) -> None:
    script = (
        "while ! test -e /go; do echo tick; sleep 0.05; done;"
        "i=0; while [ $i -lt 3000 ]; do echo $i-$(printf %01000d 7); i=$((i+1)); done"
    )
    start(busybox, "busybox", "sh", "-c", script)
    with (tmp_path / "out").open("wb") as file:
        reading = client(busybox, "aa", stdout=file.fileno())
    still = client(busybox, "aa")
    assert still.stdout is not None
    assert os.read(still.stdout.fileno(), 1) == b"t"
    until(lambda: (tmp_path / "out").stat().st_size > 0)
    still.send_signal(signal.SIGSTOP)

    busybox.program("exec", "aa", "touch", "/go")
    reading.wait(timeout=DEADLINE_S)
    still.send_signal(signal.SIGCONT)
    seen, _ = still.communicate(timeout=DEADLINE_S)
    busybox.program("rm", "aa")

    assert reading.returncode == still.returncode == 0
    assert (tmp_path / "out").read_bytes().count(b"-") == 3000
    assert 0 < seen.count(b"-") < 3000


def test_what_restarts_ends_for_those_who_saw_this_run(busybox: Store) -> None:
    script = "read x; echo run; exit 6"
    start(busybox, "-i", "--restart", "always", "busybox", "sh", "-c", script)

    done = busybox.program("attach", "aa", stdin=b"x\n")
    again = sandbox.Engine().container("aa")
    until(lambda: again.status().restarts)
    busybox.program("rm", "-f", "aa")

    assert (done.returncode, done.stdout) == (6, b"run\n")


def test_what_cannot_be_attached_to_is_said_as_docker_says_it(busybox: Store) -> None:
    assert busybox.program("create", "-it", "--name", "made", "busybox", "sh").returncode == 0
    start(busybox, "-t", "busybox", "sleep", "1000")

    said = {
        arguments: busybox.program("attach", *arguments.split())
        for arguments in ("nosuch", "made", "aa", "--no-stdin --detach-keys ctrl-A aa")
    }
    busybox.program("pause", "aa")
    paused = busybox.program("attach", "aa")
    busybox.program("rm", "-f", "aa", "made")

    assert {name: done.stderr for name, done in said.items()} == {
        "nosuch": b"No such container: nosuch\n",
        "made": b"You cannot attach to a stopped container, start it first\n",
        "aa": b"the input device is not a TTY\n",
        "--no-stdin --detach-keys ctrl-A aa": b"Invalid detach keys (ctrl-A) provided\n",
    }
    assert paused.stderr == b"You cannot attach to a paused container, unpause it first\n"
    assert {done.returncode for done in (*said.values(), paused)} == {1}


def test_the_end_is_seen_however_close_it_is(busybox: Store) -> None:
    for number in range(12):
        start(busybox, "busybox", "sh", "-c", f"usleep {number * 10000}; exit 3")
        done = busybox.program("attach", "aa")
        busybox.program("rm", "-f", "aa")

        assert (done.returncode, done.stderr) in (
            (3, b""),
            (1, b"You cannot attach to a stopped container, start it first\n"),
        )


def test_the_library_attaches(busybox: Store) -> None:
    container = sandbox.Engine().create(
        "busybox", ["sh", "-c", "read x; echo $x; exit 2"], interactive=True
    )
    container.start().close()
    their_in, our_in = os.pipe()
    our_out, their_out = os.pipe()

    with container.attach((their_in, their_out, their_out), stdin=True) as attachment:
        os.close(their_in)
        os.close(their_out)
        os.write(our_in, b"hello\n")
        record = attachment.wait()
    said = os.read(our_out, 100)
    os.close(our_in)
    os.close(our_out)
    with pytest.raises(sandbox.WrongStatus, match="stopped container"):
        container.attach((0, 1, 2))
    container.remove()
    sandbox.Engine().sweep()

    assert (record.exit_code, said) == (2, b"hello\n")
