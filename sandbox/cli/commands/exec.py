"""``exec``: one more process in a running container, attached or not."""

from __future__ import annotations

from ...errors import LaunchFailed, UsageError
from .. import runoptions
from ..errors import NOT_EXECUTABLE, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine.container import Attachment
    from ..main import Call


def run(call: Call) -> int:
    """Stay until the end; the exit code is the program's."""
    options = call.options
    keywords = {
        name: value for name, value in options.items() if name not in ("detach", "env_file")
    }
    if "env_file" in options:
        lines = [line for path in options["env_file"] for line in runoptions.read_env_file(path)]
        keywords["env"] = [*lines, *keywords.get("env", ())]
    name, *command = call.arguments
    container = call.engine.container(name)

    def start(
        stdio: tuple[int, int, int] | None, size: tuple[int, int], *, with_launcher: bool = True
    ) -> Attachment:
        try:
            return container.exec_start(
                command, stdio, size=size, with_launcher=with_launcher, **keywords
            )
        except (LaunchFailed, UsageError) as error:
            if hasattr(error, "option"):
                raise  # a flag's value
            # docker has one exit code for all that keeps the program from being executed.
            raise Failure(error.message, code=NOT_EXECUTABLE, hint=error.hint) from None

    if options.get("detach"):
        start(None, (24, 80), with_launcher=False).close()
        return 0
    from ..attached import Asked, stay

    asked = Asked(
        tty=bool(options.get("tty")), stdin=bool(options.get("interactive")), detach_keys=""
    )
    return stay(asked, start)
