"""Records, JSON and paths."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import jsontext
from sandbox.errors import DamagedDocument
from sandbox.paths import Paths
from sandbox.record import Record, fields_of, replace


class Point(Record):
    x: int
    y: int = 2


class Point3(Point):
    z: int = 3


def test_a_record_is_frozen_compared_and_copied() -> None:
    point = Point(x=1)

    assert point == Point(x=1, y=2) != Point(x=1, y=3)
    assert hash(point) == hash(Point(x=1))
    assert repr(replace(point, y=5)) == "Point(x=1, y=5)"
    assert fields_of(Point3(x=1)) == {"x": 1, "y": 2, "z": 3}
    assert pickle.loads(pickle.dumps(point)) == point
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]  # what the checker refuses is refused at run time too


@pytest.mark.parametrize("values", [{}, {"x": 1, "z": 2}])
def test_a_record_wants_its_fields_and_no_others(values: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(**values)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_agrees_with_the_standard_library(value: object) -> None:
    text = jsontext.encode(value)

    assert json.loads(text) == value
    assert jsontext.decode(text, what="test") == value
    assert jsontext.decode(json.dumps(value, indent=2).encode(), what="test") == value


@given(st.binary(max_size=40))
def test_json_refuses_what_the_standard_library_refuses(text: bytes) -> None:
    try:
        found = jsontext.decode(text, what="test")
    except DamagedDocument:
        return
    assert json.loads(text) == found


def test_indented_json_looks_like_dockers() -> None:
    assert jsontext.encode([{"a": [], "b": {"c": 1}}], indent="    ").decode() == (
        json.dumps([{"a": [], "b": {"c": 1}}], indent=4)
    )


def test_too_long_and_too_deep_are_refused() -> None:
    with pytest.raises(DamagedDocument, match="longer than 10"):
        jsontext.decode(b'"' + b"x" * 20 + b'"', what="test", max_bytes=10)
    with pytest.raises(DamagedDocument, match="nested deeper"):
        jsontext.decode(b"[" * 101 + b"]" * 101, what="test")
    assert jsontext.decode(b"[" * 100 + b"]" * 100, what="test")
    brackets = json.dumps(["[" * 500]).encode()
    assert jsontext.decode(brackets, what="test") == ["[" * 500]


@pytest.mark.parametrize(
    ("arguments", "environ", "uid", "root", "run"),
    [
        ((None, None), {}, 0, "/var/lib/sandbox", "/run/sandbox"),
        (("/a", None), {"SANDBOX_RUN": "/b"}, 0, "/a", "/b"),
        (("/a/", "/c"), {"SANDBOX_ROOT": "/x", "SANDBOX_RUN": "/y"}, 0, "/a", "/c"),
        (
            (None, None),
            {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"},
            7,
            "/home/u/.local/share/sandbox",
            "/run/user/7/sandbox",
        ),
    ],
)
def test_the_store_is_chosen(
    arguments: tuple[str | None, str | None],
    environ: dict[str, str],
    uid: int,
    root: str,
    run: str,
) -> None:
    assert Paths.choose(*arguments, environ=environ, uid=uid) == Paths(root=root, run=run)
