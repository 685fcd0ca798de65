"""Generated archives against a model: the same tree, or refused by both."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import requires
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import tarbytes as tar
from kit import trees
from kit.layermodel import (
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Member,
    Model,
    Refused,
)

from sandbox.errors import UnsafeArchive
from sandbox.layer.unpack import unpack_layer

pytestmark = [
    requires.root,
    requires.device_nodes,
    requires.xattrs,
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # for as many examples as anybody asks for
]

ORDINARY = [b"a", b"b", b"c", b"usr", "ü".encode(), b"\xff"]
ODD = [b"..", b".", b"", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh..wh.plnk", b".wh.", b"x" * 256]
KINDS = [FILE, FILE, DIRECTORY, DIRECTORY, SYMLINK, SYMLINK, HARD_LINK, FIFO, CHARACTER]

components = st.one_of(*[st.sampled_from(ORDINARY)] * 6, st.sampled_from(ODD))
paths = st.lists(components, min_size=1, max_size=4).map(b"/".join)
calm = st.lists(st.sampled_from(ORDINARY[:3]), min_size=1, max_size=3).map(b"/".join)
targets = st.one_of(
    calm,
    paths,
    calm.map(lambda path: b"/" + path),
    calm.map(lambda path: b"../" + path),
    st.sampled_from([b".", b"..", b"/", b"../../../etc/passwd", b"/etc"]),
)
members = st.builds(
    Member,
    name=st.one_of(calm, calm, calm, paths, calm.map(lambda path: b"/" + path)),
    kind=st.sampled_from(KINDS),
    link=targets,
    content=st.sampled_from([b"", b"x", b"y" * 513]),
    mode=st.sampled_from([0o644, 0o755, 0o4711, 0o2775, 0o1777, 0]),
    uid=st.sampled_from([0, 1000, 4_000_000_000]),
    gid=st.sampled_from([0, 50]),
    mtime=st.integers(-(2**31) + 1, 2**33),
)
whiteouts = st.builds(
    lambda path, name: Member(path + b"/" + name if path else name),
    st.one_of(st.just(b""), calm),
    st.sampled_from([b".wh.a", b".wh.b", b".wh.c", b".wh..wh..opq"]),
)
layers = st.lists(st.one_of(members, members, members, whiteouts), max_size=14)

fixed = settings(
    max_examples=int(os.environ.get("LAYER_EXAMPLES", "300")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def packed(layer: list[Member]) -> bytes:
    return tar.archive(*[one(member) for member in layer])


def one(member: Member) -> bytes:
    kind, fields = member.kind, {"uid": tar.base256(member.uid, 8), "gid": member.gid}
    records = [(b"path", member.name)] if len(member.name) > 100 or b"\xff" in member.name else []
    if kind in (SYMLINK, HARD_LINK) and len(member.link) > 100:
        records.append((b"linkpath", member.link))
    if kind in (SYMLINK, HARD_LINK):
        fields["link"] = member.link[:100]
    if kind == CHARACTER:
        fields |= {"major": 1, "minor": 3}
    name = member.name[:100]
    if kind == FILE and name.endswith(b"/"):
        kind = DIRECTORY  # how old archives spell it; its data is passed over
    size = len(member.content) if member.kind == FILE else 0
    head = tar.header(
        name,
        member.kind,
        mode=member.mode,
        mtime=tar.base256(member.mtime, 12),
        size=size,
        **fields,
    )
    return (tar.pax(records) if records else b"") + head + tar.padded(member.content[:size])


def expected(layer: list[Member]) -> list[Member]:
    """As `one` writes it."""
    return [
        Member(**{**vars(member), "kind": DIRECTORY, "content": b""})
        if member.kind == FILE and member.name.endswith(b"/")
        else Member(**{**vars(member), "content": member.content if member.kind == FILE else b""})
        for member in layer
    ]


def picture(root: Path) -> dict[str, trees.Entry]:
    """The real tree in the model's form."""
    names: dict[int, list[str]] = {}
    found: dict[str, trees.Entry] = {}
    for name in trees.picture(root):
        names.setdefault(os.lstat(root / name).st_ino, []).append(name)
    for name in trees.picture(root):
        path = root / name
        status = os.lstat(path)
        kind, content = _kind(path, status)
        is_whiteout = kind == CHARACTER and status.st_rdev == 0
        xattrs = os.listxattr(path, follow_symlinks=False)
        found[name] = (
            kind,
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            None if is_whiteout else status.st_mtime,
            content,
            tuple(sorted(names[status.st_ino])) if kind != DIRECTORY else (),
            tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs),
        )
    return found


def _kind(path: Path, status: os.stat_result) -> tuple[bytes, bytes]:
    if stat.S_ISLNK(status.st_mode):
        return SYMLINK, os.readlink(os.fsencode(path))
    if stat.S_ISDIR(status.st_mode):
        return DIRECTORY, b""
    if stat.S_ISREG(status.st_mode):
        return FILE, path.read_bytes()
    return (FIFO if stat.S_ISFIFO(status.st_mode) else CHARACTER), b""


def unpacked(root: Path, layer: list[Member], **options: str) -> bool:
    fd = os.memfd_create("layer")
    target = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.write(fd, packed(layer))
        os.lseek(fd, 0, os.SEEK_SET)
        unpack_layer(fd, target, **options)
    except UnsafeArchive:
        return False
    finally:
        os.close(fd)
        os.close(target)
    return True


def modelled(model: Model, layer: list[Member]) -> bool:
    try:
        model.unpack(expected(layer))
    except Refused:
        return False
    return True


def agree(*stack: list[Member], is_applied: bool) -> None:
    model = Model(is_applied=is_applied)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        root = Path(folder, "root")
        root.mkdir()
        (Path(folder) / "etc").mkdir()
        around = trees.picture(folder, without="root")
        for layer in stack:
            whole = unpacked(root, layer, whiteouts="apply" if is_applied else "overlay")

            assert whole == modelled(model, layer)
            if not whole:
                break
            real, wanted = picture(root), model.picture()
            for name, entry in wanted.items():
                if entry[3] is None and name in real:  # times that nothing determines
                    real[name] = (*real[name][:3], None, *real[name][4:])
            if model.root.mtime is None:
                del real["."], wanted["."]
            assert trees.differences(real, wanted) == []
        assert trees.picture(folder, without="root") == around


@fixed
@given(layers)
def test_generated_layer_gives_the_tree_of_the_model(layer: list[Member]) -> None:
    agree(layer, is_applied=False)


@fixed
@given(layers, layers)
def test_generated_layers_one_over_the_other_give_the_tree_of_the_model(
    lower: list[Member], upper: list[Member]
) -> None:
    agree(lower, upper, is_applied=True)
