"""A container as ``stats`` shows it: docker's fields and headings."""

from __future__ import annotations

from ..errors import ContainerNotFound, WrongStatus
from . import output
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from ..engine.container import Container
    from ..engine.engine import Engine
    from ..engine.watching import Sample

    Measured: TypeAlias = tuple[str, Container, Sample | None]

HEADINGS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
UNKNOWN = "--"


class StatsView(View):
    """One row of ``stats``; what the host does not count is ``--``."""

    type_name = "*formatter.statsContext"
    names = tuple(HEADINGS)

    def __init__(
        self, asked: str, container: Container, samples: tuple[Sample, Sample] | None, *, cut: int
    ) -> None:
        self._asked = asked
        self._container = container
        self._samples = samples
        self._cut = cut

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        if name == "Container":
            return self._asked
        if name == "ID":
            return self._container.id[: self._cut]
        if name == "Name":
            return self._container.name
        if name not in HEADINGS:
            raise KeyError(name)
        if self._samples is None:
            return _AT_REST[name]
        return _shown(name, *self._samples)


_AT_REST = {
    "CPUPerc": "0.00%",
    "MemUsage": "0B / 0B",
    "MemPerc": "0.00%",
    "NetIO": "0B / 0B",
    "BlockIO": "0B / 0B",
    "PIDs": "0",
}


def _shown(name: str, before: Sample, now: Sample) -> str:
    if name == "CPUPerc":
        return _percent(now.cpu_percent(before))
    if name == "MemUsage":
        return f"{_binary(now.memory_bytes)} / {_binary(now.memory_limit_bytes)}"
    if name == "MemPerc":
        used, limit = now.memory_bytes, now.memory_limit_bytes
        return _percent(None if used is None or not limit else 100 * used / limit)
    if name == "NetIO":
        return f"{output.size(now.received_bytes)} / {output.size(now.sent_bytes)}"
    if name == "BlockIO":
        return f"{_decimal(now.read_bytes)} / {_decimal(now.written_bytes)}"
    return UNKNOWN if now.pids is None else str(now.pids)


def _percent(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:.2f}%"


def _binary(count: int | None) -> str:
    return UNKNOWN if count is None else output.binary_size(count)


def _decimal(count: int | None) -> str:
    return UNKNOWN if count is None else output.size(count)


def measure(
    engine: Engine, named: list[tuple[str, Container]], *, with_resting: bool
) -> list[Measured]:
    """A sample of each container that was asked for, or of all; None of one at rest."""
    if not named:
        named = [(each.id[:12], each) for each in engine.containers(all=with_resting)]
    return [(asked, container, _sample(container)) for asked, container in named]


def _sample(container: Container) -> Sample | None:
    try:
        return container.stats()
    except (WrongStatus, ContainerNotFound):
        return None


def compare(before: Iterable[Measured], now: Iterable[Measured], *, cut: int) -> list[StatsView]:
    """A row for each that is there now."""
    earlier = {container.id: sample for _, container, sample in before}
    made = []
    for asked, container, sample in now:
        pair = None if sample is None else (earlier.get(container.id) or sample, sample)
        made.append(StatsView(asked, container, pair, cut=cut))
    return made
