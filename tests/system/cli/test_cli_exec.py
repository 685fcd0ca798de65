"""``exec``: one more process in a running container, as a black box."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store, program_path

pytestmark = [requires.root, requires.overlay]

DEADLINE_S = 20.0
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture
def web(busybox: Store) -> Iterator[Store]:
    """A store with the running container ``web``."""
    done = busybox.program("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert done.returncode == 0, done.stderr
    yield busybox
    busybox.program("rm", "-f", "web")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def first_pid(store: Store, name: str = "web") -> int:
    return int(store.program("inspect", "-f", "{{.State.Pid}}", name).stdout)


def pids_of(first: int, word: str) -> list[int]:
    """Processes in the container's pid namespace that have this word on their command line."""
    namespace = os.readlink(f"/proc/{first}/ns/pid")
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            same = os.readlink(f"/proc/{name}/ns/pid") == namespace
        except OSError:
            continue
        if same and word.encode() in words:
            found.append(int(name))
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["web", "nosuchcmd"], 126, 'exec: "nosuchcmd": executable file not found in $PATH'),
        (["web", "/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (
            ["-u", "nosuch", "web", "true"],
            126,
            "unable to find user nosuch: no matching entries in passwd file",
        ),
        (
            ["-w", "/nosuch", "web", "pwd"],
            126,
            'chdir to cwd ("/nosuch") set in config.json failed: no such file or directory',
        ),
        (["nosuch", "true"], 1, "No such container: nosuch"),
        (["-it", "web", "true"], 1, "the input device is not a TTY"),
    ],
)
def test_what_docker_says_of_a_bad_exec(
    web: Store, arguments: list[str], code: int, text: str
) -> None:
    done = web.program("exec", *arguments)

    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode() == f"{text}\n"


def test_a_bad_duration_is_a_bad_flag(web: Store) -> None:
    done = web.program("exec", "--timeout", "zz", "web", "true")

    assert done.returncode == 125
    assert b'invalid argument "zz" for "--timeout" flag' in done.stderr


def test_the_exit_code_is_the_programs(web: Store) -> None:
    assert web.program("exec", "web", "sh", "-c", "exit 42").returncode == 42
    assert web.program("exec", "web", "sh", "-c", "kill -9 $$").returncode == 137


def test_both_outputs_are_apart_and_stdin_is_only_there_when_asked_for(web: Store) -> None:
    script = "cat; echo err >&2"

    with_stdin = web.program("exec", "-i", "web", "sh", "-c", script, stdin=b"in\n")
    without = web.program("exec", "web", "sh", "-c", script, stdin=b"in\n")

    assert (with_stdin.stdout, with_stdin.stderr) == (b"in\n", b"err\n")
    assert (without.stdout, without.stderr) == (b"", b"err\n")


def test_user_folder_and_environment_are_the_containers_or_those_asked_for(
    busybox: Store,
) -> None:
    busybox.program(
        *("run", "-d", "--name", "web", "-u", "7:8", "-w", "/etc", "-e", "A=1", "-e", "B=2"),
        *("busybox", "sleep", "1000"),
    )
    script = "echo $(id -u):$(id -g) $(pwd) $A $B $HOSTNAME $(hostname)"

    plain = busybox.program("exec", "web", "sh", "-c", script).stdout.decode().split()
    asked = busybox.program(
        "exec", "-u", "0", "-w", "/tmp", "-e", "B=3", "web", "sh", "-c", script
    ).stdout.decode()
    busybox.program("rm", "-f", "web")

    assert plain[:4] == ["7:8", "/etc", "1", "2"]
    assert plain[4] == plain[5]
    assert asked.split()[:4] == ["0:0", "/tmp", "1", "3"]


def test_the_users_file_is_the_running_containers(web: Store) -> None:
    web.program("exec", "web", "sh", "-c", "echo late:x:77:88::/tmp:/bin/sh >>/etc/passwd")

    done = web.program("exec", "-u", "late", "web", "sh", "-c", "id -u; id -g; echo $HOME")

    assert done.stdout == b"77\n88\n/tmp\n"


def test_it_is_in_every_namespace_and_every_group_of_the_container(web: Store) -> None:
    first = first_pid(web)
    web.program("exec", "-d", "web", "sleep", "777")
    (other,) = pids_of(first, "777")

    def look(pid: int) -> list[str]:
        return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES]

    assert look(other) == look(first)
    assert look(other) != look(os.getpid())
    groups = Path(f"/proc/{other}/cgroup").read_text()
    assert groups == Path(f"/proc/{first}/cgroup").read_text()
    assert "/sandbox-" in groups
    assert os.readlink(f"/proc/{other}/root") == "/"


