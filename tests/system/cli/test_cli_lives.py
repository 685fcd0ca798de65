"""Containers that live, hosts that lack something, shells that ask: the program as a black box."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import requires
from conftest import Store, program_path

pytestmark = requires.root


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_nobody_knows_how_a_run_ended_whose_monitor_was_killed(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
    pid = int(busybox.program("inspect", "-f", "{{.State.Pid}}", "aa").stdout)

    os.kill(parent_of(pid), signal.SIGKILL)

    waited = busybox.program("wait", "aa")
    status = busybox.program("ps", "-a", "--format", "{{.Status}}").stdout.decode()
    state = busybox.program(
        "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Sandbox.Verdict}}", "aa"
    ).stdout
    error = busybox.program("inspect", "-f", "{{.State.Error}}", "aa").stdout.strip()
    removed = busybox.program("rm", "aa")

    assert waited.stdout == b"255\n"
    assert status.startswith("Exited (unknown) ")
    assert state == b"exited 255 unknown\n"
    assert error
    assert removed.returncode == 0


def test_create_start_attached_and_again(busybox: Store) -> None:
    busybox.program("create", "-i", "--name", "job", "busybox", "sh", "-c", "cat; exit 4")

    first = busybox.program("start", "-ai", "job", stdin=b"one\n")
    second = busybox.program("start", "-ai", "job", stdin=b"two\n")
    logs = busybox.program("logs", "job")
    busybox.program("rm", "job")

    assert (first.returncode, first.stdout) == (4, b"one\n")
    assert (second.returncode, second.stdout) == (4, b"two\n")
    assert logs.stdout.endswith(b"two\n")


def test_stop_and_restart(busybox: Store) -> None:
    handler = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
    busybox.program("run", "-d", "--name", "aa", "busybox", "sh", "-c", handler)

    restarted = busybox.program("restart", "-t", "5", "aa")
    running = busybox.program("ps", "-q").stdout
    stopped = busybox.program("stop", "aa")
    status = busybox.program("ps", "-a", "--format", "{{.State}}").stdout
    busybox.program("rm", "aa")

    assert restarted.stdout == b"aa\n"
    assert len(running.split()) == 1
    assert stopped.stdout == b"aa\n"
    assert status == b"exited\n"


def test_two_signals_to_the_client_are_both_passed_on(busybox: Store) -> None:
    handler = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done"
    client = subprocess.Popen(
        [program_path(), "run", "--rm", "--name", "aa", "busybox", "sh", "-c", handler],
        stdout=subprocess.PIPE,
        env=busybox.environ,
    )
    assert client.stdout is not None
    try:
        assert client.stdout.readline() == b"ready\n"
        for _ in range(2):
            client.send_signal(signal.SIGINT)
            assert client.stdout.readline() == b"caught\n"
    finally:
        busybox.program("kill", "aa")
        code = client.wait()
        client.stdout.close()

    assert code == 137


def test_logs_follow_until_the_end(busybox: Store) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    busybox.program("run", "-d", "--name", "aa", "busybox", "sh", "-c", script)

    followed = busybox.program("logs", "-f", "aa")
    busybox.program("rm", "-f", "aa")

    assert followed.stdout == b"1\n2\n3\n"


def test_an_rm_container_is_gone_afterwards(busybox: Store) -> None:
    busybox.program("run", "--rm", "busybox", "true")
    busybox.program("run", "-d", "--rm", "--name", "later", "busybox", "sleep", "0.2")

    deadline = time.monotonic() + 20
    while busybox.program("ps", "-aq").stdout and time.monotonic() < deadline:
        time.sleep(0.1)

    assert busybox.program("ps", "-aq").stdout == b""


def test_the_environment_of_a_file_is_under_that_of_a_flag(busybox: Store, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nB=2\nC\n")

    done = busybox.program(
        "run", "--rm", "--env-file", str(file), "-e", "A=3", "busybox", "sh", "-c",
        "echo $A $B $C", C="from the caller",
    )  # fmt: skip

    assert done.stdout == b"3 2 from the caller\n"


def test_global_options_choose_the_store(busybox: Store, tmp_path: Path) -> None:
    other = ("--root", str(tmp_path / "other"), "--run", str(tmp_path / "otherrun"))

    assert busybox.program("images", "-q").stdout
    assert busybox.program(*other, "images", "-q").stdout == b""


def test_an_image_may_be_imported_and_run(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", str(root / "bin" / "busybox")], check=True)
    tar = subprocess.run(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE, check=True)

    made = store.program(
        "import", "-c", 'CMD ["/bin/busybox", "echo", "hi"]', "-", "mine:1", stdin=tar.stdout
    )
    done = store.program("run", "--rm", "mine:1")

    assert re.fullmatch(rb"sha256:[0-9a-f]{64}\n", made.stdout)
    assert done.stdout == b"hi\n"


def test_images_are_listed_inspected_tagged_and_removed(busybox: Store) -> None:
    busybox.program("tag", "busybox", "other:2")

    names = busybox.program("images", "--format", "{{.Repository}}:{{.Tag}}").stdout
    chosen = busybox.program("images", "-f", "reference=oth*", "--format", "{{.Repository}}").stdout
    tags = busybox.program("image", "inspect", "-f", "{{.RepoTags}} {{.Os}}", "busybox").stdout
    one = busybox.program("rmi", "other:2").stdout
    last = busybox.program("rmi", "busybox").stdout

    assert names == b"busybox:latest\nother:2\n"
    assert chosen == b"other\n"
    assert tags == b"[busybox:latest other:2] linux\n"
    assert one == b"Untagged: other:2\n"
    assert re.fullmatch(rb"Untagged: busybox:latest\nDeleted: sha256:[0-9a-f]{64}\n", last)


def test_the_doctor_says_what_this_host_can_do(store: Store) -> None:
    text = store.program("doctor")
    probes = json.loads(store.program("doctor", "--format", "json").stdout)

    assert text.returncode == 0
    names = {probe["name"] for probe in probes}
    assert {"mount namespace", "overlay", "clone3", "openat2", "seccomp", "cgroups"} <= names
    assert all(probe["fix"] for probe in probes if not probe["ok"])


@requires.program("setpriv")
def test_the_doctor_names_what_is_missing_and_the_remedy(store: Store) -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", program_path(), "doctor", "--format", "json"],
        env=store.environ,
        stdout=subprocess.PIPE,
        check=False,
    )
    found = {probe["name"]: probe for probe in json.loads(done.stdout)}

    assert done.returncode == 1
    assert not found["mount namespace"]["ok"]
    assert found["mount namespace"]["detail"] == "operation not permitted"
    assert "CAP_SYS_ADMIN" in found["capabilities"]["detail"]


@requires.program("bash")
def test_bash_completes_commands_flags_and_names(busybox: Store) -> None:
    busybox.program("create", "--name", "job", "busybox", "true")
    script = (
        f'PATH="{Path(program_path()).parent}:$PATH"; source <(sandbox completion bash)\n'
        'try() { COMP_WORDS=(sandbox "$@"); COMP_CWORD=$#; COMPREPLY=(); '
        '_sandbox sandbox "${!#}" x; echo "${COMPREPLY[@]}"; }\n'
        'try rest; try run --netw; try run --network ""; try rm jo; try run busy; try container l\n'
    )

    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=busybox.environ, capture_output=True, check=False
    )
    busybox.program("rm", "job")

    assert done.stdout.decode().splitlines() == [
        "restart",
        "--network --network-alias",
        "host none",
        "job",
        "busybox:latest",
        "list logs ls",
    ]


def test_an_unexpected_error_is_one_line(store: Store, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    done = store.program("--root", f"{blocked}/store", "ps", "-a")
    traced = store.program("--debug", "--root", f"{blocked}/store", "run", "x")

    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 2
    assert traced.returncode != 0


def test_a_new_store_is_empty_and_no_error(store: Store) -> None:
    for verb in ("ps", "images"):
        done = store.program(verb, "-aq")

        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), verb


def test_output_that_cannot_be_written_is_said(store: Store) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [program_path(), "--help"], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (
        1,
        b"write /dev/stdout: no space left on device\n",
    )
