"""Registries as a person sees them: log in and out, what a repository has, and searches."""

from __future__ import annotations

from .. import jsontext
from ..errors import InvalidReference, RegistryError, UsageError
from ..image.credentials import Login
from ..image.transfer import all_tags, log_in
from ..oci import reference
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..jsontext import Json
    from .engine import Engine

SEARCH_LIMITS = range(1, 101)


class Match(Record):
    """A repository that a search has found; ``name`` is what `pull` takes."""

    name: str
    description: str = ""
    stars: int = 0
    is_official: bool = False
    is_automated: bool = False


def login(engine: Engine, server: str, user: str, password: str) -> str:
    """Try a login and keep it; what keeps it: a helper's name, or a file's path."""
    remote = engine.remote
    helper = log_in(remote, domain_of(server), Login(user=user, password=password))
    return helper or remote.keyring.path


def logout(engine: Engine, server: str) -> bool:
    """Forget a login; whether there was one."""
    return engine.remote.keyring.erase(domain_of(server))


def tags(engine: Engine, name: str) -> tuple[str, ...]:
    """Every name that a repository has at its registry."""
    parsed = reference.parse(name)
    return tuple(found.familiar for found in all_tags(engine.remote, parsed))


def search(engine: Engine, term: str, *, limit: int = 25) -> tuple[Match, ...]:
    """Repositories at a registry, ``[HOST[:PORT]/]TERM``, the ones with most stars first.

    Asks docker's search, which few registries have, and then the list of all repositories
    for those that have the term in their names.
    """
    if limit not in SEARCH_LIMITS:
        raise UsageError(f"Limit {limit} is outside the range of [1, 100]")
    host, slash, rest = term.partition("/")
    is_host = bool(slash) and ("." in host or ":" in host or host == "localhost")
    domain, words = (domain_of(host), rest) if is_host else (reference.DEFAULT_DOMAIN, term)
    if "://" in term or not words.strip():
        raise UsageError(f"not something to search for: {term!r}")
    with engine.remote.registry(domain, "") as registry:
        content = registry.search(words, limit)
        if content:
            found = _matches(content, domain)
        else:
            try:
                names = registry.catalog()
            except RegistryError as error:
                if error.status not in (401, 403, 404, 405):
                    raise
                raise RegistryError(
                    f"{domain} offers no search and no list of its repositories",
                    status=error.status,
                    hint=error.hint,
                ) from error
            found = [Match(name=f"{domain}/{name}") for name in names if words in name]
    found.sort(key=lambda each: (-each.stars, each.name))
    return tuple(found[:limit])


def _matches(content: bytes, domain: str) -> list[Match]:
    value = jsontext.decode(content, what=f"search at {domain}")
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, list):
        raise RegistryError(f"{domain} answered a search with something else")
    return [
        _match(each, domain)
        for each in results
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    ]


def _match(value: dict[str, Json], domain: str) -> Match:
    name, text, stars = value.get("name"), value.get("description"), value.get("star_count")
    shown = str(name)
    if domain != reference.DEFAULT_DOMAIN and not shown.startswith(f"{domain}/"):
        shown = f"{domain}/{shown}"
    return Match(
        name=_printable(shown),
        description=_printable(text) if isinstance(text, str) else "",
        stars=stars if isinstance(stars, int) else 0,
        is_official=value.get("is_official") is True,
        is_automated=value.get("is_automated") is True,
    )


def _printable(text: str) -> str:
    # Others wrote it: one line, and nothing that moves a cursor.
    return "".join(x if x.isprintable() else " " for x in text)


def domain_of(server: str) -> str:
    """The registry that a person means: an address is cut down to its host and port."""
    host = (server.partition("://")[2] or server).partition("/")[0]
    if host in ("", "index.docker.io", "registry-1.docker.io"):
        return reference.DEFAULT_DOMAIN
    try:
        # A host without a dot or a port is one all the same, where a host is expected.
        parsed = reference.parse(f"{host if ':' in host else f'{host}:443'}/x")
    except InvalidReference:
        raise UsageError(f"not the host of a registry: {server}") from None
    return host if parsed.domain.removesuffix(":443") == host else parsed.domain
