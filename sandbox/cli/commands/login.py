"""``login``: try a name and a password at a registry, and keep them."""

from __future__ import annotations

import os

from ..errors import Failure
from ..output import error, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call

MAX_PASSWORD = 1 << 16


def run(call: Call) -> int:
    """Print that it succeeded."""
    from ...engine.registries import login

    server = call.arguments[0] if call.arguments else ""
    user, password = _asked(call)
    kept_by = login(call.engine, server, user, password)
    if "/" in kept_by:
        error(
            f"\nWARNING! Your credentials are stored unencrypted in '{kept_by}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    line("Login Succeeded")
    return 0


def _asked(call: Call) -> tuple[str, str]:
    options = call.options
    user, password = options.get("username", ""), options.get("password", "")
    if options.get("password_stdin"):
        if password:
            raise Failure("--password and --password-stdin are mutually exclusive")
        if not user:
            raise Failure("Must provide --username with --password-stdin")
        password = _from_stdin()
        if not password:
            raise Failure("password is empty")
    elif password:
        error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if user and password:
        return user, password
    if not os.isatty(0):
        raise Failure("Error: Cannot perform an interactive login from a non-TTY device")
    from getpass import getpass  # loads much, and only for a person

    user = user or input("Username: ").strip()
    if not user:
        raise Failure("Error: Non-null Username Required")
    password = password or getpass("Password: ")
    if not password:
        raise Failure("Error: Password Required")
    return user, password


def _from_stdin() -> str:
    content = b""
    while piece := os.read(0, MAX_PASSWORD):
        content += piece
        if len(content) > MAX_PASSWORD:
            raise Failure(f"a password is at most {MAX_PASSWORD} bytes")
    return content.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
