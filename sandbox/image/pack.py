"""Pack files into an image: an OCI archive, byte for byte the same from the same input.

For small images made on the spot (the quick start's, and the tests'); times are
fixed, owners are numbers, folders come before what is in them.

Out of scope: changes against lower layers, and trees of real size.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
import zlib

from .. import jsontext
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci import reference
from ..oci.descriptor import Descriptor, Platform
from ..oci.imageconfig import History, ImageConfig, ImageDocument
from ..oci.manifest import Index, Manifest
from ..record import Record, replace
from . import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO, Literal

    Kind = Literal["file", "folder", "symlink", "hardlink"]

DEFAULT_TIME = 1_700_000_000


class Entry(Record):
    """One thing in a layer: a file has ``content`` or a ``source`` to read, a link a ``target``."""

    path: str
    kind: Kind = "file"
    mode: int = -1
    content: bytes = b""
    source: str = ""
    target: str = ""
    uid: int = 0
    gid: int = 0


def file(path: str, content: bytes = b"", *, source: str = "", mode: int = -1) -> Entry:
    """A regular file; its mode is the source's, or 0644."""
    if mode < 0:
        mode = stat.S_IMODE(os.stat(source).st_mode) if source else 0o644
    return Entry(path=path, content=content, source=source, mode=mode)


def folder(path: str, *, mode: int = 0o755) -> Entry:
    """A folder."""
    return Entry(path=path, kind="folder", mode=mode)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path=path, kind="symlink", mode=0o777, target=target)


def hardlink(path: str, target: str) -> Entry:
    """Another name of a file of the same layer."""
    return Entry(path=path, kind="hardlink", mode=0o644, target=target)


def pack_oci_archive(
    layers: Sequence[Iterable[Entry] | bytes | str],
    out: str | BinaryIO,
    *,
    config: ImageConfig | None = None,
    name: str = "",
    architecture: str = "",
    epoch: int = DEFAULT_TIME,
    compressed: bool = True,
) -> str:
    """Write an image and return its id.

    A layer is a list of entries, the bytes of a tar, or the path of a tar or of a folder.
    ``epoch`` is the time (seconds) of every entry and of the image, as SOURCE_DATE_EPOCH
    is elsewhere.
    """
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    blobs: dict[str, bytes] = {}
    diff_ids = []
    descriptors_of_layers = []
    for layer in layers:
        tar = _layer_tar(layer, epoch)
        diff_ids.append(digests.of_bytes(tar))
        content = _gzip(tar) if compressed else tar
        media_type = descriptors.OCI_LAYER + ("+gzip" if compressed else "")
        descriptors_of_layers.append(_keep(blobs, content, media_type))
    platform = Platform(os="linux", architecture=architecture or layout.host_platform()[1])
    document = ImageDocument(
        architecture=platform.architecture,
        os=platform.os,
        created=created,
        config=config or ImageConfig(),
        diff_ids=tuple(diff_ids),
        history=tuple(History(created=created, created_by="sandbox pack") for _ in diff_ids),
    )
    config_descriptor = _keep(blobs, document.encode(), descriptors.OCI_CONFIG)
    manifest = Manifest(
        media_type=descriptors.OCI_MANIFEST,
        config=config_descriptor,
        layers=tuple(descriptors_of_layers),
    )
    stored = _keep(blobs, manifest.encode(), descriptors.OCI_MANIFEST)
    index = Index(
        media_type=descriptors.OCI_INDEX,
        manifests=(
            Descriptor(
                media_type=stored.media_type,
                digest=stored.digest,
                size=stored.size,
                platform=platform,
                annotations=_annotations(name),
            ),
        ),
    )
    files = [(layout.MARKER, jsontext.encode({"imageLayoutVersion": "1.0.0"}))]
    files.append((layout.INDEX, index.encode()))
    files += [(f"blobs/sha256/{digests.hex_of(key)}", blobs[key]) for key in sorted(blobs)]
    if isinstance(out, str):
        with open(out, "wb") as stream:
            _write_archive(stream, files, epoch)
    else:
        _write_archive(out, files, epoch)
    return config_descriptor.digest


def layer_tar(entries: Iterable[Entry], *, epoch: int = DEFAULT_TIME) -> bytes:
    """A layer's tar; folders that the entries leave out are put in, once, as 0755."""
    stream = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            path = entry.path.strip("/")
            parts = path.split("/")
            for depth in range(1, len(parts)):
                parent = "/".join(parts[:depth])
                if parent not in seen:
                    seen.add(parent)
                    tar.addfile(_header(folder(parent), parent, epoch))
            seen.add(path)
            header = _header(entry, path, epoch)
            if entry.kind == "file":
                content = _content(entry)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
            else:
                tar.addfile(header)
    return stream.getvalue()


def _layer_tar(layer: Iterable[Entry] | bytes | str, epoch: int) -> bytes:
    if isinstance(layer, bytes):
        return layer
    if isinstance(layer, str):
        if os.path.isdir(layer):
            return layer_tar(_walked(layer, ""), epoch=epoch)
        with open(layer, "rb") as stream:
            return stream.read()
    return layer_tar(layer, epoch=epoch)


def _walked(root: str, below: str) -> Iterator[Entry]:
    # Files, folders and symbolic links; a folder that is packed is the packer's own.
    for name in sorted(os.listdir(f"{root}/{below}")):
        path = f"{below}{name}"
        status = os.lstat(f"{root}/{path}")
        if stat.S_ISDIR(status.st_mode):
            entry = Entry(path=path, kind="folder")
        elif stat.S_ISLNK(status.st_mode):
            entry = Entry(path=path, kind="symlink", target=os.readlink(f"{root}/{path}"))
        elif stat.S_ISREG(status.st_mode):
            entry = Entry(path=path, source=f"{root}/{path}")
        else:
            continue
        mode = stat.S_IMODE(status.st_mode)
        yield replace(entry, mode=mode, uid=status.st_uid, gid=status.st_gid)
        if entry.kind == "folder":
            yield from _walked(root, f"{path}/")


def _content(entry: Entry) -> bytes:
    if not entry.source:
        return entry.content
    with open(entry.source, "rb") as stream:
        return stream.read()


def _header(entry: Entry, path: str, epoch: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path)
    header.type = {
        "file": tarfile.REGTYPE,
        "folder": tarfile.DIRTYPE,
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
    }[entry.kind]
    header.mode = entry.mode if entry.mode >= 0 else 0o755 if entry.kind == "folder" else 0o644
    header.mtime = epoch
    header.uid, header.gid = entry.uid, entry.gid
    header.linkname = entry.target.strip("/") if entry.kind == "hardlink" else entry.target
    return header


def _gzip(content: bytes) -> bytes:
    # wbits 31 writes a gzip header without a name or a time.
    made = zlib.compressobj(6, zlib.DEFLATED, 31)
    return made.compress(content) + made.flush()


def _keep(blobs: dict[str, bytes], content: bytes, media_type: str) -> Descriptor:
    digest = digests.of_bytes(content)
    blobs[digest] = content
    return Descriptor(media_type=media_type, digest=digest, size=len(content))


def _annotations(name: str) -> tuple[tuple[str, str], ...]:
    if not name:
        return ()
    parsed = reference.parse_name(name)
    return ((layout.CONTAINERD_NAME, parsed.canonical), (layout.REF_NAME, parsed.tag))


def _write_archive(stream: BinaryIO, files: list[tuple[str, bytes]], epoch: int) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for parent in ("blobs", "blobs/sha256"):
            tar.addfile(_header(folder(parent), parent, epoch))
        for path, content in files:
            header = _header(file(path), path, epoch)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
