"""``stats``: what containers use, once or again and again."""

from __future__ import annotations

import os
import time

from .. import listing, output, statsview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call

_BETWEEN_S = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[2J"


def run(call: Call) -> int:
    """Print a table each second until it is interrupted; with ``--no-stream`` one."""
    options = call.options
    text = options.get("format", "table")
    if text != "table":
        listing.parse_format(text)
    named = [(name, call.engine.container(name)) for name in call.arguments]
    clear = _HOME_AND_CLEAR if listing.is_table(text) and os.isatty(1) else ""
    with_resting = bool(options.get("all"))
    before = statsview.measure(call.engine, named, with_resting=with_resting)
    while True:
        time.sleep(_BETWEEN_S)
        now = statsview.measure(call.engine, named, with_resting=with_resting)
        views = statsview.compare(before, now, cut=64 if options.get("no_trunc") else 12)
        shown = listing.shown(views, text, statsview.COLUMNS, statsview.HEADINGS)
        output.write(clear + shown)
        if options.get("no_stream"):
            return 0
        before = now
