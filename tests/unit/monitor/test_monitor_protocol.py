from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from socket import socket as Socket  # noqa: N812

import pytest

from sandbox.errors import LaunchFailed, MonitorLost, SandboxError, UsageError, WrongStatus
from sandbox.monitor import client, protocol

STARTED = (
    b"started\nversion 1\npid 7\nstart_time 12\nboot_id b-o-o-t\nmonitor 6\n"
    b"started_ns 99\nrestarts 0\n"
)
EXITED = b"exited\nversion 1\nstatus exited\nexit_code 3\n"
FAILED = b"failed\nversion 1\nstatus failed\nstep 103\nerrno 1\nsyscall fsmount\npath /proc\n"


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def launch(pair: tuple[Socket, Socket]) -> client.Launch:
    made = client.Launch(pair[0], 0, "/run/x")
    made._is_gone = True  # there is no process to wait for
    return made


@pytest.fixture
def control(pair: tuple[Socket, Socket]) -> client.Control:
    return client.Control(pair[0], "/run/x")


def test_requests_are_short_lines() -> None:
    assert protocol.signal(15) == b"signal 15\n"
    assert protocol.signal(15, stop=True) == b"signal 15 stop\n"
    assert protocol.resize(24, 80) == b"resize 24 80\n"
    assert protocol.attach(3) == b"attach 3\n"


def test_message_has_word_line_and_body() -> None:
    message = protocol.parse(b"error 3 No such process\nmore\n")

    assert (message.word, message.line, message.body) == ("error", "3 No such process", b"more\n")


def test_started_that_lacks_a_fact_is_none() -> None:
    assert protocol.parse_started(b"pid 7\n") is None
    assert protocol.parse_started(b"pid x\n") is None


def test_launch_waits_for_started_and_exited(
    launch: client.Launch, pair: tuple[Socket, Socket]
) -> None:
    pair[1].send(STARTED)
    pair[1].send(b"ok\n")
    pair[1].send(EXITED)

    assert launch.wait_started().pid == 7
    assert launch.wait().exit_code == 3
    assert launch.wait().exit_code == 3


def test_failed_launch_raises_from_wait_started(
    launch: client.Launch, pair: tuple[Socket, Socket]
) -> None:
    pair[1].send(FAILED)

    with pytest.raises(LaunchFailed, match=r"^cannot mount /proc: operation not permitted"):
        launch.wait_started()


def test_silent_end_is_monitor_lost(launch: client.Launch, pair: tuple[Socket, Socket]) -> None:
    pair[1].close()

    with pytest.raises(MonitorLost):
        launch.wait_started()
    with pytest.raises(MonitorLost):
        launch.signal(15)


def test_wait_started_ends_after_its_time(launch: client.Launch) -> None:
    with pytest.raises(TimeoutError):
        launch.wait_started(timeout_s=0.01)


def test_record_before_a_reset_is_not_lost(
    launch: client.Launch, pair: tuple[Socket, Socket]
) -> None:
    # The monitor ended with our last request unread.
    launch.signal(15)
    pair[1].send(EXITED)
    pair[1].close()

    assert launch.wait().exit_code == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"error 3 No such process\n", WrongStatus),
        (b"error 22 Invalid argument\n", UsageError),
        (b"error 38 Function not implemented\n", SandboxError),
    ],
)
def test_refusals_are_errors(
    control: client.Control, pair: tuple[Socket, Socket], answer: bytes, kind: type[Exception]
) -> None:
    pair[1].send(answer)

    with pytest.raises(kind):
        control.signal(15)


def test_exit_that_comes_before_the_answer_is_kept(
    control: client.Control, pair: tuple[Socket, Socket]
) -> None:
    pair[1].send(EXITED)
    pair[1].send(b"ok\n")

    control.kill()

    assert control.wait().exit_code == 3


def test_wait_for_exit_is_none_after_its_time(control: client.Control) -> None:
    assert control.wait_for_exit(timeout_s=0.01) is None


def test_connecting_where_nobody_listens_is_monitor_lost(tmp_path: Path) -> None:
    with pytest.raises(MonitorLost):
        client.connect(str(tmp_path))
    with pytest.raises(MonitorLost):
        client.connect(str(tmp_path / "nothing"))


def test_nothing_is_alive_without_a_lock(tmp_path: Path) -> None:
    assert not client.is_alive(str(tmp_path))
    (tmp_path / "alive").touch()
    assert not client.is_alive(str(tmp_path))
