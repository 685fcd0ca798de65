"""``search``: find repositories at a registry."""

from __future__ import annotations

from .. import listing, output
from ..containerview import parse_filters
from ..errors import Failure
from ..imageview import claim
from ..template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.registries import Match
    from ..main import Call

HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
FILTERS = ("is-automated", "is-official", "stars")
WIDEST = 45


def run(call: Call) -> int:
    """Print a line for each repository, the ones with most stars first."""
    from ...engine.registries import search

    options = call.options
    wanted = Wanted(parse_filters(options.get("filter", ()), FILTERS))
    found = search(call.engine, call.arguments[0], limit=options.get("limit", 25))
    truncated = not options.get("no_trunc")
    views = [MatchView(match, truncated=truncated) for match in found if wanted.passes(match)]
    output.write(listing.shown(views, options.get("format", "table"), COLUMNS, HEADINGS))
    return 0


class Wanted:
    """The filters of a search."""

    def __init__(self, filters: dict[str, list[str]]) -> None:
        self._stars = max([_number(text) for text in filters.get("stars", ())], default=0)
        self._official = [claim("is-official", x) for x in filters.get("is-official", ())]
        self._automated = [claim("is-automated", x) for x in filters.get("is-automated", ())]

    def passes(self, match: Match) -> bool:
        """Whether a repository passes them."""
        return (
            match.stars >= self._stars
            and all(match.is_official == x for x in self._official)
            and all(match.is_automated == x for x in self._automated)
        )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Failure(f"invalid filter 'stars={text}'")
    return int(text)


class MatchView(View):
    """One line."""

    type_name = "*formatter.searchContext"
    names = tuple(HEADINGS)

    def __init__(self, match: Match, *, truncated: bool) -> None:
        self._match = match
        self._truncated = truncated

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        match = self._match
        if name == "Name":
            return match.name
        if name == "Description":
            text = match.description
            if self._truncated and len(text) > WIDEST:
                return text[: WIDEST - 1] + output.ELLIPSIS
            return text
        if name == "StarCount":
            return str(match.stars)
        if name == "IsOfficial":
            return "[OK]" if match.is_official else ""
        if name == "IsAutomated":
            return "[OK]" if match.is_automated else ""
        raise KeyError(name)
