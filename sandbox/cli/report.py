"""Verdict and receipt: ``run --report``, ``run --report-file``, ``wait --report``."""

from __future__ import annotations

from . import output
from .errors import Failure
from .outputfile import whole_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.container import Attachment
    from ..engine.inspect import ExitRecord, Report


def print_report(attachment: Attachment, record: ExitRecord, *, as_json: bool) -> None:
    """Print the report of a run to stderr."""
    from ..engine.inspect import report_of_run

    report = report_of_run(attachment, record)
    output.write(as_json_line(report) if as_json else as_text(report), fd=2)


def write_report(path: str, attachment: Attachment, record: ExitRecord) -> None:
    """Write the report of a run to a file, in one piece."""
    from ..engine.inspect import report_of_run

    text = output.json(report_of_run(attachment, record).document(), indent="    ") + "\n"
    try:
        with whole_file(path, mode=0o666) as fd:
            output.write(text, fd=fd)
    except OSError as error:
        said = (error.strerror or "").lower()
        raise Failure(f"open {path}: {said}", code=125) from error


def as_json_line(report: Report) -> str:
    """The report as one line of JSON."""
    return output.json(report.document()) + "\n"


def as_text(report: Report) -> str:
    """The report as lines for people: the verdict, then the receipt, then the limits."""
    lines = [f"verdict: {report.verdict}{f' ({report.detail})' if report.detail else ''}"]
    if report.exit_code is not None:
        lines.append(f"exit_code: {report.exit_code}")
    if report.signal is not None:
        lines.append(f"signal: {report.signal}")
    lines += report.receipt.as_text().splitlines()
    limits = ", ".join(f"{each.limit} by {each.by}" for each in report.enforcement)
    lines.append(f"limits: {limits or 'none asked for'}")
    return "\n".join(lines) + "\n"
