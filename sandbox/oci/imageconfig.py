"""The image config: what an image runs, and what its layers are.

`ImageConfig` is an allow-list.  What is not listed here (host settings,
runtime names, hooks) never leaves the document; labels are data and nothing on
the host is ever chosen by one.
"""

from __future__ import annotations

from .. import jsontext
from ..errors import DamagedDocument
from ..record import Record
from . import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json

MAX_BYTES = 8 << 20
MAX_LAYERS = 500
DAWN = "1970-01-01T00:00:00Z"


class Healthcheck(Record):
    """How to ask whether a container is well; times in nanoseconds, 0 for the default."""

    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

    def document(self) -> dict[str, Json]:
        """As it is written, docker's keys; what is not stated is left out."""
        made: dict[str, Json] = {
            "Test": list(self.test),
            "Interval": self.interval_ns,
            "Timeout": self.timeout_ns,
            "StartPeriod": self.start_period_ns,
            "StartInterval": self.start_interval_ns,
            "Retries": self.retries,
        }
        return {key: value for key, value in made.items() if value}


class ImageConfig(Record):
    """What a container of this image starts from.  None is 'not stated', () is 'emptied'."""

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()

    def document(self) -> dict[str, Json]:
        """As it is written, docker's keys; what is not stated is left out."""
        made: dict[str, Json] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": list(self.env),
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.document(),
            "Volumes": {path: {} for path in self.volumes},
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "Shell": list(self.shell),
            "OnBuild": list(self.on_build),
        }
        kept = ("Entrypoint", "Cmd")
        return {key: value for key, value in made.items() if value or (key in kept and value == [])}


class ImageDocument(Record):
    """The whole config document, as far as this engine reads it."""

    architecture: str
    os: str
    variant: str = ""
    created: str = DAWN
    author: str = ""
    config: ImageConfig
    diff_ids: tuple[str, ...]
    history: tuple[History, ...] = ()

    def encode(self) -> bytes:
        """The document's bytes, whose digest is the image id."""
        made: dict[str, Json] = {
            "architecture": self.architecture,
            "config": self.config.document(),
            "created": self.created,
            "history": [item.document() for item in self.history],
            "os": self.os,
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
        }
        if self.variant:
            made["variant"] = self.variant
        if self.author:
            made["author"] = self.author
        return jsontext.encode(made)


class History(Record):
    """How one layer came to be; ``empty_layer`` for a step that made none."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    def document(self) -> dict[str, Json]:
        """As it is written."""
        made: dict[str, Json] = {
            "created": self.created,
            "created_by": self.created_by,
            "comment": self.comment,
            "author": self.author,
            "empty_layer": self.empty_layer,
        }
        return {key: value for key, value in made.items() if value}


def parse(content: bytes, *, what: str = "image config") -> ImageDocument:
    """Read an image config; a wrong type anywhere is a `DamagedDocument`."""
    value = _object(jsontext.decode(content, what=what, max_bytes=MAX_BYTES), "document", what)
    rootfs = _object(value.get("rootfs"), "rootfs", what)
    diff_ids = rootfs.get("diff_ids")
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list) or len(diff_ids) > MAX_LAYERS:
        problem = f"rootfs.diff_ids is not a list of at most {MAX_LAYERS}"
        raise DamagedDocument(what=what, problem=problem)
    history = value.get("history")
    if history is None:
        history = []
    if not isinstance(history, list):
        raise DamagedDocument(what=what, problem="history is not a list")
    return ImageDocument(
        architecture=_text(value, "architecture", what),
        os=_text(value, "os", what),
        variant=_text(value, "variant", what),
        created=_text(value, "created", what) or DAWN,
        author=_text(value, "author", what),
        config=run_config(value.get("config"), what=what),
        diff_ids=tuple(digests.require(item, what=f"{what}: diff_ids") for item in diff_ids),
        history=tuple(_history(item, what) for item in history),
    )


def run_config(value: Json, *, what: str) -> ImageConfig:
    """Check the run configuration (the document's ``config``)."""
    if value is None:
        return ImageConfig()
    value = _object(value, "config", what)
    return ImageConfig(
        env=_texts(value, "Env", what) or (),
        cmd=_texts(value, "Cmd", what),
        entrypoint=_texts(value, "Entrypoint", what),
        user=_text(value, "User", what),
        working_dir=_text(value, "WorkingDir", what),
        volumes=_keys(value, "Volumes", what),
        exposed_ports=_keys(value, "ExposedPorts", what),
        stop_signal=_text(value, "StopSignal", what),
        labels=_labels(value.get("Labels"), what),
        healthcheck=_healthcheck(value.get("Healthcheck"), what),
        shell=_texts(value, "Shell", what) or (),
        on_build=_texts(value, "OnBuild", what) or (),
    )


def _object(value: Json, key: str, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise DamagedDocument(what=what, problem=f"{key} is not an object")
    return value


def _checked(text: Json, key: str, what: str) -> str:
    # A NUL would end the text early for the kernel, and for nobody else; half a
    # surrogate pair is no text at all.
    if not isinstance(text, str) or "\0" in text:
        raise DamagedDocument(what=what, problem=f"{key} is not a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DamagedDocument(what=what, problem=f"{key} is not UTF-8") from error
    return text


def _text(value: dict[str, Json], key: str, what: str) -> str:
    found = value.get(key)
    return "" if found is None else _checked(found, key, what)


def _texts(value: dict[str, Json], key: str, what: str) -> tuple[str, ...] | None:
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, list):
        raise DamagedDocument(what=what, problem=f"{key} is not a list of strings")
    return tuple([_checked(item, key, what) for item in found])


def _keys(value: dict[str, Json], key: str, what: str) -> tuple[str, ...]:
    found = value.get(key)
    if found is None:
        return ()
    return tuple([_checked(name, key, what) for name in _object(found, key, what)])


def _labels(value: Json, what: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    return tuple(
        [
            (_checked(key, "Labels", what), _checked(text, "Labels", what))
            for key, text in _object(value, "Labels", what).items()
        ]
    )


def _number(value: dict[str, Json], key: str, what: str) -> int:
    found = value.get(key)
    if found is None:
        return 0
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise DamagedDocument(what=what, problem=f"{key} is not a number")
    return found


def _healthcheck(value: Json, what: str) -> Healthcheck | None:
    if value is None:
        return None
    value = _object(value, "Healthcheck", what)
    return Healthcheck(
        test=_texts(value, "Test", what) or (),
        interval_ns=_number(value, "Interval", what),
        timeout_ns=_number(value, "Timeout", what),
        start_period_ns=_number(value, "StartPeriod", what),
        start_interval_ns=_number(value, "StartInterval", what),
        retries=_number(value, "Retries", what),
    )


def _history(value: Json, what: str) -> History:
    value = _object(value, "history", what)
    empty = value.get("empty_layer", False)
    if not isinstance(empty, bool):
        raise DamagedDocument(what=what, problem="empty_layer is not true or false")
    return History(
        created=_text(value, "created", what),
        created_by=_text(value, "created_by", what),
        comment=_text(value, "comment", what),
        author=_text(value, "author", what),
        empty_layer=empty,
    )
