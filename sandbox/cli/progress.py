"""One line on a terminal that says how far a load is; nothing where there is no terminal."""

from __future__ import annotations

import os
import time

from . import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_INTERVAL_S = 0.1


class Progress:
    """Call it with what, done and total; the line is gone when the scope is left."""

    def __init__(self, *, quiet: bool = False, unit: str = "layers") -> None:
        self._unit = unit
        self._is_shown = not quiet and os.isatty(2)
        self._parts: dict[str, tuple[int, int]] = {}
        self._next = 0.0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._width:
            output.write("\r" + " " * self._width + "\r", fd=2)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note one part's progress, and draw at most ten times a second."""
        self._parts[what] = (done, total)
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + _INTERVAL_S
            self._draw()

    def _draw(self) -> None:
        done = sum(part[0] for part in self._parts.values())
        total = sum(part[1] for part in self._parts.values())
        text = f"{len(self._parts)} {self._unit}: {output.size(done)} of {output.size(total)}"
        self._width = max(self._width, len(text))
        output.write("\r" + text.ljust(self._width), fd=2)
