"""Who we are to a registry: docker's ``config.json``, its helpers, and where a password may go.

    ~/.docker/config.json       auths, credsStore, credHelpers; shared with docker and others
    <root>/realms.json          ours: which token server a login at a registry was made with

A login belongs to one host and port, exactly as they are in the image's name.  It is
given to a token server only if `Realms.allows` it.  Helpers are programs
``docker-credential-NAME``, run without a shell.

Out of scope: the requests themselves; see ``registry``.
"""

from __future__ import annotations

import base64
import binascii
import os
import subprocess

from .. import jsontext
from ..errors import RegistryError, UsageError
from ..oci.reference import DEFAULT_DOMAIN
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..jsontext import Json

# What docker calls its own registry in config.json.
HUB_KEY = "https://index.docker.io/v1/"
MAX_CONFIG = 1 << 20
MAX_ANSWER = 1 << 16
HELPER_TIMEOUT_S = 60
# The user name with which helpers say that the secret is an identity token.
TOKEN_USER = "<token>"  # noqa: S105 - a marker
_HELPER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


class Login(Record):
    """A name and a password, or an identity token.  Neither is ever shown."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(self._pair).decode()

    @property
    def _pair(self) -> bytes:
        return f"{self.user}:{self.password}".encode("utf-8", "surrogateescape")


def config_path(environ: Mapping[str, str] | None = None) -> str:
    """Where docker's configuration is: below DOCKER_CONFIG, or in the home folder."""
    environ = os.environ if environ is None else environ
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME') or '/root'}/.docker"
    return f"{folder}/config.json"


