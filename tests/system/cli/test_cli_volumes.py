"""``sandbox volume``: docker's texts, columns and exit codes."""

from __future__ import annotations

import json
import re

import pytest
import requires
from conftest import Store

pytestmark = requires.root

NAME_RULE = (
    'includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
    "allowed. If you intended to pass a host directory, use absolute path\n"
)


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["create", "v9"], 0, "v9\n", ""),
        (
            ["create", "-d", "nosuch", "v10"],
            1,
            "",
            'create v10: error looking up volume plugin nosuch: plugin "nosuch" not found\n',
        ),
        (["create", "bad name"], 1, "", f'create bad name: "bad name" {NAME_RULE}'),
        (["create", "../x"], 1, "", f'create ../x: "../x" {NAME_RULE}'),
        (
            ["create", "x"],
            1,
            "",
            "create x: volume name is too short, names should be at least two alphanumeric "
            "characters\n",
        ),
        (["create", "--opt", "foo=1", "vv"], 1, "", 'create vv: invalid option: "foo"\n'),
        (
            ["create", "--opt", "type=none", "vv"],
            1,
            "",
            'create vv: missing required option: "device"\n',
        ),
        (["inspect", "nosuch"], 1, "[]\n", "get nosuch: no such volume\n"),
        (["rm", "nosuch"], 1, "", "get nosuch: no such volume\n"),
        (["rm", "../images"], 1, "", "get ../images: no such volume\n"),
        (["rm", "-f", "nosuch"], 0, "nosuch\n", ""),
        (["prune", "-f"], 0, "Total reclaimed space: 0B\n", ""),
        (["ls"], 0, "DRIVER    VOLUME NAME\n", ""),
        (["ls", "-f", "size=1"], 1, "", "Invalid filter 'size'\n"),
    ],
)
def test_texts_are_dockers(
    store: Store, arguments: list[str], code: int, out: str, err: str
) -> None:
    done = store.program("volume", *arguments)

    told = [line for line in done.stderr.decode().splitlines(True) if not line.startswith("hint:")]
    assert (done.returncode, done.stdout.decode(), "".join(told)) == (code, out, err)


def test_a_tmpfs_volume_is_refused_with_a_way_out(store: Store) -> None:
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs"]
    done = store.program("volume", "create", *options, "vol")

    assert done.returncode == 1
    assert b"type=tmpfs" in done.stderr
    assert b"hint: --tmpfs" in done.stderr


def test_create_again_gives_the_same_and_without_a_name_a_new_one(store: Store) -> None:
    for _time in range(2):
        assert store.program("volume", "create", "--label", "a=1", "vol1").stdout == b"vol1\n"
    made = store.program("volume", "create").stdout.decode()
    assert re.fullmatch(r"[0-9a-f]{64}\n", made)

    # One without a name is anonymous, as docker's.
    pruned = store.program("volume", "prune", "-f").stdout.decode()
    assert pruned == f"Deleted Volumes:\n{made}\nTotal reclaimed space: 0B\n"


