"""The launch plan of an exec."""

from __future__ import annotations

from sandbox.native.plan import LIFETIME_WITH_LAUNCHER, STDIO_STDIN, STDIO_TTY, encode, op
from sandbox.oci.spec import IdMapping, Process, User
from sandbox.record import replace
from sandbox.runtime import defaults
from sandbox.runtime.exec import ExecSettings, compile_exec
from sandbox.runtime.launch import Filter, Group
from sandbox.runtime.plan import process_ops

PROCESS = Process(
    args=("true",), cwd="/tmp", user=User(uid=5), capabilities=defaults.default_capabilities()
)
FILTER = Filter(program=b"\x06\0\0\0\0\0\xff\x7f")
SETTINGS = ExecSettings(
    id="c1", pid=77, start_time=1234, groups=(Group(version=1, controllers="pids", path="/g"),)
)
MAPS = (IdMapping(container_id=0, host_id=100000, size=65536),)


def test_it_enters_and_makes_nothing() -> None:
    ops = compile_exec(PROCESS, SETTINGS, FILTER)

    assert [each.name for each in ops] == [
        *("id", "stdio", "cgroup", "enter", "workdir", "keyring"),
        *("umask", "seccomp", "ids", "capabilities", "exec"),
    ]
    assert op("enter", 77, 1234) in ops
    assert op("workdir", "/tmp", 0) in ops
    assert encode(ops)


def test_from_the_working_folder_on_it_is_as_the_first_process() -> None:
    settings = replace(SETTINGS, uid_mappings=MAPS, gid_mappings=MAPS)
    ops = list(compile_exec(PROCESS, settings, FILTER))
    same = process_ops(PROCESS, FILTER)

    assert ops[-len(same) :] == same
    assert op("id_map", "0 100000 65536\n", "0 100000 65536\n") in ops


def test_a_terminal_a_limit_and_a_lifetime() -> None:
    settings = replace(SETTINGS, tty=True, stdin_open=True, rows=3, columns=4, wall_ms=5)
    ops = compile_exec(PROCESS, replace(settings, with_launcher=True), None)

    assert op("stdio", STDIO_TTY | STDIO_STDIN, 3, 4) in ops
    assert op("limits", 5, 0, 0) in ops
    assert op("lifetime", LIFETIME_WITH_LAUNCHER) in ops
    assert op("console", 5, -1) in ops
