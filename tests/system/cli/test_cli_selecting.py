"""``stop``, ``kill`` and ``rm`` of whatever a filter lets through; ancestors of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requires

if TYPE_CHECKING:
    from conftest import Store

pytestmark = requires.root


def names(store: Store, *arguments: str) -> list[str]:
    done = store.program("ps", "--format", "{{.Names}}", *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def ids(store: Store, *arguments: str) -> list[str]:
    return sorted(store.program("ps", "-aq", *arguments).stdout.decode().split())


def start(store: Store, name: str, *options: str, image: str = "busybox") -> None:
    done = store.program("run", "-d", "--name", name, *options, image, "sleep", "1000")
    assert done.returncode == 0, done.stderr.decode()


def test_a_filter_stands_in_for_names(busybox: Store) -> None:
    for name, label in (("aa", "job=1"), ("bb", "job=2"), ("cc", "other=1")):
        start(busybox, name, "-l", label)
    jobs = ids(busybox, "--filter", "label=job")

    killed = busybox.program("kill", "--filter", "label=job=1")
    busybox.program("wait", "aa")
    stopped = busybox.program("stop", "-t", "0", "--filter", "label=job")
    assert names(busybox) == ["cc"]
    removed = busybox.program("rm", "--filter", "label=job", "--filter", "status=exited")

    assert killed.stdout.decode().split() == [i for i in jobs if i in killed.stdout.decode()]
    assert (killed.returncode, len(killed.stdout.split())) == (0, 1)
    assert (stopped.returncode, len(stopped.stdout.split())) == (0, 1)
    assert (removed.returncode, sorted(removed.stdout.decode().split())) == (0, jobs)
    assert names(busybox, "-a") == ["cc"]
    busybox.program("rm", "-f", "cc")


def test_nothing_that_matches_is_no_error(busybox: Store) -> None:
    for verb in ("stop", "kill", "rm"):
        for flag in ("--filter=label=nosuch", "--ancestor=nosuch"):
            done = busybox.program(verb, flag)

            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_and_filters_together_are_refused(busybox: Store) -> None:
    start(busybox, "aa")

    for verb in ("stop", "kill", "rm"):
        done = busybox.program(verb, "--filter", "name=aa", "aa")

        assert done.returncode == 1
        assert done.stderr == (
            b"conflicting options: containers are named, or chosen by --filter and --ancestor\n"
        )
    assert names(busybox) == ["aa"]
    busybox.program("rm", "-f", "aa")


def test_a_filter_that_is_none_changes_nothing(busybox: Store) -> None:
    start(busybox, "aa")

    done = busybox.program("rm", "-f", "--filter", "nosuch=1")

    assert (done.returncode, done.stderr) == (1, b"Invalid filter 'nosuch'\n")
    assert names(busybox) == ["aa"]
    busybox.program("rm", "-f", "aa")


def test_an_ancestor_is_found_by_each_of_its_names_and_through_its_descendants(
    busybox: Store,
) -> None:
    image = busybox.program("images", "-q", "--no-trunc", "busybox").stdout.decode().strip()
    busybox.program("run", "--name", "base", "busybox", "touch", "/new")
    assert busybox.program("commit", "base", "child:1").returncode == 0
    busybox.program("tag", "child:1", "child:2")
    busybox.program("create", "--name", "kid", "child:2", "true")
    busybox.program("create", "--name", "host", "host", "true")

    found = {
        text: sorted(names(busybox, "-a", "--filter", f"ancestor={text}"))
        for text in (
            "busybox",
            "busybox:latest",
            image,
            image.removeprefix("sha256:")[:12],
            "child:1",
            "nosuch",
        )
    }
    removed = busybox.program("rm", "--ancestor", "child:1")

    assert found == {
        "busybox": ["base", "kid"],
        "busybox:latest": ["base", "kid"],
        image: ["base", "kid"],
        image.removeprefix("sha256:")[:12]: ["base", "kid"],
        "child:1": ["kid"],
        "nosuch": [],
    }
    assert removed.returncode == 0
    assert sorted(names(busybox, "-a")) == ["base", "host"]
    busybox.program("rm", "base", "host")
    busybox.program("rmi", "child:1", "child:2")


def test_an_image_that_has_lost_its_name_is_another_ancestor(busybox: Store) -> None:
    busybox.program("run", "--name", "base", "busybox", "touch", "/new")
    busybox.program("tag", "busybox", "app")
    busybox.program("create", "--name", "old", "app", "true")
    busybox.program("commit", "base", "app")
    busybox.program("create", "--name", "new", "app", "true")

    found = names(busybox, "-a", "--filter", "ancestor=app")
    busybox.program("rm", "base", "old", "new")

    assert found == ["new"]
