"""Registries as a person sees them: log in and out, and what a repository has."""

from __future__ import annotations

from ..errors import InvalidReference, UsageError
from ..image.credentials import Login
from ..image.transfer import all_tags, log_in
from ..oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine


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
