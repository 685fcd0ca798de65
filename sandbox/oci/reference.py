"""Image references: ``[HOST[:PORT]/][USER/]NAME[:TAG][@DIGEST]``, read as docker reads them.

A short name is completed (``busybox`` is ``docker.io/library/busybox:latest``)
and can be shown short again (`Reference.familiar`).  Written without ``re``,
since ``run`` comes through here.

Out of scope: whether the image exists, and ids; the store knows those.
"""

from __future__ import annotations

from ..errors import InvalidReference
from ..record import Record
from . import digest as digests

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
_ALNUM = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SEPARATORS = "._-"


class Reference(Record):
    """A complete reference; ``tag`` and ``digest`` may be empty, but not both."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Host and path: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as docker shows it: ``busybox``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix("library/")
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The reference as docker shows it: ``busybox:latest``."""
        return self.familiar_repository + self._suffix

    @property
    def canonical(self) -> str:
        """The whole of it: ``docker.io/library/busybox:latest``."""
        return self.repository + self._suffix

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse(text: str) -> Reference:
    """Read a reference to an existing image; the tag is ``latest`` if none and no digest is given.

    Raises `InvalidReference` with docker's words.
    """
    return _parse(text, shows_repository=False)


def parse_name(text: str) -> Reference:
    """Read a name that is to be given to an image, which has no digest.

    Docker words the upper-case error differently here, with the repository in it.
    """
    reference = _parse(text, shows_repository=True)
    if reference.digest:
        raise InvalidReference(text, "refusing to create a tag with a digest reference")
    return reference


def _parse(text: str, *, shows_repository: bool) -> Reference:
    if digests.is_hex(text):
        problem = f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        raise InvalidReference(text, problem)
    rest, at, digest = text.partition("@")
    if at and not digests.is_digest(digest):
        raise InvalidReference(text)
    domain, rest = _split_domain(rest)
    path, colon, tag = rest.partition(":")
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    if path != path.lower():
        shown = f" ({path})" if shows_repository else ""
        raise InvalidReference(text, f"repository name{shown} must be lowercase")
    if not (_is_domain(domain) and all(map(_is_component, path.split("/")))):
        raise InvalidReference(text)
    if colon and not _is_tag(tag):
        raise InvalidReference(text)
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise InvalidReference(text, f"repository name must not be more than {MAX_NAME} characters")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(domain=domain, path=path, tag=tag, digest=digest)


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_DOMAIN, text
    return (DEFAULT_DOMAIN if first == "index.docker.io" else first), rest


def _is_domain(text: str) -> bool:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not host or host.strip("0123456789abcdefABCDEF:"):
            return False
        port = rest[1:] if rest.startswith(":") else ""
        return not rest or (port.isascii() and port.isdigit())
    host, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        return False
    return all(map(_is_host_label, host.split(".")))


def _is_host_label(label: str) -> bool:
    return bool(label) and label[0] != "-" and label[-1] != "-" and _only(label, _ALNUM + "-")


def _is_component(part: str) -> bool:
    # Letters and digits, joined by one dot, one or two underscores, or dashes.
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER:
        return False
    separator = ""
    for character in part:
        if character in _SEPARATORS:
            separator += character
        elif character not in _LOWER:
            return False
        elif separator:
            if separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
    return True


def _is_tag(tag: str) -> bool:
    return 0 < len(tag) <= MAX_TAG and tag[0] not in ".-" and _only(tag, _ALNUM + "_.-")


def _only(text: str, allowed: str) -> bool:
    return all(character in allowed for character in text)
