"""A container as ``ps`` shows it: docker's fields, their headings, and the filters."""

from __future__ import annotations

from ..errors import ContainerNotFound, ImageNotFound, SandboxError
from . import output, portview, times
from .containerrows import (
    HEADINGS,
    container_command,
    exit_number,
    short_image,
    status_text,
)
from .errors import Failure, FlagError
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..engine.container import Container
    from ..engine.engine import Engine
    from ..engine.status import Status

STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
FILTERS = (
    "ancestor before exited expose health id is-task isolation label name network publish since "
    "status volume"
).split()
_HEALTHS = ("starting", "healthy", "unhealthy", "none")


class ContainerView(View):
    """One row of ``ps``."""

    type_name = "*formatter.ContainerContext"
    names = tuple(HEADINGS)

    def __init__(self, container: Container, *, truncated: bool, with_size: bool) -> None:
        self._container = container
        self._truncated = truncated
        self._with_size = with_size
        self._status: Status | None = None

    @property
    def status(self) -> Status:
        """The status, asked for once, so that a row does not contradict itself."""
        if self._status is None:
            self._status = self._container.status()
        return self._status

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        container = self._container
        if name == "ID":
            return container.id[:12] if self._truncated else container.id
        if name == "Image":
            return short_image(container.image) if self._truncated else container.image
        if name == "Command":
            return output.quote(self._command())
        if name == "CreatedAt":
            return times.local_time(container.created_ns)
        if name == "RunningFor":
            return times.ago(container.created_ns)
        if name == "State":
            return self.status.word
        if name == "Status":
            return status_text(self.status, self._health())
        if name == "Size":
            return self._size()
        if name == "Names":
            return container.name
        if name == "Label":
            return lambda label: dict(container.labels).get(label, "")
        if name == "Labels":
            return ",".join(
                f"{key}={value}" for key, value in sorted(dict(container.labels).items())
            )
        if name == "Ports":
            return portview.column(container.ports())
        if name == "Platform":
            return None
        if name == "Networks":
            return ",".join(container.networks)
        return self._about_mounts(name)

    def _health(self) -> str:
        if self.status.word != "running" or not self.status.is_checked:
            return ""
        health = self._container.health()
        return "" if health is None else health.status

    def _command(self) -> str:
        words = container_command(self._container.command)
        return output.ellipsis(words, 20) if self._truncated else words

    def _size(self) -> str:
        if not self._with_size:
            return "0B"
        written, whole = self._container.size()
        text = output.size(written)
        return f"{text} (virtual {output.size(whole)})" if whole else text

    def _about_mounts(self, name: str) -> str:
        volumes = self._container.options.volume
        if name == "LocalVolumes":
            return str(sum(mount.kind == "volume" for mount in volumes))
        if name == "Mounts":
            sources = [mount.source or mount.target for mount in volumes]
            return ",".join(
                output.ellipsis(text, 15) if self._truncated else text for text in sources
            )
        raise KeyError(name)


def parse_filters(texts: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """``name=value`` each; refuses what is no filter."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise FlagError(
                f'invalid argument "{text}" for "-f, --filter" flag: '
                "invalid argument: bad format of filter (expected name=value)"
            )
        found.setdefault(name.strip().lower(), []).append(value.strip())
    for name in found:
        if name not in known:
            raise Failure(f"Invalid filter '{name}'")
    return found


def select(
    engine: Engine, found: Iterable[Container], filters: dict[str, list[str]]
) -> list[Container]:
    """The containers that pass every filter; they come newest first."""
    for name, allowed in (("status", STATES), ("health", _HEALTHS)):
        for value in filters.get(name, ()):
            if value not in allowed:
                raise Failure(f"Invalid filter '{name}={value}'")
    for name in ("publish", "expose"):
        for value in filters.get(name, ()):
            try:
                portview.parse_filter(value)
            except ValueError:
                raise Failure(f"Invalid filter '{name}={value}'") from None
    for value in filters.get("exited", ()):
        if not value.removeprefix("-").isdigit():
            raise Failure(f"Invalid filter 'exited={value}'")
    selection = _Selection(engine, filters)
    return [container for container in found if selection.has(container)]


class _Selection:
    def __init__(self, engine: Engine, filters: dict[str, list[str]]) -> None:
        self._filters = filters
        self._engine = engine
        found = {text: _image_id(engine, text) for text in filters.get("ancestor", ())}
        self._ancestors = [image_id for image_id in found.values() if image_id]
        # A name may stay with its containers when the image has lost it.
        self._lost = [text for text, image_id in found.items() if not image_id]
        self._descends: dict[str, bool] = {}
        self._before = _times(engine, filters.get("before", ()))
        self._since = _times(engine, filters.get("since", ()))

    def has(self, container: Container) -> bool:
        """Whether it passes all."""
        if self._before and container.created_ns >= min(self._before):
            return False
        if self._since and container.created_ns <= max(self._since):
            return False
        return all(
            name in ("before", "since") or self._passes(name, values, container)
            for name, values in self._filters.items()
        )

    def _passes(self, name: str, values: list[str], container: Container) -> bool:
        if name == "label":
            return all(has_label(dict(container.labels), value) for value in values)
        if name == "name":
            return any(matches(value.removeprefix("/"), container.name) for value in values)
        if name == "id":
            return any(matches(value, container.id) for value in values)
        if name == "status":
            return container.status().word in values
        if name == "exited":
            status = container.status()
            return status.word == "exited" and str(exit_number(status)) in values
        if name == "ancestor":
            return container.image in self._lost or self._has_ancestor(container.image_id)
        if name == "volume":
            mounts = container.options.volume
            return any(
                value in (mount.source, mount.target) for mount in mounts for value in values
            )
        if name == "network":
            return not set(container.networks).isdisjoint(values)
        if name == "health":
            health = container.health()
            return ("none" if health is None else health.status) in values
        if name in ("publish", "expose"):
            ports = container.ports()
            ends = {(p.host_port if name == "publish" else p.port, p.protocol) for p in ports}
            return any(ends & portview.parse_filter(value) for value in values)
        # Of what is not here (swarm, Windows) no container has any.
        return name == "is-task" and "false" in [value.lower() for value in values]

    def _has_ancestor(self, image_id: str) -> bool:
        if not image_id or image_id in self._ancestors:
            return bool(image_id)
        found = self._descends.get(image_id)
        if found is None:
            from ..engine.images import is_built_upon

            found = any(is_built_upon(self._engine, image_id, each) for each in self._ancestors)
            self._descends[image_id] = found
        return found


def has_label(labels: dict[str, str], wanted: str) -> bool:
    """``key`` or ``key=value``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def matches(pattern: str, text: str) -> bool:
    """Docker's name filter: the pattern is found somewhere in the text."""
    # A regular expression with docker; `re` costs as much as the interpreter's start.
    if not set(pattern) & set(".^$*+?{}[]\\|()"):
        return pattern in text
    import re

    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text


def _image_id(engine: Engine, text: str) -> str:
    try:
        return engine.image(text).id
    except (ImageNotFound, SandboxError):
        return ""


def _times(engine: Engine, texts: Iterable[str]) -> list[int]:
    times = []
    for text in texts:
        try:
            times.append(engine.container(text).created_ns)
        except ContainerNotFound as error:
            raise Failure(error.message) from None
    return times
