"""An image as ``images`` shows it: docker's fields, their headings, and the filters."""

from __future__ import annotations

from . import output, times
from .containerview import has_label
from .errors import Failure
from .template import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..engine.engine import Engine
    from ..engine.inspect import Image

HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
DIGEST_COLUMNS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
FILTERS = ("before", "dangling", "label", "reference", "since", "until")
NONE = "<none>"


class ImageView(View):
    """One row of ``images``: one name of one image."""

    type_name = "*formatter.imageContext"
    names = tuple(HEADINGS)

    def __init__(
        self, image: Image, *, repository: str, tag: str, digest: str, truncated: bool
    ) -> None:
        self.image = image
        self._values: dict[str, object] = {"Repository": repository, "Tag": tag, "Digest": digest}
        self._truncated = truncated

    def field(self, name: str) -> object:
        """Docker's field of this name."""
        image = self.image
        if name in self._values:
            return self._values[name]
        if name == "ID":
            return short_id(image.id) if self._truncated else image.id
        if name == "CreatedSince":
            return times.ago(times.parse_timestamp(image.created))
        if name == "CreatedAt":
            return times.local_time(times.parse_timestamp(image.created))
        if name == "Size":
            return output.size(image.size)
        if name == "VirtualSize":
            return output.size(image.size, digits=4)
        if name in ("Containers", "SharedSize", "UniqueSize"):
            return "N/A"
        raise KeyError(name)


def short_id(image_id: str) -> str:
    """Twelve digits, without the algorithm."""
    return image_id.rpartition(":")[2][:12]


def rows(
    images: Iterable[Image],
    *,
    patterns: Iterable[str] = (),
    truncated: bool = True,
    digests: bool = False,
) -> list[ImageView]:
    """A row for each name that fits a pattern, if there is any; one without name is ``<none>``."""
    wanted = list(patterns)
    found = []
    for image in images:
        names = [_split(name) for name in sorted(image.names)]
        by_repository = {}
        for text in image.digests:
            repository, _, digest = text.partition("@")
            by_repository[repository] = digest
        # A repository that an image was pulled from by its digest has a row without a tag.
        tagged = {repository for repository, _tag in names}
        names += [(repository, NONE) for repository in by_repository if repository not in tagged]
        if not names and not wanted:
            names = [(NONE, NONE)]
        for repository, tag in names:
            if wanted and not any(_fits(pattern, repository, tag) for pattern in wanted):
                continue
            digest = by_repository.get(repository, NONE) if digests else NONE
            found.append(
                ImageView(image, repository=repository, tag=tag, digest=digest, truncated=truncated)
            )
    return found


def select(engine: Engine, images: Iterable[Image], filters: dict[str, list[str]]) -> list[Image]:
    """The images that pass every filter."""
    found = list(images)
    for text in filters.get("label", ()):
        found = [image for image in found if has_label(dict(image.config.labels), text)]
    for text in filters.get("dangling", ()):
        wanted = claim("dangling", text)
        found = [image for image in found if (not image.names) == wanted]
    for text in filters.get("before", ()):
        created = _created(engine.image(text))
        found = [image for image in found if _created(image) < created]
    for text in filters.get("since", ()):
        created = _created(engine.image(text))
        found = [image for image in found if _created(image) > created]
    for text in filters.get("until", ()):
        try:
            moment = times.moment(text)
        except ValueError:
            raise Failure(f"invalid value for until: {text}") from None
        found = [image for image in found if _created(image) < moment]
    return found


def claim(name: str, text: str) -> bool:
    """The value of a filter that is true or false, as Go reads it."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Failure(f"invalid filter '{name}={text}'")


def _created(image: Image) -> int:
    return times.parse_timestamp(image.created)


def glob(pattern: str, text: str) -> bool:
    """Go's ``path.Match``: ``*`` and ``?`` stop at a slash, ``[a-z]`` is one of these."""
    if not pattern:
        return not text
    first = pattern[0]
    if first == "*":
        rest = pattern.lstrip("*")
        for at in range(len(text) + 1):
            if glob(rest, text[at:]):
                return True
            if text[at : at + 1] == "/":
                return False
        return False
    if not text:
        return False
    if first == "[" and "]" in pattern[2:]:
        end = pattern.index("]", 2)
        inside = pattern[1:end]
        negated = inside.startswith("^")
        if _is_in(inside.removeprefix("^"), text[0]) == negated:
            return False
        return glob(pattern[end + 1 :], text[1:])
    if first == "\\" and len(pattern) > 1:
        pattern = pattern[1:]
        first = pattern[0]
        return first == text[0] and glob(pattern[1:], text[1:])
    if first != "?" and first != text[0]:
        return False
    return not (first == "?" and text[0] == "/") and glob(pattern[1:], text[1:])


def _is_in(inside: str, character: str) -> bool:
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            if inside[at] <= character <= inside[at + 2]:
                return True
            at += 3
        else:
            if inside[at] == character:
                return True
            at += 1
    return False


def _split(name: str) -> tuple[str, str]:
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, NONE)


def _fits(pattern: str, repository: str, tag: str) -> bool:
    # With a tag in the pattern it is the whole name that is matched.
    if ":" in pattern.rpartition("/")[2]:
        return glob(pattern, f"{repository}:{tag}")
    return glob(pattern, repository)
