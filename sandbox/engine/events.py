"""What has happened in a store, and what happens: docker's events and their filters."""

from __future__ import annotations

import time

from ..errors import SandboxError, UsageError
from ..state import eventlog, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..image.store import Image
    from ..paths import Paths
    from .engine import Engine

Event = eventlog.Event

FILTERS = (
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
)
SCOPE = "local"
# Events whose name goes on after a colon; asked for without one, any will do.
_WITH_DETAIL = ("health_status", "exec_create", "exec_start")


def read(
    paths: Paths,
    *,
    since_ns: int | None,
    until_ns: int | None,
    filters: Mapping[str, Iterable[str]],
    follow: bool,
) -> Iterator[Event]:
    """The events of a time that pass every filter; see `Engine.events`."""
    wanted = {name: tuple(values) for name, values in filters.items()}
    unknown = wanted.keys() - set(FILTERS)
    if unknown:
        raise UsageError(f"Invalid filter '{min(unknown)}'")
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise UsageError(
            f"`since` time ({_seconds(since_ns)}) cannot be after `until` time "
            f"({_seconds(until_ns)})"
        )
    if follow and since_ns is None and until_ns is None:
        since_ns = time.time_ns()
    found = eventlog.read(paths, since_ns=since_ns, until_ns=until_ns, follow=follow)
    return (event for event in found if passes(event, wanted)) if wanted else found


def passes(event: Event, filters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an event passes all filters; of one filter's values any is enough, but of labels."""
    return all(_matches(event, name, values) for name, values in filters.items() if values)


def _matches(event: Event, name: str, values: tuple[str, ...]) -> bool:
    if name == "event":
        if set(values) & set(_WITH_DETAIL):
            return any(event.action.startswith(value) for value in values)
        return event.action in values
    if name == "type":
        return event.type in values
    if name == "scope":
        return SCOPE in values
    if name == "label":
        attributes = dict(event.attributes)
        return all(_has(attributes, value) for value in values)
    if name == "image":
        shown = event.attribute("image" if event.type == "container" else "name")
        texts = {event.id, shown, _without_tag(event.id), _without_tag(shown)}
        return not texts.isdisjoint(values)
    # What is left is a type: its objects, by the start of their ids or names.
    return event.type == name and any(
        event.id.startswith(value) or event.attribute("name").startswith(value) for value in values
    )


def _has(attributes: dict[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in attributes and (not equals or attributes[key] == value)


def _without_tag(text: str) -> str:
    from ..oci import reference

    try:
        return reference.parse(text).familiar_repository
    except SandboxError:
        return text


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 1_000_000_000}.{time_ns % 1_000_000_000:09d}"


def log_image(engine: Engine, action: str, image_id: str) -> None:
    """Append an event of an image that is in the store."""
    _log(engine, action, image_id, image_id, _find(engine, image_id))


def log_name(engine: Engine, action: str, name: str, image_id: str = "") -> None:
    """Append an event of an image's name: given to an image, or brought from or to a registry."""
    from ..oci import reference

    parsed = reference.parse(name)
    image = _find(engine, image_id or name)
    if image_id:
        _log(engine, action, image_id, parsed.familiar, image)
    else:
        _log(engine, action, parsed.familiar, parsed.familiar_repository, image)


def log_removal(engine: Engine, image: Image, untagged: Iterable[str], deleted: str | None) -> None:
    """Append what became of an image and its names."""
    for _name in untagged:
        _log(engine, "untag", image.id, image.id, image)
    if deleted:
        _log(engine, "delete", image.id, image.id, image)


def _find(engine: Engine, name: str) -> Image | None:
    try:
        return engine.store.resolve(name)
    except SandboxError:
        return None


def _log(engine: Engine, action: str, object_id: str, name: str, image: Image | None) -> None:
    labels = image.config.labels if image is not None else ()
    events.append(engine.paths, "image", action, object_id, (), (("name", name), *labels))
