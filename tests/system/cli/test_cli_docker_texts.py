"""What docker prints and how it exits, compared word for word.

The texts are docker's (client 28, engine 20.10), with its name and its daemon's
taken out by `ours`.  Ids and times are ours; lines that begin with ``hint:`` are
an addition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requires
from conftest import Store

pytestmark = requires.root

RUN_HELP = "\n\nRun 'docker run --help' for more information\n"
RUN_USAGE = "\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]"
DAEMON = "docker: Error response from daemon: "
ID = "<id>"
NO_SUCH = "Error response from daemon: No such container: nosuch\n"


def ours(text: str) -> str:
    """docker's text in this program's mouth."""
    text = re.sub(r"(?<!api)docker", "sandbox", text)
    return text.replace("Error response from daemon: ", "")


def said(text: bytes) -> str:
    lines = [line for line in text.decode().splitlines(True) if not line.startswith("hint: ")]
    return re.sub(r"\b[0-9a-f]{64}\b", ID, "".join(lines))


# What follows `run`, exit code, docker's stderr.
RUN_ERRORS: list[tuple[list[str], int, str]] = [
    (
        ["--rm", "busybox", "nosuchcmd"],
        127,
        f'{DAEMON}exec: "nosuchcmd": executable file not found in $PATH{RUN_HELP}',
    ),
    (
        ["--rm", "busybox", "/etc/passwd"],
        126,
        f'{DAEMON}exec: "/etc/passwd": permission denied{RUN_HELP}',
    ),
    (["--rm", "busybox", "/etc"], 126, f'{DAEMON}exec: "/etc": permission denied{RUN_HELP}'),
    (
        ["--rm", "-w", "/etc/passwd", "busybox", "true"],
        125,
        f"{DAEMON}Cannot mkdir: /etc/passwd is not a directory{RUN_HELP}",
    ),
    (
        ["--rm", "-u", "nosuch", "busybox", "true"],
        125,
        f"{DAEMON}unable to find user nosuch: no matching entries in passwd file{RUN_HELP}",
    ),
    (
        ["--rm", "-v", "/nosuch/rel:rel", "busybox", "true"],
        125,
        f"{DAEMON}invalid volume specification: '/nosuch/rel:rel': invalid mount config for type "
        f"\"bind\": invalid mount path: 'rel' mount path must be absolute{RUN_HELP}",
    ),
    (
        ["--rm", "--mount", "type=bind,src=/nosuchdir,dst=/x", "busybox", "true"],
        125,
        f'{DAEMON}invalid mount config for type "bind": bind source path does not exist: '
        f"/nosuchdir{RUN_HELP}",
    ),
    (["--nosuchflag", "busybox", "true"], 125, f"unknown flag: --nosuchflag{RUN_USAGE}{RUN_HELP}"),
    (
        [],
        1,
        f"docker: 'docker run' requires at least 1 argument{RUN_USAGE}\n\n"
        "See 'docker run --help' for more information\n",
    ),
    (
        ["--rm", "-m", "1", "busybox", "true"],
        125,
        f"{DAEMON}Minimum memory limit allowed is 6MB{RUN_HELP}",
    ),
    (
        ["--rm", "-m", "4m", "busybox", "true"],
        125,
        f"{DAEMON}Minimum memory limit allowed is 6MB{RUN_HELP}",
    ),
    (
        ["--rm", "-m", "abc", "busybox", "true"],
        125,
        f'invalid argument "abc" for "-m, --memory" flag: invalid size: \'abc\''
        f"{RUN_USAGE}{RUN_HELP}",
    ),
    (
        ["--rm", "--cpu-shares", "-1", "busybox", "true"],
        125,
        f"{DAEMON}shares: invalid argument{RUN_HELP}",
    ),
    (
        ["--rm", "--memory-swap", "10m", "busybox", "true"],
        125,
        f"{DAEMON}You should always set the Memory limit when using Memoryswap limit, "
        f"see usage{RUN_HELP}",
    ),
    (
        ["--rm", "-m", "20m", "--memory-swap", "10m", "busybox", "true"],
        125,
        f"{DAEMON}Minimum memoryswap limit should be larger than memory limit, see usage{RUN_HELP}",
    ),
    (
        ["--rm", "--network", "nosuch", "busybox", "true"],
        125,
        f"{DAEMON}network nosuch not found{RUN_HELP}",
    ),
    (
        ["--rm", "--network", "container:nosuch", "busybox", "true"],
        125,
        f"{DAEMON}No such container: nosuch{RUN_HELP}",
    ),
    (
        ["--name", "a2", "busybox", "true"],
        125,
        f'{DAEMON}Conflict. The container name "/a2" is already in use by container "{ID}". '
        f"You have to remove (or rename) that container to be able to reuse that name.{RUN_HELP}",
    ),
    (
        ["--name", "bad/name", "busybox", "true"],
        125,
        f"{DAEMON}Invalid container name (bad/name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        f"{RUN_HELP}",
    ),
    (
        ["--rm", "--restart", "always", "busybox", "true"],
        125,
        f"docker: conflicting options: cannot specify both --restart and --rm{RUN_HELP}",
    ),
    (
        ["--rm", "-e", "=x", "busybox", "true"],
        125,
        f'invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x'
        f"{RUN_USAGE}{RUN_HELP}",
    ),
    (
        ["--rm", "--cap-add", "NOSUCH", "busybox", "true"],
        125,
        f'{DAEMON}invalid CapAdd: unknown capability: "CAP_NOSUCH"{RUN_HELP}',
    ),
    (
        ["--rm", "--security-opt", "foo=bar", "busybox", "true"],
        125,
        f'{DAEMON}invalid --security-opt 2: "foo=bar"{RUN_HELP}',
    ),
    (
        ["--rm", "--log-driver", "nosuch", "busybox", "true"],
        125,
        f'{DAEMON}error looking up logging plugin nosuch: plugin "nosuch" not found{RUN_HELP}',
    ),
    (["--rm", "-it", "busybox", "true"], 1, "the input device is not a TTY\n"),
    (
        ["--pull", "never", "nosuchimage:tag"],
        125,
        f"{DAEMON}No such image: nosuchimage:tag{RUN_HELP}",
    ),
    (
        ["--pull", "never", "127.0.0.1:5000/none", "true"],
        125,
        f"{DAEMON}No such image: 127.0.0.1:5000/none:latest{RUN_HELP}",
    ),
    (
        ["UPPER/case", "true"],
        125,
        f"{DAEMON}invalid reference format: repository name must be lowercase{RUN_HELP}",
    ),
]

# Whole command, exit code, stdout, docker's stderr.
OTHER_VERBS: list[tuple[list[str], int, str, str]] = [
    (["start", "nosuch"], 1, "",
     "Error response from daemon: No such container: nosuch\n"
     "Error: failed to start containers: nosuch\n"),
    (["stop", "nosuch"], 1, "", "Error response from daemon: No such container: nosuch\n"),
    (["restart", "nosuch"], 1, "", "Error response from daemon: No such container: nosuch\n"),
    (["kill", "nosuch"], 1, "",
     "Error response from daemon: Cannot kill container: nosuch: No such container: nosuch\n"),
    (["wait", "nosuch"], 1, "", "Error response from daemon: No such container: nosuch\n"),
    (["logs", "nosuch"], 1, "", "Error response from daemon: No such container: nosuch\n"),
    (["rm", "nosuch"], 1, "", "Error response from daemon: No such container: nosuch\n"),
    (["rm", "-f", "nosuch"], 0, "", "Error response from daemon: No such container: nosuch\n"),
    (["inspect", "nosuch"], 1, "[]\n", "Error: No such object: nosuch\n"),
    (["image", "inspect", "nosuch"], 1, "[]\n",
     "Error response from daemon: no such image: nosuch: No such image: nosuch:latest\n"),
    (["rmi", "nosuch"], 1, "", "Error response from daemon: No such image: nosuch:latest\n"),
    (["tag", "nosuch", "x:1"], 1, "", "Error response from daemon: No such image: nosuch:latest\n"),
    (["tag", "busybox", "X:1"], 1, "",
     'Error parsing reference: "X:1" is not a valid repository/tag: invalid reference format: '
     "repository name (library/X) must be lowercase\n"),
    (["kill", "a2"], 1, "",
     f"Error response from daemon: Cannot kill container: a2: Container {ID} is not running\n"),
    (["stop", "a2"], 0, "a2\n", ""),
    (["wait", "a3", "a2"], 0, "3\n0\n", ""),
    (["logs", "--since", "bogus", "a3"], 1, "",
     'invalid value for "since": failed to parse value as time or duration: "bogus"\n'),
    (["inspect", "-f", "{{.Nope}}", "a3"], 1, "\n",
     'template parsing error: template: :1:2: executing "" at <.Nope>: '
     'map has no entry for key "Nope"\n'),
    (["inspect", "-f", "{{", "a3"], 64, "",
     "template parsing error: template: :1: unclosed action\n"),
    (["inspect", "--type", "bogus", "a3"], 1, "",
     'unknown type: "bogus": must be one of "config", "container", "image", "network", "node", '
     '"plugin", "secret", "service", "task", "volume"\n'),
    (["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", "a3"], 0,
     "3 false \n", ""),
    (["ps", "--filter", "nosuch=1"], 1, "",
     "Error response from daemon: Invalid filter 'nosuch'\n"),
    (["ps", "--filter", "status=bogus"], 1, "",
     "Error response from daemon: Invalid filter 'status=bogus'\n"),
    (["ps", "-a", "--format", "{{.Nope}}"], 1, "",
     'failed to execute template: template: :1:2: executing "" at <.Nope>: '
     "can't evaluate field Nope in type *formatter.ContainerContext\n"),
    (["ps", "--format", "{{"], 1, "",
     "failed to parse template: template: :1: unclosed action\n"),
    (["images", "--filter", "nosuch=1"], 1, "",
     "Error response from daemon: Invalid filter 'nosuch'\n"),
    (["images", "nosuch"], 0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n", ""),
    (["ps"], 0, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n", ""),
    (["pause", "nosuch"], 1, "", NO_SUCH),
    (["unpause", "nosuch"], 1, "", NO_SUCH),
    (["top", "nosuch"], 1, "", NO_SUCH),
    (["port", "nosuch"], 1, "", NO_SUCH),
    (["attach", "nosuch"], 1, "", NO_SUCH),
    (["exec", "nosuch", "true"], 1, "", NO_SUCH),
    (["stats", "--no-stream", "nosuch"], 1, "", NO_SUCH),
    (["diff", "nosuch"], 1, "", NO_SUCH),
    (["commit", "nosuch"], 1, "", NO_SUCH),
    (["pause", "a2"], 1, "", f"Error response from daemon: Container {ID} is not running\n"),
    (["top", "a2"], 1, "", f"Error response from daemon: Container {ID} is not running\n"),
    (["exec", "a2", "true"], 1, "", f"Error response from daemon: Container {ID} is not running\n"),
    (["attach", "a2"], 1, "", "You cannot attach to a stopped container, start it first\n"),
    (["rename", "a2", "a3"], 1, "",
     "Error response from daemon: Error when allocating new name: Conflict. The container name "
     f'"/a3" is already in use by container "{ID}". You have to remove (or rename) that container '
     "to be able to reuse that name.\nError: failed to rename container named a2\n"),
    (["rename", "a2", "a2"], 1, "",
     "Error response from daemon: Renaming a container with the same name as its current name\n"
     "Error: failed to rename container named a2\n"),
    (["port", "a2"], 0, "", ""),
    (["port", "a2", "9999"], 1, "", "Error: No public port '9999' published for a2\n"),
    (["update", "-m", "1", "a2"], 1, "",
     "Error response from daemon: Minimum memory limit allowed is 6MB\n"),
    (["update", "--cpus", "0.5", "a2"], 0, "a2\n", ""),
    (["cp", "a2:/etc/passwd", "a3:/x"], 1, "",
     "copying between containers is not supported\n"),
    (["cp", "a2:/nosuch", "/tmp/x"], 1, "",
     "Error response from daemon: Could not find the file /nosuch in container a2\n"),
    (["cp", "/nosuch", "a2:/"], 1, "", "lstat //nosuch: no such file or directory\n"),
    (["nosuchcommand"], 1, "",
     "docker: unknown command: docker nosuchcommand\n\n"
     "Run 'docker --help' for more information\n"),
]  # fmt: skip


@pytest.fixture
def two_exited(busybox: Store) -> Iterator[Store]:
    """``a2`` exited with 0, ``a3`` with 3."""
    assert busybox.program("run", "--name", "a2", "busybox", "true").returncode == 0
    assert busybox.program("run", "--name", "a3", "busybox", "sh", "-c", "exit 3").returncode == 3
    yield busybox
    busybox.program("rm", "-f", "a2", "a3")


def test_errors_of_run_are_dockers(two_exited: Store) -> None:
    wrong = []
    for arguments, code, stderr in RUN_ERRORS:
        done = two_exited.program("run", *arguments)
        found = (done.returncode, done.stdout, said(done.stderr))
        if found != (code, b"", ours(stderr)):
            wrong.append(f"run {' '.join(arguments)}:\n{found}\n{(code, b'', ours(stderr))}")

    assert not wrong, "\n\n".join(wrong)
    left = two_exited.program("ps", "-a", "--format", "{{.Names}}").stdout
    assert left == b"a3\na2\n"


def test_texts_of_the_other_verbs_are_dockers(two_exited: Store) -> None:
    wrong = []
    for arguments, code, stdout, stderr in OTHER_VERBS:
        done = two_exited.program(*arguments)
        found = (done.returncode, said(done.stdout), said(done.stderr))
        if found != (code, stdout, ours(stderr)):
            wrong.append(f"{' '.join(arguments)}:\n{found}\n{(code, stdout, ours(stderr))}")

    assert not wrong, "\n\n".join(wrong)


# With ``a1`` running: command, exit code, stdout, docker's stderr; one after another.
OF_A_RUNNING_ONE: list[tuple[list[str], int, str, str]] = [
    (["start", "a1"], 0, "a1\n", ""),
    (["kill", "-s", "BOGUS", "a1"], 1, "", "Error response from daemon: Invalid signal: BOGUS\n"),
    (["unpause", "a1"], 1, "", f"Error response from daemon: Container {ID} is not paused\n"),
    (["exec", "a1", "sh", "-c", "exit 42"], 42, "", ""),
    (["exec", "a1", "sh", "-c", "kill -9 $$"], 137, "", ""),
    (["exec", "a1", "nosuchcmd"], 126, "",
     'exec: "nosuchcmd": executable file not found in $PATH\n'),
    (["exec", "a1", "/etc/passwd"], 126, "", 'exec: "/etc/passwd": permission denied\n'),
    (["exec", "-u", "nosuch", "a1", "true"], 126, "",
     "unable to find user nosuch: no matching entries in passwd file\n"),
    (["pause", "a1"], 0, "a1\n", ""),
    (["pause", "a1"], 1, "", f"Error response from daemon: Container {ID} is already paused\n"),
    (["exec", "a1", "true"], 1, "",
     "Error response from daemon: Container a1 is paused, unpause the container before exec\n"),
    (["attach", "a1"], 1, "", "You cannot attach to a paused container, unpause it first\n"),
    (["unpause", "a1"], 0, "a1\n", ""),
    (["update", "--cpus", "0.5", "a1"], 0, "a1\n", ""),
    (["rename", "a1", "a9"], 0, "", ""),
    (["rename", "a9", "a1"], 0, "", ""),
    (["top", "a1", "-o", "pid,comm"], 0,
     "PID                 COMMAND\n<n>               sleep\n", ""),
    (["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "a1"], 0, "running 0\n", ""),
    (["rm", "a1"], 1, "",
     f"Error response from daemon: You cannot remove a running container {ID}. Stop the container "
     "before attempting removal or force remove\n"),
    (["stop", "-t", "0", "a1"], 0, "a1\n", ""),
    (["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", "a1"], 0,
     "137 false \n", ""),
    (["rm", "-v", "a1"], 0, "a1\n", ""),
]  # fmt: skip


def test_texts_about_a_running_container_are_dockers(busybox: Store) -> None:
    done = busybox.program("run", "-d", "--name", "a1", "busybox", "sleep", "1000")
    assert done.returncode == 0, done.stderr.decode()
    wrong = []
    for arguments, code, stdout, stderr in OF_A_RUNNING_ONE:
        done = busybox.program(*arguments)
        out = re.sub(r"(?m)^\d+ +", "<n>               ", said(done.stdout))
        if arguments[0] != "top":
            out = said(done.stdout)
        found = (done.returncode, out, said(done.stderr))
        if found != (code, stdout, ours(stderr)):
            wrong.append(f"{' '.join(arguments)}:\n{found}\n{(code, stdout, ours(stderr))}")

    assert not wrong, "\n\n".join(wrong)


def test_too_many_cpus_names_how_many_there_are(busybox: Store) -> None:
    done = busybox.program("run", "--rm", "--cpus", "1000", "busybox", "true")

    assert done.returncode == 125
    assert re.fullmatch(
        r"sandbox: Range of CPUs is from 0\.01 to (\d+)\.00, as there are only \1 CPUs available\n"
        r"\nRun 'sandbox run --help' for more information\n",
        said(done.stderr),
    )


def test_the_program_ends_as_its_command_does(busybox: Store) -> None:
    codes = {
        "exit 0": 0,
        "exit 3": 3,
        "kill -9 $$": 0,  # process 1 of a namespace ignores what it did not ask for
    }

    found = {
        text: busybox.program("run", "--rm", "busybox", "sh", "-c", text).returncode
        for text in codes
    }

    assert found == codes
    done = busybox.program("run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$")
    assert done.returncode == 137


def test_a_running_container_is_in_the_way(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "a1", "busybox", "sleep", "1000")

    refused = busybox.program("rm", "a1")
    signal = busybox.program("kill", "-s", "BOGUS", "a1")
    started = busybox.program("start", "a1")
    image = busybox.program("rmi", "busybox")
    removed = busybox.program("rm", "-f", "a1")

    assert (refused.returncode, said(refused.stderr)) == (
        1,
        f"You cannot remove a running container {ID}. Stop the container before attempting "
        "removal or force remove\n",
    )
    assert (signal.returncode, said(signal.stderr)) == (1, "Invalid signal: BOGUS\n")
    assert (started.returncode, started.stdout) == (0, b"a1\n")
    assert image.returncode == 1
    assert re.fullmatch(
        r'conflict: unable to remove repository reference "busybox" \(must force\) - '
        r"container [0-9a-f]{12} is using its referenced image [0-9a-f]{12}\n",
        said(image.stderr),
    )
    assert (removed.returncode, removed.stdout) == (0, b"a1\n")


def test_a_cidfile_that_is_there_is_not_overwritten(busybox: Store, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    first = busybox.program("run", "-d", "--name", "aa", "--cidfile", str(file), "busybox", "true")
    kept = file.read_text()

    second = busybox.program("run", "--rm", "--cidfile", str(file), "busybox", "true")
    busybox.program("wait", "aa")
    busybox.program("rm", "aa")

    assert first.stdout.decode().strip() == kept
    assert second.returncode == 125
    assert said(second.stderr) == ours(
        "docker: container ID file found, make sure the other container isn't running or delete "
        f"{file}{RUN_HELP}"
    )


def test_logs_come_back_on_their_streams(busybox: Store) -> None:
    busybox.program("run", "--name", "aa", "busybox", "sh", "-c", "echo start; echo err >&2")

    whole = busybox.program("logs", "aa")
    last = busybox.program("logs", "--tail", "1", "-t", "aa")
    busybox.program("rm", "aa")

    assert (whole.stdout, whole.stderr) == (b"start\n", b"err\n")
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z err\n", last.stderr)


def test_columns_of_ps_are_dockers(busybox: Store) -> None:
    busybox.program("create", "--name", "a5", "-l", "x=y", "busybox", "sleep", "9")

    table = busybox.program("ps", "-as").stdout.decode().splitlines()
    line = busybox.program(
        "ps", "-a", "--format",
        "{{.Image}}|{{.Command}}|{{.Ports}}|{{.State}}|{{.Status}}|{{.Names}}|{{.Labels}}|"
        '{{.Label "x"}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Platform}}',
    ).stdout  # fmt: skip
    own = busybox.program("ps", "-a", "--format", "table {{.Names}}\\t{{.Status}}").stdout
    busybox.program("rm", "a5")

    assert re.fullmatch(
        r"CONTAINER ID   IMAGE     COMMAND     CREATED +STATUS    PORTS     NAMES     SIZE",
        table[0],
    )
    assert re.fullmatch(
        r'[0-9a-f]{12}   busybox   "sleep 9"   .+ ago   Created             a5        '
        r"0B \(virtual [0-9.]+[kM]B\)",
        table[1],
    )
    assert line == b'busybox|"sleep 9"||created|Created|a5|x=y|y||0|none|<nil>\n'
    assert own == b"NAMES     STATUS\na5        Created\n"


def test_containers_are_filtered_as_docker_filters(two_exited: Store) -> None:
    expected = {
        "status=exited": ["a3", "a2"],
        "exited=3": ["a3"],
        "name=a": ["a3", "a2"],
        "name=^a3$": ["a3"],
        "ancestor=busybox": ["a3", "a2"],
        "ancestor=nosuch": [],
        "before=a3": ["a2"],
        "since=a2": ["a3"],
        "network=none": ["a3", "a2"],
        "label=nosuch": [],
        "volume=nosuch": [],
    }

    found = {
        text: two_exited.program("ps", "-a", "-f", text, "--format", "{{.Names}}")
        .stdout.decode()
        .split()
        for text in expected
    }

    assert found == expected


def test_inspect_has_dockers_keys_in_dockers_order(two_exited: Store) -> None:
    done = two_exited.program("inspect", "a3")
    keys = re.findall(r'^ {8}"(\w+)"', done.stdout.decode(), re.MULTILINE)
    state = two_exited.program("inspect", "-f", "{{json .State}}", "a3").stdout.decode()

    assert (
        keys
        == (
            "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name "
            "RestartCount Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs "
            "HostConfig GraphDriver Mounts Config NetworkSettings Sandbox"
        ).split()
    )
    assert (
        re.findall(r'"(\w+)":', state)
        == (
            "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt "
            "FinishedAt"
        ).split()
    )


def test_both_docker_forms_of_a_command_do_the_same(two_exited: Store) -> None:
    assert (
        two_exited.program("container", "ls", "-aq").stdout
        == two_exited.program("ps", "-aq").stdout
    )
    assert two_exited.program("image", "ls").stdout == two_exited.program("images").stdout


def test_an_oom_kill_is_told(busybox: Store) -> None:
    eater = "x=a; while :; do x=$x$x; done"
    done = busybox.program("run", "--name", "oom", "-m", "16m", "busybox", "sh", "-c", eater)

    state = busybox.program(
        "inspect", "-f",
        "{{.State.ExitCode}} {{.State.OOMKilled}} {{.Sandbox.Verdict}} "
        "{{.Sandbox.Enforcement.memory}}",
        "oom",
    )  # fmt: skip
    busybox.program("rm", "oom")

    assert done.returncode == 137
    assert re.fullmatch(rb"137 true oom cgroup[12]\n", state.stdout)


def test_the_report_goes_to_stderr_or_to_a_file(busybox: Store, tmp_path: Path) -> None:
    file = tmp_path / "report.json"

    text = busybox.program("run", "--rm", "--report", "busybox", "sh", "-c", "echo x; exit 3")
    json = busybox.program(
        "run", "--rm", "--report=json", "--report-file", str(file), "busybox", "true"
    )

    assert (text.returncode, text.stdout) == (3, b"x\n")
    assert text.stderr.startswith(b"verdict: nonzero (exit code 3)\nexit_code: 3\nwall_s: ")
    assert json.stderr.startswith(b'{"verdict":"ok","detail":"","exit_code":0,"signal":null,')
    assert '"peak_memory_bytes": ' in file.read_text()


def test_stdin_reaches_the_command_only_when_asked_for(busybox: Store) -> None:
    given = busybox.program("run", "--rm", "-i", "busybox", "cat", stdin=b"data")
    kept_back = busybox.program("run", "--rm", "busybox", "cat", stdin=b"data")

    assert given.stdout == b"data"
    assert kept_back.stdout == b""


def test_a_reader_that_leaves_is_no_error(busybox: Store) -> None:
    import subprocess

    from conftest import program_path

    done = subprocess.run(
        ["sh", "-c", f"{program_path()} --help | head -n 1"],
        env=busybox.environ,
        capture_output=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (b"Usage:  sandbox [OPTIONS] COMMAND\n", b"")


def test_junk_is_no_archive(store: Store) -> None:
    for arguments in (["load"], ["import", "-", "junk:1"]):
        done = store.program(*arguments, stdin=b"junk\n")

        assert (done.returncode, said(done.stderr)) == (
            1,
            "Error processing tar file(exit status 1): unexpected EOF\n",
        )


def test_debug_prints_the_plan_before_it_is_carried_out(busybox: Store) -> None:
    done = busybox.program("--debug", "run", "--rm", "busybox", "true")

    assert done.returncode == 0
    assert b"exec" in done.stderr
