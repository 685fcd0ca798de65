"""Docker's table for ``cp``, as text: where a copy goes and what it is called there."""

from __future__ import annotations

import pytest

from sandbox.engine import copypaths
from sandbox.engine.copypaths import Destination, Placement, Source
from sandbox.errors import UsageError

FILE = Source(name="src", is_directory=False)
FOLDER = Source(name="src", is_directory=True)
CONTENT = Source(name=".", is_directory=True)


def there(path: str, *, is_directory: bool) -> Destination:
    return Destination(path=path, exists=True, is_directory=is_directory)


@pytest.mark.parametrize(
    ("source", "destination", "placement"),
    [
        (FILE, Destination(path="/d/new"), Placement(folder="/d", name="new")),
        (FILE, there("/d/old", is_directory=False), Placement(folder="/d", name="old")),
        (FILE, there("/d", is_directory=True), Placement(folder="/d", name="src")),
        (FOLDER, Destination(path="/d/new"), Placement(folder="/d", name="new")),
        (FOLDER, Destination(path="/d/new/"), Placement(folder="/d", name="new")),
        (CONTENT, Destination(path="/d/new"), Placement(folder="/d", name="new")),
        (FOLDER, there("/d", is_directory=True), Placement(folder="/d", name="src")),
        (CONTENT, there("/d", is_directory=True), Placement(folder="/d", name=".")),
    ],
)
def test_a_copy_goes_where_dockers_table_says(
    source: Source, destination: Destination, placement: Placement
) -> None:
    assert copypaths.place(source, destination) == placement


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        (FILE, Destination(path="/d/new/"), "no such directory"),
        (FILE, Destination(path="/d/new/."), "no such directory"),
        (FOLDER, there("/d/old", is_directory=False), "cannot copy directory"),
        (CONTENT, there("/d/old", is_directory=False), "cannot copy directory"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_dockers_words(
    source: Source, destination: Destination, words: str
) -> None:
    with pytest.raises(UsageError, match=f"^{words}$"):
        copypaths.place(source, destination)


@pytest.mark.parametrize(
    ("text", "container", "path"),
    [
        ("web:/etc", "web", "/etc"),
        ("web:", "web", ""),
        ("web:a:b", "web", "a:b"),
        ("plain", "", "plain"),
        ("./web:/etc", "", "./web:/etc"),
        ("/web:/etc", "", "/web:/etc"),
        ("-", "", "-"),
    ],
)
def test_a_container_is_what_stands_before_the_colon(text: str, container: str, path: str) -> None:
    assert copypaths.split_argument(text) == (container, path)


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("etc", "/etc"),
        ("/etc/", "/etc/"),
        ("//etc//x/.", "/etc/x/."),
        ("../../etc", "/etc"),
        ("a/../b", "/b"),
        ("", "/."),
        (".", "/."),
        ("/", "/"),
    ],
)
def test_a_path_in_the_container_begins_at_its_root(path: str, absolute: str) -> None:
    assert copypaths.in_container(path) == absolute


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/a/b", "/a", "b"),
        ("/a/b/", "/a", "b"),
        ("/a/b/.", "/a/b", "."),
        ("/a", "/", "a"),
        ("/", "/", "/"),
        ("//", "/", "/"),
        ("/.", "/", "."),
    ],
)
def test_an_entry_is_a_directory_and_a_name(path: str, folder: str, name: str) -> None:
    assert copypaths.split_entry(path) == (folder, name)


def test_links_at_the_end_are_followed_and_stay_relative_to_where_they_are() -> None:
    links = {"/a/one": "two", "/a/two": "/b/three", "/b/three": "../c"}

    assert copypaths.follow("/a/one", links.get) == ("/b/../c", True)
    assert copypaths.follow("/a/plain", links.get) == ("/a/plain", False)


def test_links_that_lead_to_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="too many symlinks"):
        copypaths.follow("/a", {"/a": "b", "/b": "a"}.get)
