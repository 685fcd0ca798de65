"""The terminal: made inside, its master handed out."""

from __future__ import annotations

from pathlib import Path

from kit.launch import Box, step

from sandbox.native import plan
from sandbox.native.plan import op

TTY = (op("stdio", plan.STDIO_TTY, 33, 99),)
CONSOLE = (op("console", 7, -1),)


def test_program_has_a_terminal_of_its_own(any_box: Box) -> None:
    outcome = any_box.shell(
        "tty; stty size; readlink /proc/self/fd/0; stat -c '%t %u' /dev/pts/0; ls /dev/pts",
        settings=TTY,
        before=CONSOLE,
    )

    assert outcome.status == 0, outcome
    assert outcome.out.split() == ["/dev/pts/0", "33", "99", "/dev/pts/0", "88", "7", "0", "ptmx"]


def test_terminal_is_the_controlling_one(box: Box) -> None:
    node = op("mknod", "/dev/tty", 0o20666, 5, 0, 0, 0)

    outcome = box.shell("echo by-tty >/dev/tty", settings=TTY, before=(*CONSOLE, node))

    assert outcome.out == "by-tty\r\n"


def test_terminal_is_bound_on_dev_console(any_box: Box) -> None:
    outcome = any_box.shell(
        "echo by-console >/dev/console; stat -c '%F %t' /dev/console", settings=TTY, before=CONSOLE
    )

    assert outcome.out.split("\r\n") == ["by-console", "character special file 88", ""]


def test_terminal_of_a_reaped_program_is_in_its_foreground(box: Box) -> None:
    outcome = box.shell("cat /proc/$$/stat", settings=TTY, before=CONSOLE, flags=plan.EXEC_INIT)

    fields = outcome.out.rpartition(")")[2].split()
    assert fields[2] == fields[5] == "2", outcome  # process group, and the terminal's


def test_terminal_that_was_not_made_is_an_error(box: Box) -> None:
    outcome = box.run("true", settings=TTY)

    assert outcome.failure is not None
    assert outcome.failure.step == step("exec")


def test_console_without_a_devpts_of_our_own_is_an_error(box: Box) -> None:
    for name in ("dev/pts", "proc"):
        (box.image / name).mkdir(parents=True)
    (box.image / "dev/pts/ptmx").write_text("")

    outcome = box.run("true", settings=TTY, mounts=(), before=CONSOLE)

    assert outcome.failure is not None
    assert outcome.failure.step == step("console")


def test_hosts_terminals_are_not_there(box: Box) -> None:
    outcome = box.shell("ls /dev/pts", settings=TTY, before=CONSOLE)

    assert sorted(outcome.out.split()) == ["0", "ptmx"]
    assert Path("/dev/pts").exists()
