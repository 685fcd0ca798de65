from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.errors import UsageError
from sandbox.runtime import users
from sandbox.runtime.users import Account, find_in_layers, resolve_user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
web:x:33:34:Web:/var/www:/bin/sh
0:x:99:99:a name of digits:/zero:/bin/sh
broken line
nonumber:x:x:1::/:
+::::::
short:x:12:13
"""
GROUP = """\
root:x:0:
bin:x:2:root,daemon
web:x:34:
logs:x:50:web,other
media:x:51:other,web
"""


def opener(folder: Path) -> Callable[[str], int | None]:
    return lambda path: find_in_layers((str(folder),), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (0, 2), "/root"),
        ("0", 0, 0, (0, 2), "/root"),
        ("root", 0, 0, (0, 2), "/root"),
        ("web", 33, 34, (34, 50, 51), "/var/www"),
        ("33", 33, 34, (34, 50, 51), "/var/www"),
        ("web:bin", 33, 2, (2,), "/var/www"),
        ("web:77", 33, 77, (77,), "/var/www"),
        ("1234", 1234, 0, (0,), "/"),
        ("1234:5678", 1234, 5678, (5678,), "/"),
        (":50", 0, 50, (50,), "/root"),
        ("short", 12, 13, (13,), "/"),
        ("2147483647", 2147483647, 0, (0,), "/"),
    ],
)
def test_user_of(
    root: Path, text: str, uid: int, gid: int, groups: tuple[int, ...], home: str
) -> None:
    assert resolve_user(text, opener(root)) == Account(uid=uid, gid=gid, groups=groups, home=home)


def test_digits_are_a_number_even_where_an_image_has_a_user_of_that_name(root: Path) -> None:
    assert resolve_user("0", opener(root)).uid == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("0x0", "unable to find user 0x0: no matching entries in passwd file"),
        ("nonumber", "unable to find user nonumber: no matching entries in passwd file"),
        ("root:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647: -1"),
        ("2147483648", "uids and gids must be in range 0-2147483647: 2147483648"),
        ("4294967296", "uids and gids must be in range 0-2147483647: 4294967296"),
        ("0:99999999999", "uids and gids must be in range 0-2147483647: 99999999999"),
    ],
)
def test_user_is_refused(root: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_user(text, opener(root))

    assert caught.value.message == words


def test_added_groups_are_names_or_numbers_and_come_last(root: Path) -> None:
    account = resolve_user("1234", opener(root), group_add=("logs", "7", "0"))

    assert account.groups == (0, 50, 7)


def test_an_added_group_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="unable to find group nosuch"):
        resolve_user("", opener(root), group_add=("nosuch",))


def test_a_root_without_passwd_knows_numbers_only(tmp_path: Path) -> None:
    assert resolve_user("", opener(tmp_path)) == Account(uid=0, gid=0, groups=(0,), home="/")
    with pytest.raises(UsageError, match="unable to find user web"):
        resolve_user("web", opener(tmp_path))


def test_a_fifo_as_passwd_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")

    with pytest.raises(UsageError, match="not a regular file"):
        resolve_user("", opener(tmp_path))


def test_a_fifo_that_a_caller_opened_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(UsageError, match="not a regular file"):
        resolve_user("", lambda _path: os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))


def test_a_huge_passwd_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_BYTES", 100)

    with pytest.raises(UsageError, match="more than 100 bytes"):
        resolve_user("", opener(root))


def layer(path: Path, **files: str) -> str:
    for name, content in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    path.mkdir(exist_ok=True)
    return str(path)


def read(layers: tuple[str, ...], path: str) -> str | None:
    fd = find_in_layers(layers, path)
    if fd is None:
        return None
    with os.fdopen(fd) as file:
        return file.read()


def whiteout(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("this process may not make a whiteout")


def test_the_upper_layer_s_file_wins(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", etc__f="new"), layer(tmp_path / "1", etc__f="old"))

    assert read(layers, "/etc/f") == "new"


def test_folders_are_merged(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", etc__g="2"), layer(tmp_path / "1", etc__f="1"))

    assert read(layers, "/etc/f") == "1"


def test_a_whiteout_hides_the_lower_file(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", etc__g="2"), layer(tmp_path / "1", etc__f="1"))
    whiteout(tmp_path / "2/etc/f")

    assert read(layers, "/etc/f") is None


def test_a_whiteout_of_a_folder_hides_what_was_in_it(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2"), layer(tmp_path / "1", etc__f="1"))
    whiteout(tmp_path / "2/etc")

    assert read(layers, "/etc/f") is None


@pytest.mark.parametrize("name", ["trusted.overlay.opaque", "user.overlay.opaque"])
def test_an_opaque_folder_hides_the_lower_ones(tmp_path: Path, name: str) -> None:
    layers = (layer(tmp_path / "2", etc__g="2"), layer(tmp_path / "1", etc__f="1"))
    try:
        os.setxattr(tmp_path / "2/etc", name, b"y")
    except OSError:
        pytest.skip(f"{name} cannot be set here")

    assert read(layers, "/etc/f") is None
    assert read(layers, "/etc/g") == "2"


def test_a_file_in_place_of_a_folder_hides_the_folder(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", etc="a file"), layer(tmp_path / "1", etc__f="1"))

    assert read(layers, "/etc/f") is None
    assert read(layers, "/etc") == "a file"


@pytest.mark.parametrize("path", ["/f/", "/f/.", "/f/..", "/f/../f", "/link/"])
def test_nothing_is_below_a_file(tmp_path: Path, path: str) -> None:
    layers = (layer(tmp_path / "1", f="a file"),)
    (tmp_path / "1/link").symlink_to("f")

    assert read(layers, path) is None


def test_a_folder_in_place_of_a_file_hides_the_file(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", etc__f="2"), layer(tmp_path / "1", etc="a file"))

    with pytest.raises(UsageError, match="not a regular file"):
        find_in_layers(layers, "/etc")


@pytest.mark.parametrize(
    "target", ["/real/f", "../real/f", "../../../../real/f", "/./real//f", "/other/../real/f"]
)
def test_links_are_followed_inside_the_stack(tmp_path: Path, target: str) -> None:
    layers = (
        layer(tmp_path / "2", real__f="in the image", other__x=""),
        layer(tmp_path / "1", etc__x=""),
    )
    (tmp_path / "1/etc/f").symlink_to(target)

    assert read(layers, "/etc/f") == "in the image"


def test_a_link_to_a_folder_leads_through_all_layers(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", usr__etc__g="2"), layer(tmp_path / "1", usr__etc__f="1"))
    (tmp_path / "2/etc").symlink_to("usr/etc")

    assert read(layers, "/etc/f") == "1"


def test_a_link_to_the_host_s_file_finds_nothing(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "1", etc__x=""),)
    (tmp_path / "1/etc/passwd").symlink_to(layer(tmp_path / "outside", f="secret") + "/f")

    assert read(layers, "/etc/passwd") is None


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "1", etc__x=""),)
    (tmp_path / "1/etc/a").symlink_to("b")
    (tmp_path / "1/etc/b").symlink_to("a")

    with pytest.raises(UsageError, match="symbolic links"):
        find_in_layers(layers, "/etc/a")


def test_a_device_is_refused_without_being_opened(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "1", etc__x=""),)
    try:
        os.mknod(tmp_path / "1/etc/passwd", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("this process may not make a device")

    with pytest.raises(UsageError, match="not a regular file"):
        find_in_layers(layers, "/etc/passwd")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    layers = (layer(tmp_path / "2", a__b__f="2"), layer(tmp_path / "1", a__b__g="1"))
    (tmp_path / "1/a/loop").symlink_to("loop")
    before = set(os.listdir("/proc/self/fd"))

    for path in ("/a/b/g", "/a/b/none", "/a/b", "/a/loop", "/a/../a/b/../b/f"):
        try:
            fd = find_in_layers(layers, path)
        except UsageError:
            continue
        if fd is not None:
            os.close(fd)

    assert set(os.listdir("/proc/self/fd")) == before
