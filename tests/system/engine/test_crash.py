"""Whoever dies, at whatever moment: the next command works, and nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def runs(pid: int) -> bool:
    """A process that has ended may wait to be reaped by whoever inherited it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def groups_of(container_id: str) -> list[str]:
    return [
        os.path.join(folder, name)
        for folder, names, _files in os.walk("/sys/fs/cgroup")
        for name in names
        if name == f"sandbox-{container_id}"
    ]


def test_a_killed_monitor_takes_its_container_along(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["sleep", "1000"], name="victim")
    with container.start() as attachment:
        pid = container.status().pid
        os.kill(attachment.monitor_pid, signal.SIGKILL)
        os.waitpid(attachment.monitor_pid, 0)

    listed = busybox.program("ps", "-a", "--format", "{{.Names}} {{.State}}")

    assert listed.stdout.split() == [b"victim", b"exited"]
    assert not runs(pid)
    assert groups_of(container.id) == []
    assert os.listdir(busybox.run / "containers") == []
    status = container.status()
    assert (status.exit_code, status.verdict) == (None, "unknown")
    assert busybox.program("start", "victim").returncode == 0
    assert busybox.program("rm", "-f", "victim").returncode == 0


def test_a_killed_monitor_of_an_rm_container_leaves_nothing(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["sleep", "1000"], rm=True)
    with container.start() as attachment:
        os.kill(attachment.monitor_pid, signal.SIGKILL)
        os.waitpid(attachment.monitor_pid, 0)

    engine.sweep()

    assert os.listdir(busybox.root / "containers") == []
    assert os.listdir(busybox.root / "names") == []


def test_a_detached_container_outlives_its_command(busybox: Store) -> None:
    done = busybox.program("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    assert done.returncode == 0, done.stderr.decode()

    assert busybox.program("ps", "-q").stdout.decode().strip() == done.stdout.decode()[:12]
    assert busybox.program("rm", "-f", "stays").returncode == 0


def test_a_library_run_dies_with_its_process(busybox: Store) -> None:
    script = "import sandbox; sandbox.run('busybox', ['sleep', '1000'])"
    process = subprocess.Popen([sys.executable, "-c", script], env=busybox.environ)
    engine = sandbox.Engine()
    while not [c for c in engine.containers() if c.status().pid]:
        time.sleep(0.01)
    pid = engine.containers()[0].status().pid

    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert not runs(pid)
    while os.listdir(busybox.run / "containers") and time.monotonic() < deadline:
        engine.sweep()
    assert os.listdir(busybox.root / "containers") == []


def test_after_a_reboot_nothing_runs_and_everything_starts_again(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["sh", "-c", "echo x >>/kept; cat /kept; sleep 1000"])
    attachment = container.start()
    time.sleep(0.1)
    attachment.close()
    power_off(busybox, container.id)

    status = container.status()
    assert (status.word, status.exit_code, status.verdict) == ("exited", None, "unknown")
    with container.start():
        time.sleep(0.1)
        container.stop(timeout_s=0.1)
    assert b"".join(entry.text for entry in container.logs()).endswith(b"x\nx\n")
    container.remove()
    engine.sweep()


def power_off(store: Store, container_id: str) -> None:
    """Every process of ours is gone, and so is what was in memory; the next boot is another one."""
    kill_monitor(store, container_id)
    journal = store.root / "containers" / container_id / "launch"
    for group in groups_of(container_id):
        _remove_group(group)
    journal.write_text(
        journal.read_text().replace("boot_id ", "boot_id 00000000-0000-0000-0000-00000000000", 1)
    )
    shutil.rmtree(store.run)


def kill_monitor(store: Store, container_id: str) -> None:
    started = (store.run / "containers" / container_id / "started").read_text()
    pid = next(int(line.split()[1]) for line in started.splitlines() if line.startswith("monitor "))
    os.kill(pid, signal.SIGKILL)
    while runs(pid):
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["stop", "monitor killed", "reboot"])
def test_a_container_that_is_started_again_is_what_it_was(busybox: Store, how: str) -> None:
    script = "echo run $WHO; echo x >>/here; echo x >>/data/there; sleep 1000"
    options = ("-m", "48m", "--cpus", "0.5", "-e", "WHO=me", "-l", "a=b", "-v", "kept:/data")
    made = busybox.program("run", "-d", "--name", "same", *options, "busybox", "sh", "-c", script)
    assert made.returncode == 0, made.stderr.decode()
    container = sandbox.Engine().container("same")
    wait_for_output(container, b"run me\n")
    if how == "stop":
        assert busybox.program("stop", "-t", "0", "same").returncode == 0
    elif how == "monitor killed":
        kill_monitor(busybox, container.id)
    else:
        power_off(busybox, container.id)

    again = busybox.program("start", "same")

    assert again.returncode == 0, again.stderr.decode()
    wait_for_output(container, b"run me\nrun me\n")
    inside = busybox.program("exec", "same", "sh", "-c", "cat /here /data/there; echo $WHO")
    assert inside.stdout == b"x\nx\nx\nx\nme\n"
    wanted = "{{.Name}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.Labels}}"
    seen = busybox.program("inspect", "--format", wanted, "same").stdout.decode().strip()
    assert seen == f"/same {48 << 20} 500000000 map[a:b]"
    assert container.stats().memory_limit_bytes == 48 << 20
    assert busybox.program("rm", "-f", "same").returncode == 0
    sandbox.Engine().sweep()


def wait_for_output(container: sandbox.Container, expected: bytes) -> None:
    deadline = time.monotonic() + 20
    while (said := b"".join(entry.text for entry in container.logs())) != expected:
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


def _remove_group(group: str) -> None:
    deadline = time.monotonic() + 5
    while os.path.exists(group):
        try:
            os.rmdir(group)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


