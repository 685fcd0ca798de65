"""``start``: run containers again, or attached to one."""

from __future__ import annotations

from ...errors import SandboxError, WrongStatus
from .. import output
from ..errors import FAILURE, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Start each; a container that runs already is no error."""
    if call.options.get("restart_policy"):
        if call.arguments or call.options.get("attach") or call.options.get("interactive"):
            raise Failure("--restart-policy chooses the containers itself, and attaches to none")
        return _start_all(call, [each.name for each in call.engine.due_for_restart()])
    if call.options.get("attach") or call.options.get("interactive"):
        return _attached(call)
    return _start_all(call, call.arguments)


def _start_all(call: Call, names: list[str]) -> int:
    failed = []
    for name in names:
        try:
            _start(call, name)
        except SandboxError as error:
            output.error(error.message)
            if error.hint:
                output.error(f"hint: {error.hint}")
            failed.append(name)
        else:
            output.line(name)
    if failed:
        output.error(f"Error: failed to start containers: {', '.join(failed)}")
        return FAILURE
    return 0


def _start(call: Call, name: str) -> None:
    container = call.engine.container(name)
    try:
        container.start().close()
    except WrongStatus:
        if not container.status().is_live:
            raise


def _attached(call: Call) -> int:
    if len(call.arguments) != 1:
        raise Failure("you cannot start and attach multiple containers at once")
    from ..attached import Asked, stay

    container = call.engine.container(call.arguments[0])
    tty = container.options.tty
    stdin = bool(call.options.get("interactive")) and container.options.interactive
    asked = Asked(tty=tty, stdin=stdin, detach_keys=call.options.get("detach_keys"))
    if container.status().is_live:
        return stay(
            asked,
            lambda stdio, size: container.attach(stdio, stdin=stdin, size=size if tty else None),
        )
    return stay(asked, lambda stdio, size: container.start(stdio, size=size))
