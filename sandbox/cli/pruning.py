"""What the prune commands share: which things are wanted, and what is said of those removed."""

from __future__ import annotations

from . import output, times
from .containerview import has_label
from .errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..engine.container import Container
    from ..engine.inspect import Image
    from ..engine.networks import Network


class Wanted:
    """The filters ``label`` and ``until`` of a prune."""

    def __init__(self, filters: dict[str, list[str]]) -> None:
        self._labels = filters.get("label", [])
        try:
            self._until_ns = [times.moment(text) for text in filters.get("until", ())]
        except ValueError:
            raise Failure(f"invalid value for until: {filters['until']}") from None

    def image(self, image: Image) -> bool:
        """Whether an image passes them."""
        return self._passes(image.config.labels, times.parse_timestamp(image.created))

    def container(self, container: Container) -> bool:
        """Whether a container passes them."""
        return self._passes(container.labels, container.created_ns)

    def network(self, network: Network) -> bool:
        """Whether a network passes them."""
        return self._passes(network.labels, network.created_ns)

    def _passes(self, labels: Iterable[tuple[str, str]], created_ns: int) -> bool:
        there = dict(labels)
        return all(has_label(there, value) for value in self._labels) and all(
            created_ns < moment for moment in self._until_ns
        )


def print_deleted(kind: str, lines: Iterable[str]) -> None:
    """A heading and what was removed, if anything was."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        output.write(f"Deleted {kind}:\n{text}\n")


def image_lines(untagged: Iterable[str], deleted: Iterable[str]) -> list[str]:
    """As docker says them."""
    return [f"untagged: {each}" for each in untagged] + [f"deleted: {each}" for each in deleted]


def print_freed(freed: int) -> None:
    """The last line."""
    output.line(f"Total reclaimed space: {output.size(freed, digits=4)}")