class Keyring:
    """The logins in one ``config.json`` and in the helpers that it names."""

    def __init__(self, path: str = "") -> None:
        self.path = path or config_path()

    def find(self, domain: str) -> Login | None:
        """The login for a registry, by the exact host and port of its images' names."""
        config = self._read()
        helper = _helper(config, domain)
        if helper:
            return _asked(helper, _key(domain))
        auths = config.get("auths")
        if not isinstance(auths, dict):
            return None
        for key, entry in auths.items():
            if host_of(key) == _host(domain) and isinstance(entry, dict):
                return _login(entry, f"{self.path}: {key}")
        return None

    def store(self, domain: str, login: Login) -> str:
        """Keep a login; where it went: a helper's name, or empty for the file."""
        config = self._read()
        helper = _helper(config, domain)
        if helper:
            document: Json = {
                "ServerURL": _key(domain),
                "Username": login.user,
                "Secret": login.password,
            }
            _run(helper, "store", jsontext.encode(document))
            return helper
        if ":" in login.user:
            raise UsageError(f"a user name cannot have a colon: {login.user}")
        auths = config.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise UsageError(f"{self.path}: auths is not an object")
        for key in [key for key in auths if host_of(key) == _host(domain)]:
            del auths[key]
        auths[_key(domain)] = {"auth": login.basic.removeprefix("Basic ")}
        self._write(config)
        return ""

    def erase(self, domain: str) -> bool:
        """Forget a login; whether there was one."""
        config = self._read()
        helper = _helper(config, domain)
        if helper:
            was_there = _asked(helper, _key(domain)) is not None
            if was_there:
                _run(helper, "erase", _key(domain).encode())
            return was_there
        auths = config.get("auths")
        if not isinstance(auths, dict):
            return False
        keys = [key for key in auths if host_of(key) == _host(domain)]
        for key in keys:
            del auths[key]
        if keys:
            self._write(config)
        return bool(keys)

    def _read(self) -> dict[str, Json]:
        try:
            with open(self.path, "rb") as file:
                content = file.read(MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise UsageError(f"open {self.path}: {reason}") from error
        if not content.strip():
            return {}
        value = jsontext.decode(content, what=self.path, max_bytes=MAX_CONFIG)
        if not isinstance(value, dict):
            raise UsageError(f"{self.path}: not an object")
        return value

    def _write(self, config: dict[str, Json]) -> None:
        # Through a link, as somebody may keep the file elsewhere.
        write_private(os.path.realpath(self.path), jsontext.encode(config, indent="\t") + b"\n")


class Realms:
    """Which token server a password may be given to."""

    def __init__(self, path: str) -> None:
        self._path = path

    def allows(self, registry: str, realm: str, *, is_same_origin: bool, is_https: bool) -> bool:
        """Whether the login of ``registry`` may go to ``realm`` (both are host and port).

        It may if they are the same origin, if the login was made with that realm, or, over
        https, if the realm is a neighbour: ``auth.docker.io`` of ``registry-1.docker.io``.
        """
        if is_same_origin or self._pinned().get(registry) == realm:
            return True
        return is_https and _are_neighbours(_bare(registry), _bare(realm))

    def pin(self, registry: str, realm: str) -> None:
        """Remember that a login at ``registry`` was made with ``realm``."""
        pinned = self._pinned()
        if pinned.get(registry) == realm:
            return
        pinned[registry] = realm
        document: Json = {"version": 1, "realms": dict(sorted(pinned.items()))}
        write_private(self._path, jsontext.encode(document))

    def _pinned(self) -> dict[str, str]:
        try:
            with open(self._path, "rb") as file:
                value = jsontext.decode(file.read(MAX_CONFIG), what=self._path)
        except FileNotFoundError:
            return {}
        realms = value.get("realms") if isinstance(value, dict) else None
        if not isinstance(realms, dict):
            return {}
        return {key: realm for key, realm in realms.items() if isinstance(realm, str)}


def host_of(key: str) -> str:
    """Host and port of a key of ``auths``, which may be a whole address."""
    rest = key.partition("://")[2] or key
    return _host(rest.partition("/")[0])


def write_private(path: str, content: bytes) -> None:
    """Replace a file with one for the owner alone, on the disk when this returns."""
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    partial = f"{path}.{os.urandom(6).hex()}"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _host(text: str) -> str:
    host = text.lower().removesuffix(":443")
    return DEFAULT_DOMAIN if host in ("index.docker.io", "registry-1.docker.io") else host


def _key(domain: str) -> str:
    return HUB_KEY if domain == DEFAULT_DOMAIN else domain


def _bare(host_port: str) -> str:
    return host_port.rpartition(":")[0].strip("[]") or host_port


def _are_neighbours(registry: str, realm: str) -> bool:
    if registry == realm:
        return True
    _, _, parent = registry.partition(".")
    labels = parent.split(".")
    # "co.uk" is nobody's own, and neither are the numbers of an address.
    is_country = len(labels) == 2 and len(labels[0]) <= 3 and len(labels[1]) == 2
    is_shared = len(labels) < 2 or is_country
    if is_shared or labels[-1].isdigit():
        return False
    return realm == parent or realm.endswith(f".{parent}")


def _helper(config: dict[str, Json], domain: str) -> str:
    helpers = config.get("credHelpers")
    name: Json = None
    if isinstance(helpers, dict):
        named = (value for key, value in helpers.items() if host_of(key) == _host(domain))
        name = next(named, None)
    if name is None:
        name = config.get("credsStore")
    if not name:
        return ""
    if not isinstance(name, str) or name.strip(_HELPER):
        raise UsageError(f"not the name of a credential helper: {name!r}")
    return name


def _asked(helper: str, key: str) -> Login | None:
    value = jsontext.decode(
        _run(helper, "get", key.encode()) or b"{}", what=f"docker-credential-{helper}"
    )
    if not isinstance(value, dict):
        raise RegistryError(f"docker-credential-{helper} answered with something else")
    user, secret = value.get("Username"), value.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        return None
    if user == TOKEN_USER:
        return Login(identity_token=secret)
    return Login(user=user, password=secret)


def _run(helper: str, verb: str, said: bytes) -> bytes:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=said,
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise RegistryError(
            f"error getting credentials: {program}: {(error.strerror or '').lower()}",
            hint="config.json names it as credsStore or in credHelpers",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RegistryError(f"{program} {verb} did not answer in {HELPER_TIMEOUT_S} s") from error
    if done.returncode == 0:
        return done.stdout[:MAX_ANSWER]
    said_back = (done.stdout or done.stderr)[:200].decode(errors="replace").strip()
    if verb == "get" and "credentials not found" in said_back:
        return b""
    raise RegistryError(f"error getting credentials: {program}: {said_back}")


def _login(entry: dict[str, Json], what: str) -> Login | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Login(identity_token=token)
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = user = password = ""
        if not colon:
            raise UsageError(f"{what}: auth is not a user name and a password in base64")
        return Login(user=user, password=password.rstrip("\0"))
    name, secret = entry.get("username"), entry.get("password")
    if isinstance(name, str) and isinstance(secret, str) and name:
        return Login(user=name, password=secret)
    return None
