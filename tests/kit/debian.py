"""A real image: Debian, python3 on top of it, and a small layer with one of each oddity.

    layer 1   a minimal Debian
    layer 2   what installing python3 changed, with whiteouts for what went away
    layer 3   hard links, a setuid program, extended attributes, a capability, nodes, times before
              1970, a hole, names that are no UTF-8; whiteouts of files and folders below, and two
              folders that hide what the layers below have in them

`make` needs mmdebstrap, the network, and a minute or two.  SANDBOX_TEST_DEBIAN=FOLDER names a
folder that keeps the archive from one session to the next.

`unpacked` is what GNU tar makes of the same archive, layer by layer.
"""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sandbox.image.pack import pack_oci_archive
from sandbox.oci.imageconfig import ImageConfig

from . import trees

SUITE = "bookworm"
NAME = "debian-python:test"
KEPT = "SANDBOX_TEST_DEBIAN"
# Nodes of the builder's, and what only makes the archive large.
NOT_PACKED = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./var/cache/apt/*.bin",
    "./var/lib/apt/lists/*Packages*",
)
PACK = (
    *("tar", "--format=posix", "--pax-option=delete=atime,delete=ctime"),
    *("--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse"),
)
UNPACK = (
    *("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p"),
    "--exclude=.wh.*",
)
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
HIDDEN_FOLDERS = ("etc/skel", "usr/share/python3/debpython")
WHITED_OUT = ("etc/issue.net", "usr/bin/perl5.36.0", "usr/share/doc/tzdata")


def archive(scratch: Path) -> Path:
    """The image as an OCI archive: the kept one, or one made now."""
    folder = os.environ.get(KEPT)
    made = Path(folder or scratch, "debian.tar")
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        partial = made.with_suffix(f".{os.getpid()}")
        make(scratch / "parts", partial)
        partial.rename(made)
    return made


def make(parts: Path, out: Path) -> None:
    """Write the archive; ``parts`` is a folder to work in, and gone afterwards."""
    parts.mkdir()
    before, after = parts / "before", parts / "after"
    layers = [parts / f"{number}.tar" for number in (1, 2, 3)]
    _debootstrap(after, base=layers[0])
    before.mkdir()
    subprocess.run([*UNPACK, "-xf", layers[0], "-C", before], check=True)
    _pack_changes(before, after, layers[1], parts)
    _pack_oddities(after, layers[2], parts / "oddities")
    pack_oci_archive(
        [str(layer) for layer in layers],
        str(out),
        name=NAME,
        config=ImageConfig(
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
            cmd=("python3",),
        ),
    )
    subprocess.run(["rm", "-rf", "--", parts], check=True)


def _debootstrap(root: Path, *, base: Path) -> None:
    """A tree with python3; ``base`` is a tar of the same one before python3 was installed."""
    excluded = [f"--exclude={name}" for name in NOT_PACKED]
    pack = shlex.join([*PACK, "--sort=name", *excluded, "-cf", str(base)])
    install = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -y -q --no-install-recommends '
        '-o DPkg::Chroot-Directory="$1" install python3'
    )
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", "--format=directory"),
            # 1: a file changed as it was read, which is as good as any state.
            f'--customize-hook={pack} -C "$1" . || test $? = 1',
            f"--customize-hook={install}",
            *(SUITE, root),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def _pack_changes(before: Path, after: Path, out: Path, parts: Path) -> None:
    old, new = trees.picture(before), trees.picture(after)
    changed = {name for name in new if new[name] != old.get(name)}
    # Names of one file stay together, and a folder comes with what is in it.
    files = {_shared_file(new[name]) for name in changed if _shared_file(new[name])}
    changed |= {name for name in new if _shared_file(new[name]) in files}
    changed |= {str(above) for name in changed for above in Path(name).parents}
    gone = {name for name in old if name not in new}
    topmost = {name for name in gone if os.path.dirname(name) not in gone}

    whiteouts = parts / "whiteouts"
    markers = [os.path.join(os.path.dirname(n), WHITEOUT + os.path.basename(n)) for n in topmost]
    for marker in markers:
        (whiteouts / marker).parent.mkdir(parents=True, exist_ok=True)
        (whiteouts / marker).touch()
    _pack(after, changed, out)
    _pack(whiteouts, markers, out, "-r")


def _shared_file(entry: trees.Entry) -> object:
    """The first name of a file that has several; "" for everything else."""
    links = entry[7]
    return links[1] if isinstance(links, tuple) and links and links[0] > 1 else ""


def _pack(folder: Path, names: Iterable[str], out: Path, mode: str = "-c") -> None:
    # A folder with everything in it, then the next: tar sets a folder's time when it leaves it.
    ordered = sorted(names, key=lambda name: name.split("/"))
    subprocess.run(
        [*PACK, "--no-recursion", "--null", "-C", folder, mode, "-f", out, "--files-from=-"],
        input=b"\0".join(os.fsencode(name) for name in ordered),
        check=True,
    )


def _pack_oddities(below: Path, out: Path, layer: Path) -> None:
    app = layer / "opt" / "app"
    (app / "sub").mkdir(parents=True)
    file = app / "main.py"
    file.write_text("print('hello')\n")
    os.link(file, app / "again.py")
    os.link(file, app / "sub" / "once-more.py")

    setuid = _file(app / "setuid", b"#!/bin/sh\n", 0o4755)
    os.chown(setuid, 2_500_000, 1000)
    setuid.chmod(0o4755)  # chown takes the bit away
    _file(app / "setgid", b"#!/bin/sh\n", 0o2755)
    capable = _file(app / "capable", b"#!/bin/sh\n", 0o755)
    net_raw = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr(capable, "security.capability", net_raw)
    for path in (file, app / "sub"):
        os.setxattr(path, "user.note", b"bytes: \0\n=\xff")

    (app / "shared").mkdir()
    (app / "shared").chmod(0o3777)
    (app / "secret").mkdir()
    (app / "secret").chmod(0)
    os.mkfifo(app / "pipe", 0o640)
    os.mknod(app / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(app / "disk", 0o600 | stat.S_IFBLK, os.makedev(259, 4_000))
    with (app / "hole").open("wb") as stream:
        stream.truncate(40 << 20)
        stream.seek(3 << 20)
        stream.write(b"in the middle")
    (app / "empty").touch()
    (app / ("n" * 240)).write_text("a long name")
    (app / "link").symlink_to("far/" * 75 + "away")
    (app / "dangling").symlink_to("../../nowhere")
    os.chown(app / "dangling", 33, 33, follow_symlinks=False)
    Path(os.fsdecode(bytes(app) + b"/caf\xe9")).write_text("no UTF-8")
    (app / "Ünïcode ☃").write_text("UTF-8")
    (app / "two\nlines").write_text("a name")

    for hidden in HIDDEN_FOLDERS:
        (layer / hidden).mkdir(parents=True)
        (layer / hidden / OPAQUE).touch()
        (layer / hidden / "new").write_text("all that is left")
    for gone in WHITED_OUT:
        assert os.path.lexists(below / gone), gone
        marker = layer / os.path.dirname(gone) / (WHITEOUT + os.path.basename(gone))
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()

    _settle_times(layer, below)
    _pack(layer, [".", *(os.path.relpath(path, layer) for path in layer.rglob("*"))], out)


def _file(path: Path, content: bytes, mode: int) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _settle_times(layer: Path, below: Path) -> None:
    """Times with nanoseconds, on both sides of 1970; a folder that is below too is as there."""
    for number, path in enumerate(sorted([layer, *layer.rglob("*")], reverse=True)):
        lower = below / path.relative_to(layer)
        if path.is_dir() and lower.is_dir():
            status = lower.stat()
            shutil.copystat(lower, path)
            os.chown(path, status.st_uid, status.st_gid)
        else:
            at = (1_000_000_000 - number * 50_000_000) * 10**9 + 123_456_789 + number
            os.utime(path, ns=(at, at), follow_symlinks=False)


def layers_of(image: Path, folder: Path) -> list[Path]:
    """The (compressed) layers of an OCI archive, bottom first, unpacked into ``folder``."""
    folder.mkdir()
    subprocess.run(["tar", "-xf", image, "-C", folder], check=True)
    blobs = folder / "blobs" / "sha256"

    def named(descriptor: dict[str, str]) -> Path:
        return blobs / descriptor["digest"].removeprefix("sha256:")

    index = json.loads((folder / "index.json").read_bytes())
    manifest = json.loads(named(index["manifests"][0]).read_bytes())
    return [named(layer) for layer in manifest["layers"]]


def unpacked(layers: Sequence[Path], root: Path) -> None:
    """Make ``root`` of the layers with GNU tar, and the whiteouts by hand."""
    root.mkdir()
    for layer in layers:
        with tarfile.open(layer) as tar:
            members = [(os.path.normpath(member.name), member.isdir()) for member in tar]
        for name, is_folder in members:
            folder, base = os.path.split(name)
            if base == OPAQUE:
                for path in (root / folder).iterdir():
                    _remove(path)
            elif base.startswith(WHITEOUT):
                _remove(root / folder / base.removeprefix(WHITEOUT))
            elif not is_folder and (root / name).is_dir() and not (root / name).is_symlink():
                _remove(root / name)
        subprocess.run([*UNPACK, "-xzf", layer, "-C", root], check=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def picture(root: Path | str) -> dict[str, trees.Entry]:
    """A tree as a value.  How many names a file has is not compared, but which: a name that an
    upper layer hides still counts in overlayfs."""
    return {
        name: (*entry[:7], _first_name(entry), entry[8])
        for name, entry in trees.picture(root).items()
    }


def _first_name(entry: trees.Entry) -> object:
    links = entry[7]
    return links[1] if isinstance(links, tuple) and links else ""


OVERLAID = """
import pickle, subprocess, sys
from kit import debian
at, *lowers = sys.argv[1:]
options = "ro,lowerdir=" + ":".join(lowers)
subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", at], check=True)
sys.stdout.buffer.write(pickle.dumps(debian.picture(at)))
"""


def overlaid(lowers: Sequence[str], at: Path) -> dict[str, trees.Entry]:
    """The picture of folders stacked by overlayfs, top first, mounted where nobody else sees it."""
    at.mkdir()
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *(sys.executable, "-c", OVERLAID, str(at), *lowers),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    seen: dict[str, trees.Entry] = pickle.loads(done.stdout)
    return seen