def test_it_can_no_more_than_the_first_process(web: Store) -> None:
    script = "grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|SigIgn|SigBlk|Umask)' /proc/self/status"
    ran = web.program("run", "--rm", "busybox", "sh", "-c", script)
    done = web.program("exec", "web", "sh", "-c", script)
    privileged = web.program("exec", "--privileged", "web", "sh", "-c", script)

    assert done.stdout == ran.stdout
    assert b"CapEff:\t00000000a80425fb\n" in done.stdout
    assert b"CapEff:\t00000000a80425fb\n" not in privileged.stdout


def test_the_containers_own_restrictions_hold(busybox: Store) -> None:
    busybox.program(
        *("run", "-d", "--name", "web", "--cap-drop", "ALL", "--read-only"),
        *("--security-opt", "no-new-privileges", "--ulimit", "nofile=77:88"),
        *("busybox", "sleep", "1000"),
    )
    script = (
        "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status; ulimit -n; ulimit -Hn; "
        "touch /x 2>/dev/null || echo refused"
    )

    done = busybox.program("exec", "web", "sh", "-c", script)
    busybox.program("rm", "-f", "web")

    assert done.stdout.decode().split() == [
        *("CapBnd:", "0000000000000000", "NoNewPrivs:", "1", "77", "88", "refused"),
    ]


def test_it_has_the_three_standard_descriptors_and_no_other(web: Store) -> None:
    web.program("exec", "-d", "web", "sleep", "777")
    (pid,) = pids_of(first_pid(web), "777")

    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]


def test_the_monitors_program_is_out_of_the_containers_sight(web: Store) -> None:
    watch = (
        "while :; do for p in /proc/[0-9]*; do readlink $p/exe; (: >>$p/exe) && echo written; "
        "done; done >/tmp/seen 2>/dev/null"
    )
    web.program("exec", "-d", "web", "sh", "-c", watch)

    for _ in range(10):
        web.program("exec", "web", "true")
    seen = web.program("exec", "web", "cat", "/tmp/seen").stdout.decode().split()

    assert "/bin/sleep" in seen
    assert {os.path.dirname(path) for path in seen} == {"/bin"}


def test_the_monitors_program_as_a_command_does_nothing(web: Store) -> None:
    done = web.program("exec", "web", "/proc/self/exe")

    assert done.returncode != 0
    assert web.program("exec", "web", "true").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_client_that_goes_takes_its_processes_with_it(web: Store, number: int) -> None:
    first = first_pid(web)
    client = subprocess.Popen(
        [program_path(), "exec", "web", "sh", "-c", "sleep 888 & sleep 889"], env=web.environ
    )
    wait_until(lambda: bool(pids_of(first, "888") and pids_of(first, "889")))

    client.send_signal(number)
    client.wait()

    wait_until(lambda: not pids_of(first, "888") and not pids_of(first, "889"))
    assert web.program("exec", "web", "true").returncode == 0


def test_the_time_limit_kills_the_command_and_its_children(web: Store) -> None:
    script = "set -m; sleep 888 & sleep 889"
    done = web.program("exec", "--timeout", "300ms", "web", "sh", "-c", script)

    assert done.returncode == 137
    assert not pids_of(first_pid(web), "888")
    assert not pids_of(first_pid(web), "889")


def test_what_is_left_in_the_background_stays_and_does_not_hold_the_command_up(
    web: Store,
) -> None:
    done = web.program("exec", "web", "sh", "-c", "sleep 888 & echo done")

    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert len(pids_of(first_pid(web), "888")) == 1


def test_a_detached_command_goes_on_alone(web: Store) -> None:
    done = web.program("exec", "-d", "web", "sh", "-c", "echo here >/tmp/file; sleep 888")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    wait_until(lambda: web.program("exec", "web", "cat", "/tmp/file").stdout == b"here\n")


def test_a_detached_command_that_cannot_be_executed_is_an_error(web: Store) -> None:
    assert web.program("exec", "-d", "web", "nosuchcmd").returncode == 126


