"""``events``: what happens, once each, in docker's order and words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import requires
from conftest import program_path

import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay]


def actions(store: Store, *arguments: str) -> list[str]:
    done = store.program(
        "events", "--since", "0", "--until", "0s", "--format", *(arguments or ("{{.Action}}",))
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_a_run_in_the_foreground(busybox: Store) -> None:
    busybox.program(
        "run", "--rm", "--label", "a=b", "--name", "web", "busybox", "sh", "-c", "exit 3"
    )

    found = actions(busybox, "{{.Action}} {{json .Actor.Attributes}}", "--filter", "type=container")

    same = '"image":"busybox","name":"web"}'
    assert found == [
        f'create {{"a":"b",{same}',
        f'attach {{"a":"b",{same}',
        f'start {{"a":"b",{same}',
        f'die {{"a":"b","exitCode":"3",{same}',
        f'destroy {{"a":"b",{same}',
    ]


def test_a_life_with_names_and_signals(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    busybox.program("rename", "web", "www")
    busybox.program("exec", "www", "sh", "-c", "exit 4")
    busybox.program("pause", "www")
    busybox.program("unpause", "www")
    busybox.program("update", "--memory", "64m", "www")
    busybox.program("top", "www")
    busybox.program("stop", "-t", "0", "www")
    busybox.program("start", "www")
    busybox.program("kill", "www")
    busybox.program("wait", "www")
    busybox.program("restart", "www")
    busybox.program("rm", "-f", "www")

    form = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.signal}}"
    found = actions(busybox, form, "--filter", "type=container")

    none = "<no value>"
    assert found == [
        f"create web {none}",
        f"start web {none}",
        f"rename www {none}",
        f"exec_create: sh -c exit 4 www {none}",
        f"exec_start: sh -c exit 4 www {none}",
        f"exec_die www {none}",
        f"pause www {none}",
        f"unpause www {none}",
        f"update www {none}",
        f"top www {none}",
        "kill www 15",
        "kill www 9",
        f"die www {none}",
        f"stop www {none}",
        f"start www {none}",
        "kill www 9",
        f"die www {none}",
        f"start www {none}",
        f"restart www {none}",
        "kill www 9",
        f"die www {none}",
        f"destroy www {none}",
    ]


def test_the_library_writes_the_same(busybox: Store) -> None:
    sandbox.run("busybox", ["true"])

    found = [event.action for event in sandbox.Engine().events(filters={"type": ["container"]})]

    assert found == ["create", "attach", "start", "die", "destroy"]


def test_a_container_that_cannot_start_never_died(busybox: Store) -> None:
    busybox.program("run", "--rm", "busybox", "/no/such/program")

    assert actions(busybox, "{{.Action}}", "--filter", "type=container") == [
        *("create", "attach", "destroy")
    ]


def test_an_out_of_memory_kill_is_told_before_the_death(busybox: Store) -> None:
    eat = "x=$(dd if=/dev/zero bs=1M count=100 | tr '\\0' x)"
    busybox.program("run", "--rm", "-m", "16m", "busybox", "sh", "-c", eat)

    found = actions(busybox, "{{.Action}}", "--filter", "type=container")

    assert found[2:] == ["start", "oom", "die", "destroy"]


def test_a_change_of_health_and_a_commit(busybox: Store) -> None:
    health = ("--health-cmd", "true", "--health-interval", "50ms")
    busybox.program("run", "-d", "--name", "web", *health, "busybox", "sleep", "1000")
    following = sandbox.Engine().events(
        since_ns=0, filters={"event": ["health_status"]}, follow=True
    )
    changed = next(following)
    busybox.program("commit", "-m", "why", "web", "web:fixed")

    found = actions(
        busybox, "{{.Action}} {{.Actor.Attributes.comment}}", "--filter", "event=commit"
    )

    assert changed.action == "health_status: healthy"
    assert changed.attribute("name") == "web"
    assert found == ["commit why"]


def test_clients_that_come_and_go(busybox: Store) -> None:
    busybox.program("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    null = os.open("/dev/null", os.O_RDWR)
    sandbox.Engine().container("web").attach((null, null, null)).detach()
    os.close(null)

    found = actions(busybox, "{{.Action}}", "--filter", "type=container")

    assert found == ["create", "start", "attach", "detach"]


def test_copies_and_an_export(busybox: Store, tmp_path: Path) -> None:
    busybox.program("create", "--name", "web", "busybox", "true")
    (tmp_path / "file").write_text("x")
    busybox.program("cp", str(tmp_path / "file"), "web:/tmp")
    busybox.program("cp", "web:/tmp/file", str(tmp_path / "back"))
    busybox.program("export", "-o", str(tmp_path / "tar"), "web")

    found = actions(busybox, "{{.Action}}", "--filter", "type=container")

    assert found == ["create", "extract-to-dir", "archive-path", "export"]


def test_volumes(busybox: Store) -> None:
    busybox.program("volume", "create", "data")
    busybox.program("volume", "create", "data")
    busybox.program("volume", "rm", "data")
    busybox.program("volume", "prune", "-f")

    form = "{{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}"
    found = actions(busybox, form, "--filter", "type=volume")

    assert found == [
        'create data {"driver":"local"}',
        'destroy data {"driver":"local"}',
        'prune  {"reclaimed":"0"}',
    ]


def test_volumes_of_a_run(busybox: Store) -> None:
    run = ("run", "--name", "web", "-v", "data:/data", "-v", "two:/two:ro", "busybox", "true")
    assert busybox.program(*run).returncode == 0
    made = busybox.program("inspect", "-f", "{{.ID}}", "web").stdout.decode().strip()
    busybox.program("run", "--name", "not", "-v", "data:/data", "busybox", "/no/such/program")

    form = "{{.Type}} {{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}"
    of_volumes = actions(busybox, form, "--filter", "type=volume")
    order = actions(busybox, "{{.Type}} {{.Action}}")

    driver = f'{{"container":"{made}","driver":"local"}}'
    found = [line for line in of_volumes if made in line]
    assert found == [
        f'volume mount data {{"container":"{made}","destination":"/data","driver":"local",'
        '"propagation":"","read/write":"true"}',
        f'volume mount two {{"container":"{made}","destination":"/two","driver":"local",'
        '"propagation":"","read/write":"false"}',
        f"volume unmount data {driver}",
        f"volume unmount two {driver}",
    ]
    assert order.index("volume mount") < order.index("container start")
    assert order.index("container die") < order.index("volume unmount")
    assert order.count("volume mount") == order.count("volume unmount") == 3


def test_pruning(busybox: Store) -> None:
    busybox.program("create", "--name", "web", "busybox", "true")
    busybox.program("container", "prune", "-f")
    busybox.program("image", "prune", "-a", "-f")

    found = actions(busybox, "{{.Type}} {{.Action}}")

    assert found[1:] == [
        "container create",
        "container destroy",
        "container prune",
        "image untag",
        "image delete",
        "image prune",
    ]


def test_a_lost_monitor_s_container_dies_once(busybox: Store) -> None:
    engine = sandbox.Engine()
    container = engine.create("busybox", ["sleep", "1000"], name="victim")
    with container.start() as attachment:
        os.kill(attachment.monitor_pid, signal.SIGKILL)
        os.waitpid(attachment.monitor_pid, 0)
    for _ in range(2):
        busybox.program("ps")

    found = actions(busybox, "{{.Action}} {{.Actor.Attributes.exitCode}}", "--filter", "event=die")

    assert found == ["die 255"]


def test_images(busybox: Store, tmp_path: Path) -> None:
    busybox.program("save", "-o", str(tmp_path / "saved.tar"), "busybox")
    busybox.program("tag", "busybox", "other:1")
    busybox.program("rmi", "other:1")
    busybox.program("rmi", "busybox")

    found = actions(busybox, "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")

    image_id = found[0].split()[-1]
    assert found == [
        f"image load {image_id}",
        f"image save {image_id}",
        "image tag other:1",
        f"image untag {image_id}",
        f"image untag {image_id}",
        f"image delete {image_id}",
    ]


def test_the_line_is_docker_s(busybox: Store) -> None:
    busybox.program("create", "--name", "web", "--label", "x=y", "busybox", "true")

    done = busybox.program("events", "--since", "10m", "--until", "0s", "--filter", "container=web")

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z container create [0-9a-f]{64} "
        r"\(image=busybox, name=web, x=y\)\n",
        done.stdout.decode(),
    )


def test_the_document_is_docker_s(busybox: Store) -> None:
    busybox.program("create", "--name", "web", "busybox", "true")

    (text,) = actions(busybox, "{{json .}}", "--filter", "type=container")

    message = json.loads(text)
    assert list(message) == [
        *("status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano")
    ]
    assert message["Actor"] == {
        "ID": message["id"],
        "Attributes": {"image": "busybox", "name": "web"},
    }
    assert message["timeNano"] // 10**9 == message["time"]
    assert text == actions(busybox, "json", "--filter", "type=container")[0]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (["container=we"], ["create web", "destroy web"]),
        (["container=web", "container=job", "event=create"], ["create web", "create job"]),
        (["image=busybox"], ["create web", "create job", "destroy web"]),
        (["label=tier"], ["create web", "destroy web"]),
        (["label=tier=back"], []),
        (["label=tier=front", "label=x"], []),
        (["type=volume"], []),
        (["scope=swarm"], []),
        (["event=destroy"], ["destroy web"]),
    ],
)
def test_filters(busybox: Store, filters: list[str], wanted: list[str]) -> None:
    busybox.program("create", "--name", "web", "--label", "tier=front", "busybox", "true")
    busybox.program("create", "--name", "job", "busybox", "true")
    busybox.program("rm", "web")

    form = "{{.Action}} {{.Actor.Attributes.name}}"
    words = [word for text in filters for word in ("--filter", text)]

    assert actions(busybox, form, *words) == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--filter", "foo=bar"), "Invalid filter 'foo'"),
        (("--since", "yesterday"), 'failed to parse value as time or duration: "yesterday"'),
        (
            ("--since", "5.5", "--until", "4"),
            "`since` time (5.500000000) cannot be after `until` time (4.000000000)",
        ),
    ],
)
def test_what_is_refused(store: Store, arguments: tuple[str, ...], said: str) -> None:
    done = store.program("events", *arguments)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(said)


def test_a_format_is_refused_before_anything_happens(store: Store) -> None:
    done = store.program("events", "--format", "{{.Nothing}}")

    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr == (
        b'Error parsing format: template: :1:2: executing "" at <.Nothing>: '
        b"can't evaluate field Nothing in type *events.Message\n"
    )


def test_it_follows_until_it_is_interrupted(busybox: Store) -> None:
    busybox.program("create", "--name", "before", "busybox", "true")
    with subprocess.Popen(
        [program_path(), "events", "--filter", "event=create"],
        stdout=subprocess.PIPE,
        env=busybox.environ,
    ) as following:
        assert following.stdout is not None
        number = 0
        os.set_blocking(following.stdout.fileno(), False)
        line = None
        # It begins when it begins: whatever is made after that is seen.
        while not line:
            busybox.program("create", "--name", f"box{number}", "busybox", "true")
            number += 1
            line = following.stdout.readline()
            assert number < 100
        following.send_signal(signal.SIGINT)
        code = following.wait(timeout=20)

    assert re.search(rb"name=box\d+\)\n$", line)
    assert code == 130


def test_it_ends_at_a_time_to_come(busybox: Store) -> None:
    until = time.time() + 0.5

    done = busybox.program("events", "--until", f"{until:.3f}", "--filter", "type=container")

    assert (done.returncode, done.stdout) == (0, b"")
    assert time.time() >= until


def test_an_empty_store_has_no_events(store: Store) -> None:
    done = store.program("events", "--since", "1h", "--until", "0s")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
