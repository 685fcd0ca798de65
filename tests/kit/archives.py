"""Image archives of every kind, made in memory; and a picture of a store."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.image.pack import Entry, file, folder, layer_tar

OCI = "application/vnd.oci.image"


def zstd(content: bytes) -> bytes:
    """A zstd frame of raw blocks: valid, and nothing is needed to make it."""
    made = [b"\x28\xb5\x2f\xfd", b"\xa0", len(content).to_bytes(4, "little")]
    blocks = [content[at : at + (1 << 17)] for at in range(0, len(content), 1 << 17)] or [b""]
    for number, block in enumerate(blocks):
        header = len(block) << 3 | (number == len(blocks) - 1)
        made += [header.to_bytes(3, "little"), block]
    return b"".join(made)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": zstd,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tar_of(members: Mapping[str, bytes | str]) -> bytes:
    """A tar of files (bytes) and symbolic links (str)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            if isinstance(content, str):
                header.type, header.linkname = tarfile.SYMTYPE, content
                tar.addfile(header)
            else:
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return stream.getvalue()


@dataclass
class Parts:
    """An image in parts, to be spoilt and put together."""

    tars: list[bytes]
    compression: str = "gzip"
    name: str = "docker.io/library/small:latest"
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        value = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in self.tars]},
        }
        return json.dumps(value | self.changes).encode()

    @property
    def image_id(self) -> str:
        return digest(self.config)

    @property
    def layers(self) -> list[bytes]:
        return [PACK[self.compression](tar) for tar in self.tars]

    @property
    def manifest(self) -> bytes:
        suffix = "" if self.compression == "plain" else f"+{self.compression}"
        value = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(self.config, f"{OCI}.config.v1+json"),
            "layers": [descriptor(x, f"{OCI}.layer.v1.tar{suffix}") for x in self.layers],
        }
        return json.dumps(value).encode()

    def layout(self) -> dict[str, bytes]:
        """The files of an OCI layout."""
        annotations = {"io.containerd.image.name": self.name} if self.name else {}
        item = descriptor(self.manifest, f"{OCI}.manifest.v1+json") | {"annotations": annotations}
        blobs = {digest(x)[7:]: x for x in (self.config, self.manifest, *self.layers)}
        return {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [item]}).encode(),
            **{f"blobs/sha256/{name}": content for name, content in sorted(blobs.items())},
        }

    def oci_archive(self) -> bytes:
        return tar_of(self.layout())

    def docker_archive(self) -> bytes:
        """As ``docker save`` wrote it for ten years: plain layers, the same one twice as a link."""
        members: dict[str, bytes | str] = {}
        names: list[str] = []
        first: dict[bytes, str] = {}
        for number, layer in enumerate(self.layers):
            name = f"{number:064x}/layer.tar"
            members[f"{number:064x}/VERSION"] = b"1.0"
            members[name] = f"../{first[layer]}" if layer in first else layer
            first.setdefault(layer, name)
            names.append(name)
        config = f"{self.image_id[7:]}.json"
        members[config] = self.config
        tag = [self.name.removeprefix("docker.io/library/")] if self.name else None
        item = {"Config": config, "RepoTags": tag, "Layers": names}
        members["manifest.json"] = json.dumps([item]).encode()
        return tar_of(members)

    def modern_docker_archive(self) -> bytes:
        """As ``docker save`` writes it since 25: a layout with ``manifest.json`` beside it."""
        members: dict[str, bytes | str] = dict(self.layout())
        item = {
            "Config": f"blobs/sha256/{self.image_id[7:]}",
            "RepoTags": ["small:latest"],
            "Layers": [f"blobs/sha256/{digest(layer)[7:]}" for layer in self.layers],
        }
        members["manifest.json"] = json.dumps([item]).encode()
        return tar_of(members)


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def small(compression: str = "gzip", *, filler: int = 3000) -> Parts:
    """Two layers and a third like the second."""
    content = hashlib.shake_128(b"filler").digest(filler)
    first: Sequence[Entry] = [
        folder("bin"),
        file("bin/tool", content, mode=0o755),
        folder("etc", mode=0o750),
        file("etc/a", b"lower"),
    ]
    second = layer_tar([folder("etc", mode=0o750), file("etc/a", b"upper"), file("b", b"b")])
    return Parts([layer_tar(first), second, second], compression)


def many_layers(count: int) -> Parts:
    return Parts([layer_tar([file(f"f{number}", b"x")]) for number in range(count)])


def write_folder(files: Mapping[str, bytes], target: Path) -> Path:
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return target


def tree(root: str | Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: kind, mode, owner, content or target."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(Path(root).rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = digest(path.read_bytes())
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, content)
    return found
