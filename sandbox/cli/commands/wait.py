"""``wait``: until containers have ended."""

from __future__ import annotations

from .. import output
from ..foreground import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Call


def run(call: Call) -> int:
    """Print each exit code, and the report when it is asked for."""
    report = call.options.get("report", "")

    def wait(name: str) -> None:
        container = call.engine.container(name)
        record = container.wait()
        output.line(str(exit_code(record)))
        if report:
            from ...engine.inspect import report_of_container
            from ..report import as_json_line, as_text

            found = report_of_container(container)
            output.write(as_json_line(found) if report == "json" else as_text(found))

    return call.each(wait)
