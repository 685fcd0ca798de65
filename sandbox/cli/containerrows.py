"""The lines of a plain ``ps``: what `containerview` shows of a container, for many at once.

Beside it because templates and filters cost as much as a list of a hundred containers.
"""

from __future__ import annotations

import time

from . import output, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..engine.publishing import Port
    from ..engine.status import Status
    from ..engine.summary import Summary

HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def default_rows(
    found: Iterable[Summary],
    health_of: Callable[[str], str],
    ports_of: Callable[[str], tuple[Port, ...]],
    *,
    truncated: bool,
) -> list[tuple[str, ...]]:
    """The table that is printed when no format is asked for, as `ContainerView` has its cells.

    ``health_of`` an id is asked of those that are checked, ``ports_of`` it of those
    that may publish any.
    """
    rows = [tuple(HEADINGS[name] for name in COLUMNS)]
    now_ns = time.time_ns()
    # Many containers have the same image, command and age.
    images: dict[str, str] = {}
    commands: dict[tuple[str, ...], str] = {}
    ages: dict[int, str] = {}
    for each in found:
        image = images.get(each.image)
        if image is None:
            image = images[each.image] = short_image(each.image) if truncated else each.image
        command = commands.get(each.command)
        if command is None:
            words = container_command(each.command)
            command = output.quote(output.ellipsis(words, 20) if truncated else words)
            commands[each.command] = command
        is_checked = each.is_checked and each.word == "running"
        rows.append(
            (
                each.id[:12] if truncated else each.id,
                image,
                command,
                _age(ages, now_ns, each.created_ns),
                status_text(each, health_of(each.id) if is_checked else "", now_ns, ages),
                _ports(ports_of(each.id)) if each.may_publish else "",
                each.name,
            )
        )
    return rows


def _ports(ports: tuple[Port, ...]) -> str:
    if not ports:
        return ""
    from .portview import column  # for the few that have any

    return column(ports)


def _age(ages: dict[int, str], now_ns: int, then_ns: int) -> str:
    seconds = (now_ns - then_ns) // 1_000_000_000
    text = ages.get(seconds)
    if text is None:
        text = ages[seconds] = times.ago(now_ns - seconds * 1_000_000_000, now_ns)
    return text


def container_command(words: Iterable[str]) -> str:
    """The command in one line, as docker's engine shows it."""
    first, *rest = [*words] or [""]
    return " ".join([first, *(f"'{word}'" if " " in word else word for word in rest)])


def exit_number(status: Status | Summary) -> int | None:
    """The exit code as a shell has it; None when nobody knows."""
    if status.exit_code is not None:
        return status.exit_code
    return None if status.signal is None else 128 + status.signal


def status_text(
    status: Status | Summary,
    health: str = "",
    now_ns: int | None = None,
    ages: dict[int, str] | None = None,
) -> str:
    """``Up 3 seconds``, ``Up 3 seconds (healthy)``, ``Exited (3) 32 seconds ago``, ``Created``.

    ``ages`` are texts that were made for this ``now_ns``.
    """
    word = status.word
    if word == "created":
        return "Created"
    now_ns = time.time_ns() if now_ns is None else now_ns
    ages = {} if ages is None else ages
    if word in ("running", "paused"):
        up = _age(ages, now_ns, status.started_ns).removesuffix(" ago")
        if word == "paused":
            return f"Up {up} (Paused)"
        word = "health: starting" if health == "starting" else health
        return f"Up {up} ({word})" if word else f"Up {up}"
    code = exit_number(status)
    shown = "unknown" if code is None else code
    ended = _age(ages, now_ns, status.finished_ns)
    return f"{'Exited' if word == 'exited' else 'Restarting'} ({shown}) {ended}"


def short_image(reference: str) -> str:
    """An image's name as a column has it: ids cut, digests left out."""
    if reference.startswith("sha256:"):
        return reference[7:19]
    return reference[:12] if len(reference) == 64 else reference.partition("@")[0]
