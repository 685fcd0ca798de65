"""Volume records: one folder each.

    volumes/<name>/
      volume.json   what was asked for (this module)
      _data/        what the containers see
      fill/         what an image has there, complete, on its way into _data
      lock          held by whoever fills or removes the volume

A volume is made in the staging folder and renamed into place, so of several
makers of one name exactly one wins.  Who uses a volume is written in the
documents of the containers and nowhere else.
"""

from __future__ import annotations

import errno
import os

from ..errors import ContainerNotFound, DamagedDocument, StoreFull, VolumeNotFound
from ..jsontext import MAX_BYTES
from ..record import Record
from . import containers, lock
from .document import read_bytes, read_document, replace_document, sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..jsontext import Json
    from ..paths import Paths

VERSION = 1
DRIVER = "local"
MODE = 0o755
STAGED = "volume-"  # `sandbox.engine.sweep` knows it too
DATA = "_data"
FILL = "fill"


class VolumeRecord(Record):
    """The document of one volume.  ``anonymous``: it was made for a container, without a name."""

    name: str
    created_ns: int
    driver: str = DRIVER
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False


def is_name(text: str) -> bool:
    """A name that a volume may have."""
    return (
        1 < len(text) < 256
        and text.isascii()
        and text[0].isalnum()
        and all(c.isalnum() or c in "_.-" for c in text)
    )


def make(paths: Paths, record: VolumeRecord, *, durable: bool) -> bool:
    """Make the volume, empty; False when there is one of the name."""
    folder = paths.volume(record.name)
    if os.path.isdir(f"{folder}/{DATA}"):
        return False
    staged, held = stage(paths)
    with held:
        try:
            os.mkdir(f"{staged}/{DATA}")
            os.chmod(f"{staged}/{DATA}", MODE)  # whatever the caller's umask made of it
            replace_document(f"{staged}/volume.json", _document(record), durable=durable)
            os.rename(staged, folder)
        except OSError as error:
            _remove_staged(staged)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(paths.volumes) from error
            raise
        except BaseException:
            _remove_staged(staged)
            raise
    if durable:
        sync_folder(paths.volumes)
    return True


def stage(paths: Paths) -> tuple[str, lock.Lock]:
    """A folder to make something of a volume in, and the lock that says that its maker lives."""
    while True:
        staged = f"{paths.staging}/{STAGED}{os.urandom(8).hex()}"
        os.mkdir(staged, 0o700)
        try:
            return staged, lock.take(f"{staged}/lock")
        except FileNotFoundError:
            # Taken for debris, by a sweep that came between the two calls.
            continue


def read(paths: Paths, name: str) -> VolumeRecord:
    """The document.  `VolumeNotFound`, or `DamagedDocument` when it is not one.

    A folder without a document is a volume that was made before there were documents.
    """
    folder = paths.volume(name)
    if not is_name(name):
        raise VolumeNotFound(name)
    path = f"{folder}/volume.json"
    try:
        value = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        try:
            return VolumeRecord(name=name, created_ns=os.stat(f"{folder}/{DATA}").st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            raise VolumeNotFound(name) from None
    if value.get("version") != VERSION or value.get("name") != name:
        raise DamagedDocument(what=path, problem="another version, or another volume's")
    created_ns, driver = value.get("created_ns"), value.get("driver")
    labels, options = value.get("labels"), value.get("options")
    if not (
        isinstance(created_ns, int)
        and isinstance(driver, str)
        and isinstance(labels, dict)
        and isinstance(options, dict)
    ):
        raise DamagedDocument(what=path, problem="a field has another type")
    return VolumeRecord(
        name=name,
        created_ns=created_ns,
        driver=driver,
        labels=tuple((key, str(item)) for key, item in labels.items()),
        options=tuple((key, str(item)) for key, item in options.items()),
        anonymous=value.get("anonymous") is True,
    )


def names(paths: Paths) -> list[str]:
    """The names of all volumes, in order."""
    try:
        found = os.listdir(paths.volumes)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if is_name(name))


def users(paths: Paths, wanted: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The ids of the containers that have each of these volumes, running or not.

    A container whose document cannot be read has what its text mentions.
    """
    found: dict[str, list[str]] = {name: [] for name in wanted}
    for container_id in containers.ids(paths):
        try:
            mounted: Iterable[str] = mounted_by(containers.read(paths, container_id).options)
        except ContainerNotFound:
            continue
        except DamagedDocument:
            text = _text_of(paths, container_id)
            mounted = [name for name in found if f'"{name}"'.encode() in text]
        for name in mounted:
            if name in found:
                found[name].append(container_id)
    return {name: tuple(ids) for name, ids in found.items()}


def mounted_by(options: Mapping[str, Json], *, anonymous: bool = False) -> list[str]:
    """The volumes in the options of a container; with ``anonymous`` those made for it alone."""
    mounts = options.get("volume")
    found = [
        mount.get("source")
        for mount in (mounts if isinstance(mounts, list) else ())
        if isinstance(mount, dict)
        and mount.get("kind") == "volume"
        and (mount.get("anonymous") is True or not anonymous)
    ]
    return [name for name in dict.fromkeys(found) if isinstance(name, str)]


def _document(record: VolumeRecord) -> dict[str, object]:
    return {
        "version": VERSION,
        "name": record.name,
        "created_ns": record.created_ns,
        "driver": record.driver,
        "labels": dict(record.labels),
        "options": dict(record.options),
        "anonymous": record.anonymous,
    }


def _text_of(paths: Paths, container_id: str) -> bytes:
    try:
        return read_bytes(f"{paths.container(container_id)}/container.json")[:MAX_BYTES]
    except OSError:
        return b""


def _remove_staged(staged: str) -> None:
    for path, remove in (
        (f"{staged}/volume.json", os.unlink),
        (f"{staged}/{DATA}", os.rmdir),
        (f"{staged}/lock", os.unlink),
        (staged, os.rmdir),
    ):
        try:
            remove(path)
        except OSError:
            continue
