"""The event log: written by many at once, rotated, cut off, followed."""

import os
import threading
from itertools import islice
from pathlib import Path

import pytest

from sandbox.paths import Paths
from sandbox.state import containers, eventlog, events

ID = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=str(tmp_path), run=str(tmp_path / "run"))
    os.mkdir(made.containers)
    return made


def record(name: str = "web", /, **labels: str) -> containers.ContainerRecord:
    return containers.ContainerRecord(
        id=ID,
        name=name,
        created_ns=1,
        image="busybox",
        image_id="",
        argv=("sh",),
        auto_remove=False,
        made_to_run=False,
        labels=tuple(labels.items()),
        options={},
    )


def as_monitor(paths: Paths, action: str, attributes: str = "", time_ns: int = 1) -> None:
    """Append as sandbox/native/events.c does."""
    with open(paths.events, "a") as file:
        file.write(f"\x1e{time_ns}\tcontainer\t{action}\t{ID}{attributes}\n")


def said(paths: Paths) -> list[tuple[str, dict[str, str]]]:
    return [(event.action, dict(event.attributes)) for event in eventlog.read(paths)]


def test_any_text_is_read_as_it_was_written(paths: Paths) -> None:
    text = "a\tb\nc\\d\x1ee\\t\u00e9\u2028\x00"

    events.append(paths, "image", text, text, ((text, text),), (("name", text),))

    (event,) = eventlog.read(paths)
    assert (event.action, event.id) == (text, text)
    assert event.attributes == ((text, text), ("name", text))


def test_an_empty_log_has_no_events(paths: Paths) -> None:
    assert list(eventlog.read(paths)) == []


def test_what_the_monitor_wrote_has_the_name_of_its_time(paths: Paths) -> None:
    events.of_container(paths, record(tier="front"), "create")
    as_monitor(paths, "start")
    events.of_container(paths, record("www"), "rename", ("oldName", "/web"))
    as_monitor(paths, "die", "\texitCode\t3")
    events.of_container(paths, record("www"), "destroy")

    found = said(paths)

    first = {"image": "busybox", "name": "web", "tier": "front"}
    assert found[1] == ("start", first)
    assert found[3] == ("die", {"exitCode": "3", "image": "busybox", "name": "www"})


def test_where_the_beginning_is_gone_later_lines_tell_the_name(paths: Paths) -> None:
    as_monitor(paths, "start")
    events.of_container(paths, record("www"), "rename", ("oldName", "/web"))

    assert said(paths)[0] == ("start", {"image": "busybox", "name": "web"})


def test_a_lone_line_of_the_monitor_is_completed_from_the_document(paths: Paths) -> None:
    os.mkdir(paths.container(ID))
    containers.write(paths, record("web"), durable=False)
    as_monitor(paths, "start")

    assert said(paths) == [("start", {"image": "busybox", "name": "web"})]


def test_a_line_about_nothing_that_is_known_is_shown_as_it_is(paths: Paths) -> None:
    as_monitor(paths, "die", "\texitCode\t0")

    assert said(paths) == [("die", {"exitCode": "0"})]


@pytest.mark.parametrize(
    "damage",
    [
        b"\x1e12\tcontainer\tdie",
        b"\x1e12\tcontainer\tdie\t" + b"x" * 100,
        b"\n\n\xff\xfe\n",
        b"\x1enot a time\tcontainer\tdie\tx\n",
        b"\x1e" + b"9" * 5000 + b"\tcontainer\tdie\tx\n",
        b"\x1e12\tcontainer\n",
    ],
)
def test_damaged_lines_spoil_no_others(paths: Paths, damage: bytes) -> None:
    events.append(paths, "image", "pull", "one")
    with open(paths.events, "ab") as file:
        file.write(damage)
    events.append(paths, "image", "pull", "two")

    assert [event.id for event in eventlog.read(paths)] == ["one", "two"]


def test_a_label_called_name_is_not_the_name(paths: Paths) -> None:
    events.of_container(paths, record("web", name="other", x="y"), "create")

    assert said(paths) == [("create", {"image": "busybox", "name": "web", "x": "y"})]


