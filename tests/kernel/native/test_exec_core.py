"""execve: what is looked up where, why it failed, and the reaper."""

from __future__ import annotations

import errno
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from kit.launch import DOCKER_CAPABILITIES, Box, Failure, step

from sandbox.native import plan
from sandbox.native.plan import op

PATH = ("PATH=/none:/usr/local/bin:/bin",)


def _failure(box: Box, *argv: str, env: tuple[str, ...] = PATH) -> Failure:
    outcome = box.run(*argv, env=env)
    assert outcome.failure is not None, outcome
    assert outcome.failure.step == step("exec")
    assert outcome.failure.syscall == "execve"
    return outcome.failure


def _file(box: Box, name: str, content: bytes, mode: int = 0o755) -> Path:
    path = box.image / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _elf(machine: int, *, bits: int = 64) -> bytes:
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1, 0)) + bytes(8)
    return ident + struct.pack("<HHI", 2, machine, 1) + bytes(100)


def test_program_is_found_in_the_path_of_its_own_environment(box: Box) -> None:
    _file(box, "/opt/tools/hello", b"#!/bin/sh\necho $0\n")

    assert box.run("hello", env=("PATH=/none:/opt/tools",)).out == "/opt/tools/hello\n"


def test_path_has_a_default(box: Box) -> None:
    assert box.run("echo", "x", env=()).out == "x\n"


def test_environment_is_the_plans_alone(box: Box) -> None:
    assert box.run("env", env=("PATH=/bin", "A=b", "EMPTY=")).out == "PATH=/bin\nA=b\nEMPTY=\n"


def test_unknown_program_is_not_found(box: Box) -> None:
    assert _failure(box, "nothing").path == "nothing"
    assert _failure(box, "nothing").reason == "not_found"
    assert _failure(box, "nothing").errno == errno.ENOENT


def test_unknown_path_is_not_found(box: Box) -> None:
    failure = _failure(box, "/opt/nothing")

    assert (failure.reason, failure.path) == ("not_found", "/opt/nothing")


def test_empty_name_is_not_found(box: Box) -> None:
    assert _failure(box, "").reason == "not_found"


def test_file_without_execute_permission_is_not_executable(box: Box) -> None:
    _file(box, "/bin/plain", b"#!/bin/sh\n", 0o644)

    for name in ("plain", "/bin/plain"):
        failure = _failure(box, name)
        assert (failure.reason, failure.errno) == ("not_executable", errno.EACCES)
        assert failure.path == "/bin/plain"


def test_later_executable_wins_over_one_that_is_not(box: Box) -> None:
    _file(box, "/usr/local/bin/tool", b"", 0o644)
    _file(box, "/bin/tool", b"#!/bin/sh\necho ran\n")

    assert box.run("tool", env=PATH).out == "ran\n"


def test_folder_is_not_executable(box: Box) -> None:
    (box.image / "bin/folder").mkdir()

    for name in ("folder", "/bin/folder"):
        assert _failure(box, name).reason == "not_executable"


def test_script_with_a_missing_interpreter_says_so(box: Box) -> None:
    _file(box, "/bin/script", b"#!/usr/bin/python9\n")

    for name in ("script", "/bin/script"):
        failure = _failure(box, name)
        assert (failure.reason, failure.errno) == ("bad_interpreter", errno.ENOENT)
        assert failure.path == "/bin/script"


def test_program_for_another_architecture_says_so(box: Box) -> None:
    _file(box, "/bin/foreign", _elf(8))  # MIPS
    _file(box, "/bin/narrow", _elf(40, bits=32))  # 32-bit ARM

    for name in ("foreign", "/bin/narrow"):
        failure = _failure(box, name)
        assert (failure.reason, failure.errno) == ("wrong_arch", errno.ENOEXEC)


def test_damaged_file_is_not_executable(box: Box) -> None:
    _file(box, "/bin/text", b"hello")
    _file(box, "/bin/nothing-in-it", b"")

    for name in ("text", "nothing-in-it"):
        failure = _failure(box, name)
        assert (failure.reason, failure.errno) == ("not_executable", errno.ENOEXEC)


def test_fifo_as_program_does_not_block(box: Box) -> None:
    subprocess.run(["mkfifo", "-m", "755", str(box.image / "bin/pipe")], check=True)

    assert _failure(box, "/bin/pipe").reason == "not_executable"


def test_loop_of_links_is_reported(box: Box) -> None:
    (box.image / "bin/loop").symlink_to("loop")

    assert _failure(box, "/bin/loop").errno == errno.ELOOP


def test_thousands_of_arguments_arrive(box: Box) -> None:
    assert box.run("sh", "-c", "echo $#", "sh", *("x",) * 20000).out == "20000\n"


def test_too_long_arguments_are_reported(box: Box) -> None:
    assert _failure(box, "true", "x" * (256 << 10)).errno == errno.E2BIG


# --- the reaper ---


def test_reaper_is_process_one_and_gives_the_programs_status(box: Box) -> None:
    outcome = box.shell("echo $$; cat /proc/1/comm; exit 9", flags=plan.EXEC_INIT)

    assert outcome.out == "2\ninit\n"
    assert outcome.status == 9


def test_reaper_gives_128_and_the_signal(box: Box) -> None:
    assert box.shell("kill -9 $$", flags=plan.EXEC_INIT).status == 128 + 9


def test_reaper_reports_a_failed_exec(box: Box) -> None:
    outcome = box.run("nothing", flags=plan.EXEC_INIT)

    assert outcome.failure is not None
    assert outcome.failure.reason == "not_found"


def test_reaper_leaves_no_zombies(box: Box) -> None:
    script = (
        "for i in 1 2 3 4 5; do (sleep 0 & exit 0); done; sleep 0.2;"
        "cat /proc/[0-9]*/stat | grep -c ' Z '; true"
    )

    assert box.shell(script, flags=plan.EXEC_INIT).out == "0\n"


def test_reaper_forwards_signals(box: Box) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        box.command(box.plan("sh", "-c", script, flags=plan.EXEC_INIT)), stdout=subprocess.PIPE
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        time.sleep(0.05)
        subprocess.run(["kill", f"-{signal.SIGTERM.value}", children[0]], check=True)
        rest = driver.stdout.read()
        status = driver.wait(timeout=20)

    assert (rest, status) == (b"caught\n", 5)


def test_reaper_holds_nothing_of_the_host_open(box: Box) -> None:
    script = "for f in /proc/1/fd/*; do echo $f; readlink $f; done; readlink /proc/1/exe; true"
    drop = op("capabilities", DOCKER_CAPABILITIES, DOCKER_CAPABILITIES, DOCKER_CAPABILITIES, 0, 0)
    outcome = box.shell(script, flags=plan.EXEC_INIT, after=(drop,))

    # It is not dumpable: what its descriptors and its executable are is not to be seen.
    assert outcome.out == "/proc/1/fd/0\n/proc/1/fd/1\n/proc/1/fd/2\n"


@pytest.mark.parametrize("create", [0, 1])
def test_working_directory_is_below_the_root(box: Box, create: int) -> None:
    (box.image / "srv").mkdir()
    (box.image / "link").symlink_to("/srv")

    outcome = box.run("pwd", after=(op("workdir", "/link", create),))

    assert outcome.out == "/srv\n"
