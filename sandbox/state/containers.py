"""Container records: one folder each.

    containers/<id>/
      container.json   what was asked for (this module); replaced, never edited
      lock             held by whoever is changing the container
      launch           there while a run is in progress: which boot, which cgroup (written ahead)
      exit             how the last run ended (the monitor's exit record)
      log, log.1 ...   what it printed
      upper/ work/     the writable layer; or disk.img, when its size is bounded
      hosts hostname resolv.conf

Whether it runs is not written here: `sandbox.engine.status` asks the run
folder's lock and the exit record.
"""

from __future__ import annotations

import os

from ..errors import ContainerNotFound, DamagedDocument, UsageError
from ..record import Record, fields_of
from . import names
from .document import read_document, replace_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json
    from ..paths import Paths

VERSION = 1


class Membership(Record):
    """A network that a container joins when it starts, and what it is to have there."""

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


class ContainerRecord(Record):
    """The document of one container.  ``options`` is JSON that its maker understands.

    ``made_to_run``: whoever made it starts it in the same breath, holding its lock.
    ``networks`` is None until it is connected to another network than its options say, or
    disconnected from that one.
    """

    id: str
    name: str
    created_ns: int
    image: str
    image_id: str
    argv: tuple[str, ...]
    auto_remove: bool
    made_to_run: bool
    labels: tuple[tuple[str, str], ...]
    options: dict[str, Json]
    networks: tuple[Membership, ...] | None = None


def new_id() -> str:
    """64 hexadecimal digits; never all digits in the first 12, as docker's."""
    while True:
        made = os.urandom(32).hex()
        if not made[:12].isdigit():
            return made


def write(paths: Paths, record: ContainerRecord, *, durable: bool) -> None:
    """Replace the container's document; its folder is there already."""
    replace_document(
        f"{paths.container(record.id)}/container.json",
        {
            "version": VERSION,
            "id": record.id,
            "name": record.name,
            "created_ns": record.created_ns,
            "image": record.image,
            "image_id": record.image_id,
            "argv": list(record.argv),
            "auto_remove": record.auto_remove,
            "made_to_run": record.made_to_run,
            "labels": dict(record.labels),
            "options": record.options,
            **({} if record.networks is None else {"networks": _plain(record.networks)}),
        },
        durable=durable,
    )


def read(paths: Paths, container_id: str) -> ContainerRecord:
    """The document.  `ContainerNotFound`, or `DamagedDocument` when it is not one."""
    path = f"{paths.container(container_id)}/container.json"
    try:
        value = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ContainerNotFound(container_id) from None
    try:
        if value["version"] != VERSION or value["id"] != container_id:
            raise DamagedDocument(what=path, problem="another version, or another container's")
        labels, argv, options = value["labels"], value["argv"], value["options"]
        name, created_ns = value["name"], value["created_ns"]
        image, image_id = value["image"], value["image_id"]
        if not (
            isinstance(labels, dict)
            and isinstance(argv, list)
            and isinstance(options, dict)
            and isinstance(name, str)
            and isinstance(created_ns, int)
            and isinstance(image, str)
            and isinstance(image_id, str)
        ):
            raise DamagedDocument(what=path, problem="a field has another type")
        return ContainerRecord(
            id=container_id,
            name=name,
            created_ns=created_ns,
            image=image,
            image_id=image_id,
            argv=tuple(str(word) for word in argv),
            auto_remove=value["auto_remove"] is True,
            made_to_run=value.get("made_to_run") is True,
            labels=tuple((key, str(item)) for key, item in labels.items()),
            options=options,
            networks=_memberships(value["networks"], path) if "networks" in value else None,
        )
    except KeyError as error:
        raise DamagedDocument(what=path, problem=f"no {error}") from None


def _plain(networks: tuple[Membership, ...]) -> list[dict[str, object]]:
    return [fields_of(each) | {"aliases": [*each.aliases]} for each in networks]


def _memberships(value: Json, path: str) -> tuple[Membership, ...]:
    found = []
    for each in value if isinstance(value, list) else (None,):
        if not isinstance(each, dict):
            raise DamagedDocument(what=path, problem="a field has another type")
        aliases = each.get("aliases")
        words = {name: str(each.get(name, "")) for name in ("network", "ip", "ip6", "mac")}
        names = tuple(str(name) for name in aliases) if isinstance(aliases, list) else ()
        found.append(Membership(aliases=names, **words))
    return tuple(found)


def ids(paths: Paths) -> list[str]:
    """The ids of all containers, in no order."""
    try:
        return [name for name in os.listdir(paths.containers) if is_id(name)]
    except FileNotFoundError:
        return []


def is_network(mode: str) -> bool:
    """Whether a ``--network`` is a network, and not ``none``, ``host`` or another container's."""
    return mode not in ("none", "host") and not mode.startswith("container:")


def is_id(text: str) -> bool:
    """A full container id."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def find(paths: Paths, text: str) -> str:
    """The id of the container meant by a name, an id or the start of one."""
    name = text.removeprefix("/")
    if not name or "/" in name or name in (".", ".."):
        raise ContainerNotFound(text)
    if is_id(name) and os.path.isdir(paths.container(name)):
        return name
    found = names.owner(paths, name)
    if found is not None and os.path.isdir(paths.container(found)):
        return found
    if all(c in "0123456789abcdef" for c in name):
        matches = [each for each in ids(paths) if each.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UsageError(f"Multiple IDs found with provided prefix: {text}")
    raise ContainerNotFound(text)