KILLED_AT_RANDOM = (
    "create --name {name} busybox sleep 1000",
    "run --rm --name {name} busybox sleep 0.02",
    "run -d --name {name} busybox sleep 1000",
    "run -d --name {name} busybox sleep 1000",
    "start {name}",
    "stop -t 0 {name}",
    "restart -t 0 {name}",
    "exec {name} sleep 0.02",
    "exec -d {name} sleep 1000",
    "commit {name} killed:{number}",
    "cp {file} {name}:/tmp/copied",
    "cp {name}:/bin/busybox {folder}",
    "rm -f {name}",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_killed_at_random_leave_nothing(busybox: Store, tmp_path: Path) -> None:
    chance = random.Random(4711)
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    (tmp_path / "copies").mkdir()
    for number in range(200):
        command = chance.choice(KILLED_AT_RANDOM).format(
            name=f"k{number % 3}x",
            number=number,
            file=tmp_path / "file",
            folder=tmp_path / "copies",
        )
        process = subprocess.Popen(
            [program_path(), *command.split()],
            env=busybox.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.0, 0.25))
        process.kill()
        process.wait()

    for query in (("ps", "-a", "-q", "--no-trunc"), ("images", "-q")):
        done = busybox.program(*query)
        assert done.returncode == 0, done.stderr.decode()
        assert b"damaged" not in done.stderr
    ids = busybox.program("ps", "-a", "-q", "--no-trunc").stdout.decode().split()
    if ids:
        removed = busybox.program("rm", "-f", *ids)
        assert removed.returncode == 0, removed.stderr.decode()
    deadline = time.monotonic() + 10
    while os.listdir(busybox.run / "containers") and time.monotonic() < deadline:
        sandbox.Engine().sweep()
        time.sleep(0.05)
    checked = busybox.program("image", "fsck")
    assert checked.returncode == 0, checked.stdout.decode()

    sandbox.Engine().sweep()
    assert os.listdir(busybox.root / "containers") == []
    assert os.listdir(busybox.root / "names") == []
    assert os.listdir(busybox.root / "staging") == []
    assert os.listdir(busybox.run / "containers") == []
    busybox_alone = busybox.program("image", "prune", "-a", "-f")
    assert busybox_alone.returncode == 0, busybox_alone.stderr.decode()
    for folder in ("layers", "blobs/sha256", "images/ids", "images/names"):
        assert os.listdir(busybox.root / folder) == []


def test_sixteen_takers_of_one_name_have_one_winner(busybox: Store) -> None:
    def take(_number: int) -> str:
        try:
            return sandbox.Engine().create("busybox", ["true"], name="wanted").id
        except sandbox.NameInUse as error:
            return f"lost to {error.owner}"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(take, range(16)))

    winners = [answer for answer in answers if not answer.startswith("lost")]
    assert len(winners) == 1
    assert {answer for answer in answers if answer.startswith("lost")} == {f"lost to {winners[0]}"}
    assert os.listdir(busybox.root / "containers") == winners


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_a_damaged_document_stops_nobody_else(busybox: Store, text: str) -> None:
    engine = sandbox.Engine()
    good = engine.create("busybox", ["true"], name="good")
    bad = engine.create("busybox", ["true"], name="bad")
    (busybox.root / "containers" / bad.id / "container.json").write_text(text)

    listed = busybox.program("ps", "-a", "--format", "{{.Names}}")
    removed = busybox.program("rm", "-f", bad.id)

    assert listed.returncode == 0
    assert listed.stdout.split() == [b"good"]
    assert removed.returncode == 0, removed.stderr.decode()
    assert os.listdir(busybox.root / "containers") == [good.id]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_containers_at_once(busybox: Store) -> None:
    engine = sandbox.Engine()
    made = [engine.create("busybox", ["sleep", "1000"]) for _ in range(100)]
    for container in made:
        container.start().close()

    listed = busybox.program("ps", "-q", "--no-trunc").stdout.decode().split()
    assert sorted(listed) == sorted(container.id for container in made)

    stopped = busybox.program("rm", "-f", *listed, timeout_s=300)
    assert stopped.returncode == 0, stopped.stderr.decode()
    assert busybox.program("ps", "-aq").stdout == b""
    assert os.listdir(busybox.run / "containers") == []
    assert not [name for container in made for name in groups_of(container.id)]
    engine.sweep()


def test_a_full_disk_is_one_sentence_and_gives_the_space_back(
    busybox_archive: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        engine = sandbox.Engine(root=str(small / "store"), run=str(tmp_path / "run"))
        with pytest.raises(sandbox.StoreFull, match="no space left"):
            engine.load(str(busybox_archive))
        used = os.statvfs(small)
        assert used.f_bfree > 0.9 * used.f_blocks
        assert engine.images() == ()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_detached_rm_container_is_gone_after_its_end(busybox: Store) -> None:
    done = busybox.program("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.1")
    assert done.returncode == 0, done.stderr.decode()

    wait_until_empty(busybox)


def test_an_rm_container_whose_command_was_killed_is_gone_after_its_end(busybox: Store) -> None:
    process = subprocess.Popen(
        [program_path(), "run", "--rm", "busybox", "sleep", "0.5"],
        env=busybox.environ,
        stdin=subprocess.DEVNULL,
    )
    while not sandbox.Engine().containers():
        time.sleep(0.01)
    process.kill()
    process.wait()

    wait_until_empty(busybox)


def wait_until_empty(store: Store) -> None:
    """Without any command of ours: the monitor sees to it."""
    deadline = time.monotonic() + 20
    folders = [store.root / "containers", store.root / "names", store.run / "containers"]
    while any(os.listdir(folder) for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.02)