def test_ls_and_inspect_show_dockers_fields(store: Store) -> None:
    store.program("volume", "create", "vol1")
    store.program("volume", "create", "--label", "a=1", "--label", "b", "vol2")
    mountpoint = f"{store.root}/volumes/vol1/_data"

    assert store.program("volume", "ls").stdout.decode() == (
        "DRIVER    VOLUME NAME\nlocal     vol1\nlocal     vol2\n"
    )
    line = store.program("volume", "ls", "--format", "json", "-f", "name=vol1").stdout
    assert line.decode() == (
        '{"Availability":"N/A","Driver":"local","Group":"N/A","Labels":"","Links":"N/A",'
        f'"Mountpoint":"{mountpoint}","Name":"vol1","Scope":"local","Size":"N/A","Status":"N/A"}}\n'
    )
    (shown,) = json.loads(store.program("volume", "inspect", "vol1").stdout)
    created = shown.pop("CreatedAt")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert list(shown) == ["Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]
    assert (shown["Labels"], shown["Options"], shown["Mountpoint"]) == (None, None, mountpoint)
    labels = store.program("volume", "inspect", "-f", "{{.Name}} {{json .Labels}}", "vol2")
    assert labels.stdout == b'vol2 {"a":"1","b":""}\n'
    assert store.program("inspect", "-f", "{{.Driver}}", "vol2").stdout == b"local\n"
    by_type = store.program("inspect", "--type", "volume", "-f", "{{.Name}}", "vol2")
    assert by_type.stdout == b"vol2\n"


@requires.overlay
def test_filters_select(busybox: Store) -> None:
    busybox.program("volume", "create", "--label", "a=1", "free")
    busybox.program("create", "--name", "aa", "-v", "used:/u", "busybox")

    def names(*filters: str) -> list[str]:
        flags = [word for text in filters for word in ("-f", text)]
        return busybox.program("volume", "ls", "-q", *flags).stdout.decode().split()

    assert names("dangling=true") == ["free"]
    assert names("dangling=false") == ["used"]
    assert names("label=a") == names("label=a=1") == ["free"]
    assert names("label=a=2") == names("driver=nfs") == []
    assert names("name=us") == ["used"]
    assert names("driver=local", "name=e") == ["free", "used"]
    assert busybox.program("volume", "ls", "-f", "dangling=maybe").returncode == 1


@requires.overlay
def test_a_volume_in_use_is_not_removed(busybox: Store) -> None:
    made = busybox.program("create", "--name", "aa", "-v", "vol1:/data", "busybox").stdout.decode()

    done = busybox.program("volume", "rm", "vol1")

    assert done.returncode == 1
    assert done.stderr.decode() == f"remove vol1: volume is in use - [{made.strip()}]\n"
    assert busybox.program("volume", "rm", "-f", "vol1").returncode == 1
    assert busybox.program("volume", "prune", "-af").stdout == b"Total reclaimed space: 0B\n"
    busybox.program("rm", "aa")
    assert busybox.program("volume", "rm", "vol1").stdout == b"vol1\n"


def test_prune_asks_first_and_takes_named_ones_only_when_told(store: Store) -> None:
    store.program("volume", "create", "named")
    name = store.program("volume", "create").stdout.decode()

    asked = store.program("volume", "prune", stdin=b"n\n")
    assert asked.stdout.decode() == (
        "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert store.program("volume", "prune", "-a").stdout.startswith(
        b"WARNING! This will remove all local volumes not used by at least one container.\n"
    )
    agreed = store.program("volume", "prune", stdin=b"y\n").stdout.decode()
    assert f"Deleted Volumes:\n{name}\n" in agreed
    assert store.program("volume", "prune", "-af").stdout == (
        b"Deleted Volumes:\nnamed\n\nTotal reclaimed space: 0B\n"
    )


@requires.overlay
def test_containers_show_their_volumes(busybox: Store) -> None:
    mounts = ["-v", "/anon", "-v", "vol1:/data:ro", "--mount", "type=bind,src=/tmp,dst=/t"]
    busybox.program("create", "--name", "aa", *mounts, "busybox")
    busybox.program("create", "--name", "bb", "--volumes-from", "aa:ro", "busybox")

    (first,) = json.loads(busybox.program("inspect", "aa").stdout)
    (second,) = json.loads(busybox.program("inspect", "bb").stdout)
    by_place = {each["Destination"]: each for each in first["Mounts"]}
    anonymous = by_place["/anon"]["Name"]

    assert by_place["/data"] == {
        "Type": "volume",
        "Name": "vol1",
        "Source": f"{busybox.root}/volumes/vol1/_data",
        "Destination": "/data",
        "Driver": "local",
        "Mode": "ro",
        "RW": False,
        "Propagation": "",
    }
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    assert {each["Destination"]: each["RW"] for each in second["Mounts"]} == dict.fromkeys(
        ("/anon", "/data", "/t"), False
    )
    assert first["HostConfig"]["VolumesFrom"] is None
    assert second["HostConfig"]["VolumesFrom"] == ["aa:ro"]
    assert second["HostConfig"]["Binds"] is None
    assert first["Config"]["Volumes"] == {"/anon": {}}
    ps = ("ps", "-a", "--format")
    shown = busybox.program(*ps, "{{.Names}} {{.LocalVolumes}} {{.Mounts}}").stdout.decode()
    assert shown.splitlines()[1] == f"aa 2 {anonymous[:14]}…,vol1,/tmp"
    for value in ("vol1", "/data", anonymous):
        found = busybox.program(*ps, "{{.Names}}", "-f", f"volume={value}").stdout.split()
        assert found == [b"bb", b"aa"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["-v", "bad name:/x"], f'create bad name: "bad name" {NAME_RULE}'),
        (["-v", "/tmp:/x:nocopy"], "invalid volume specification: '/tmp:/x:nocopy'"),
        (["--mount", "type=bind,src=/tmp,dst=/x,volume-nocopy"], "cannot mix 'volume-*' options"),
        (["--mount", "src=v1,dst=/x,volume-subpath=a"], "volume-subpath is not supported"),
        (["--mount", "src=v1,dst=/x,volume-driver=nfs"], "error looking up volume plugin nfs"),
        (["--volumes-from", "aa:zz"], "invalid mode: zz"),
        (["--volumes-from", "nosuch"], "No such container: nosuch"),
    ],
)
@requires.overlay
def test_a_mount_that_cannot_be_is_refused(
    busybox: Store, options: list[str], problem: str
) -> None:
    done = busybox.program("run", "--rm", *options, "busybox", "true")

    assert done.returncode == 125
    assert problem.strip() in done.stderr.decode()
    assert busybox.program("volume", "ls", "-q").stdout == b""