def test_what_finds_no_room_in_a_line_is_left_out(paths: Paths) -> None:
    labels = {"long": "x" * 5000, "short": "y"}

    events.of_container(paths, record("web", **labels), "create")
    events.append(paths, "image", "z" * 9000, "q" * 9000)

    data = Path(paths.events).read_bytes()
    assert max(map(len, data.split(b"\n"))) < events.MAX_LINE
    assert said(paths)[0] == ("create", {"image": "busybox", "name": "web", "short": "y"})


def test_a_full_log_becomes_the_old_one(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_BYTES", 1000)

    for number in range(100):
        events.append(paths, "image", "pull", str(number))

    assert os.path.getsize(paths.events) <= 1100
    assert os.path.getsize(f"{paths.events}.1") <= 1100
    ids = [int(event.id) for event in eventlog.read(paths)]
    assert ids == list(range(ids[0], 100))


def test_writers_at_once_lose_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that both files hold all of it.
    monkeypatch.setattr(events, "MAX_BYTES", 20000)

    def write(start: int) -> None:
        for number in range(100):
            events.append(paths, "image", "pull", str(start + number))

    threads = [threading.Thread(target=write, args=(1000 * n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    found = {int(event.id) for event in eventlog.read(paths)}
    assert found == {1000 * n + number for n in range(4) for number in range(100)}


def test_following_goes_on_over_a_rotation(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    events.append(paths, "image", "pull", "first")
    found = eventlog.read(paths, follow=True, poll_s=0.001)
    assert next(found).id == "first"

    events.append(paths, "image", "pull", "second")
    late = open(paths.events, "ab", buffering=0)
    os.rename(paths.events, f"{paths.events}.1")
    events.append(paths, "image", "pull", "third")
    assert [event.id for event in islice(found, 2)] == ["second", "third"]
    late.write(b"\x1e5\timage\tpull\tlate\n")
    late.close()

    assert next(found).id == "late"


def test_following_waits_for_a_log_and_for_whole_lines(paths: Paths) -> None:
    found: list[str] = []
    log = eventlog.read(paths, follow=True, poll_s=0.001)
    reader = threading.Thread(target=lambda: found.append(next(log).id))
    reader.start()

    with open(paths.events, "ab", buffering=0) as file:
        file.write(b"\x1e5\timage\tpull\to")
        reader.join(0.05)
        assert reader.is_alive()
        file.write(b"ne\n")
    reader.join(10)

    assert found == ["one"]


def test_following_ends_at_its_time(paths: Paths) -> None:
    events.append(paths, "image", "pull", "one")

    assert [event.id for event in eventlog.read(paths, follow=True, until_ns=0)] == []


def test_a_log_that_cannot_be_written_stops_nothing(paths: Paths) -> None:
    os.mkdir(paths.events)
    events.append(paths, "image", "pull", "one")
    os.rmdir(paths.events)
    os.symlink("/dev/full", paths.events)
    events.append(paths, "image", "pull", "one")

    assert list(eventlog.read(paths)) == []


def test_the_last_of_some_events_is_found(paths: Paths) -> None:
    events.of_container(paths, record(), "create")
    as_monitor(paths, "start", time_ns=7)
    events.append(paths, "container", "die", OTHER)

    last = eventlog.last_of(paths, ID, ("start", "die"))

    assert last is not None
    assert (last.action, last.time_ns) == ("start", 7)
    assert eventlog.last_of(paths, ID, ("destroy",)) is None


def test_the_last_event_is_found_in_the_old_file_and_behind_lines_that_mention_the_id(
    paths: Paths,
) -> None:
    as_monitor(paths, "start", time_ns=7)
    os.rename(paths.events, f"{paths.events}.1")
    events.append(paths, "container", "die", OTHER, (("of", ID),))
    with open(paths.events, "ab") as file:
        file.write(f"\x1e9\tcontainer\tdie\t{ID}".encode())  # cut off

    last = eventlog.last_of(paths, ID, ("start", "die"))

    assert last is not None
    assert (last.action, last.time_ns) == ("start", 7)