def test_the_end_of_the_container_is_the_end_of_its_execs(web: Store) -> None:
    client = subprocess.Popen(
        [program_path(), "exec", "web", "sleep", "888"],
        env=web.environ,
        stdout=subprocess.PIPE,
    )
    first = first_pid(web)
    wait_until(lambda: bool(pids_of(first, "888")))

    stopped = web.program("stop", "-t", "0", "web")

    assert stopped.returncode == 0
    assert client.communicate(timeout=DEADLINE_S)[0] == b""
    assert client.returncode == 137


def test_a_container_that_does_not_run_takes_no_exec(busybox: Store) -> None:
    busybox.program("create", "--name", "web", "busybox", "true")
    container_id = busybox.program("inspect", "-f", "{{.Id}}", "web").stdout.decode().strip()

    before = busybox.program("exec", "web", "true")
    busybox.program("start", "-a", "web")
    after = busybox.program("exec", "web", "true")

    for done in (before, after):
        assert done.returncode == 1
        assert done.stderr.decode() == f"Container {container_id} is not running\n"


def test_a_paused_container_takes_no_exec(web: Store) -> None:
    groups = Path(f"/proc/{first_pid(web)}/cgroup").read_text().splitlines()
    place = requires.controller_mount("freezer")
    if place is None:
        requires.another_host("no v1 freezer")
    own = next(line.split(":", 2)[2] for line in groups if "freezer" in line.split(":")[1])
    state = place / own.lstrip("/") / "freezer.state"
    state.write_text("FROZEN")
    try:
        wait_until(lambda: state.read_text() == "FROZEN\n")
        done = web.program("exec", "web", "true")
    finally:
        state.write_text("THAWED")

    assert done.returncode == 1
    assert done.stderr == b"Container web is paused, unpause the container before exec\n"


def test_an_exec_in_a_user_namespace_is_who_it_is_asked_to_be(busybox: Store) -> None:
    made = busybox.program(
        *("run", "-d", "--name", "web", "--userns", "auto", "busybox", "sleep", "1000")
    )
    if made.returncode:
        pytest.skip(made.stderr.decode())
    script = "id -u; cat /proc/self/uid_map; echo >/dev/stdout; grep CapEff /proc/self/status"

    done = busybox.program("exec", "web", "sh", "-c", script)
    other = busybox.program("exec", "-u", "5", "web", "id", "-u")
    busybox.program("rm", "-f", "web")

    assert done.stdout.decode().split() == [
        *("0", "0", "100000", "65536", "CapEff:", "00000000a80425fb"),
    ]
    assert other.stdout == b"5\n"


def test_an_exec_in_a_container_with_the_hosts_namespaces(busybox: Store) -> None:
    busybox.program(
        *("run", "-d", "--name", "web", "--pid", "host", "--network", "host"),
        *("busybox", "sleep", "1000"),
    )

    done = busybox.program("exec", "web", "sh", "-c", "readlink /proc/self/ns/net; ls /bin/sh")
    timed = busybox.program("exec", "--timeout", "200ms", "web", "sleep", "888")
    running = busybox.program("ps", "-q").stdout
    busybox.program("rm", "-f", "web")

    assert done.stdout.decode().split() == [os.readlink("/proc/self/ns/net"), "/bin/sh"]
    assert timed.returncode == 137
    assert running


def test_execs_against_the_end_of_their_container_lose_clearly(busybox: Store) -> None:
    for _ in range(5):
        busybox.program("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        container_id = busybox.program("inspect", "-f", "{{.Id}}", "web").stdout.decode().strip()
        clients = [
            subprocess.Popen(
                [program_path(), "exec", "web", "true"],
                env=busybox.environ,
                stderr=subprocess.PIPE,
            )
            for _ in range(3)
        ]
        assert busybox.program("rm", "-f", "web").returncode == 0
        for client in clients:
            said = client.communicate(timeout=DEADLINE_S)[1].decode()
            assert (client.returncode, said) in [
                (0, ""),
                (137, ""),
                (1, f"Container {container_id} is not running\n"),
                (1, "No such container: web\n"),
            ]


def test_an_exec_whose_monitor_is_killed_ends_and_nobody_knows_how(web: Store) -> None:
    first = first_pid(web)
    client = subprocess.Popen([program_path(), "exec", "web", "sleep", "888"], env=web.environ)
    wait_until(lambda: bool(pids_of(first, "888")))
    (pid,) = pids_of(first, "888")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(parent, signal.SIGKILL)

    assert client.wait(timeout=DEADLINE_S) == 255
    wait_until(lambda: not pids_of(first, "888"))
    assert web.program("exec", "web", "true").returncode == 0
