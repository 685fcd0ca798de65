"""``run -it`` at a real terminal: a pty whose other end is this test."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
import requires
from conftest import Store
from kit.screen import DEADLINE_S, Screen

pytestmark = requires.root


@pytest.fixture
def shell(busybox: Store) -> Iterator[Screen]:
    screen = Screen(busybox, "run", "-it", "--name", "term", "busybox", "sh")
    try:
        screen.wait_for(b"# ")
        yield screen
    finally:
        screen.close()
        busybox.program("rm", "-f", "term")


def test_a_shell_prompts_and_answers(shell: Screen) -> None:
    shell.type(b"echo $((40 + 2))\r")

    shell.wait_for(b"\r\n42\r\n")


def test_the_exit_code_comes_back_and_the_terminal_is_restored(shell: Screen) -> None:
    assert not shell.is_as_before()

    shell.type(b"exit 7\r")

    assert shell.wait() == 7
    assert shell.is_as_before()


def test_the_size_is_the_terminals_and_follows_it(shell: Screen) -> None:
    assert shell.size_inside() == b"33 101"

    shell.resize(40, 120)
    deadline = time.monotonic() + DEADLINE_S
    while shell.size_inside() != b"40 120":
        assert time.monotonic() < deadline


def test_ctrl_c_goes_to_the_program_inside(shell: Screen) -> None:
    shell.type(b"sleep 1000\r")
    shell.wait_for(b"sleep 1000\r\n")
    time.sleep(0.2)
    shell.type(b"\x03")
    shell.wait_for(b"^C")

    shell.type(b"echo still $((1 + 1))\r")

    shell.wait_for(b"still 2\r\n")


def test_the_detach_keys_leave_the_container_running(shell: Screen, busybox: Store) -> None:
    shell.type(b"\x10\x11")

    assert shell.wait() == 0
    assert shell.is_as_before()
    assert busybox.program("ps", "--format", "{{.Names}}").stdout == b"term\n"


def test_the_ends_of_large_outputs_arrive(busybox: Store) -> None:
    screen = Screen(busybox, "run", "--rm", "-it", "busybox", "sh", "-c", "seq 1 20000; echo end")
    try:
        assert screen.wait() == 0
        assert b"\r\n20000\r\nend\r\n" in screen.seen
    finally:
        screen.close()


def test_a_signal_to_the_client_is_passed_on_and_the_terminal_restored(busybox: Store) -> None:
    handler = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    screen = Screen(busybox, "run", "--rm", "-it", "busybox", "sh", "-c", handler)
    try:
        screen.wait_for(b"ready")
        screen.process.send_signal(signal.SIGTERM)

        assert screen.wait() == 9
        assert screen.is_as_before()
    finally:
        screen.close()


def test_a_terminal_without_stdin_is_only_watched(busybox: Store) -> None:
    screen = Screen(busybox, "run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo yes")
    try:
        screen.wait_for(b"yes")
        assert screen.wait() == 0
    finally:
        screen.close()


def test_ctrl_c_without_a_terminal_inside_is_passed_on(busybox: Store) -> None:
    handler = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    screen = Screen(busybox, "run", "--rm", "busybox", "sh", "-c", handler)
    try:
        screen.wait_for(b"ready")
        screen.type(b"\x03")
        screen.wait_for(b"caught")
        assert screen.wait() == 9
    finally:
        screen.close()


@pytest.fixture
def inside(busybox: Store) -> Iterator[Screen]:
    """A shell by ``exec -it`` in a container that runs without a terminal."""
    busybox.program("run", "-d", "--name", "term", "busybox", "sleep", "1000")
    screen = Screen(busybox, "exec", "-it", "term", "sh")
    try:
        screen.wait_for(b"# ")
        yield screen
    finally:
        screen.close()
        busybox.program("rm", "-f", "term")


def test_an_exec_has_a_terminal_of_the_container_with_job_control(inside: Screen) -> None:
    assert b"job control" not in inside.seen
    inside.type(b"tty; stty size\r")
    inside.wait_for(b"/dev/pts/0\r\n33 101\r\n")

    inside.type(b"sleep 1000\r")
    inside.wait_for(b"leep 1000\r\n")  # the first letter may be drawn anew
    time.sleep(0.2)
    inside.type(b"\x1a")
    inside.wait_for(b"Stopped")
    inside.type(b"bg\r")
    inside.wait_for(b"sleep 1000")
    inside.type(b"fg\r")
    inside.wait_for(b"sleep 1000\r\n")
    time.sleep(0.2)
    inside.type(b"\x03")
    inside.type(b"echo still $((1 + 1))\r")
    inside.wait_for(b"still 2\r\n")

    inside.resize(40, 120)
    deadline = time.monotonic() + DEADLINE_S
    while inside.size_inside() != b"40 120":
        assert time.monotonic() < deadline


def test_the_exit_code_of_an_exec_comes_back_and_the_terminal_is_restored(
    inside: Screen,
) -> None:
    assert not inside.is_as_before()

    inside.type(b"exit 7\r")

    assert inside.wait() == 7
    assert inside.is_as_before()
