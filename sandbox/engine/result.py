"""What a captured run gives back."""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..monitor.exitrecord import ExitRecord, Receipt


class Enforced(Record):
    """How one limit is enforced.

    ``by`` is ``cgroup2``, ``cgroup1``, ``rlimit``, ``monitor``, ``disk`` or ``none``.
    """

    limit: str
    by: str


class ExecResult(Record):
    """Everything about one more process of a container, which is over.

    As in `RunResult`; the numbers of ``record`` are the whole container's.
    """

    container_id: str
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    signal: int | None
    verdict: str
    detail: str
    record: ExitRecord

    @property
    def ok(self) -> bool:
        """The verdict is ``ok``."""
        return self.verdict == "ok"

    @property
    def text(self) -> str:
        """``stdout`` as UTF-8, with what is not UTF-8 replaced."""
        return self.stdout.decode("utf-8", "replace")


class RunResult(Record):
    """Everything about a run that is over.

    ``stdout`` and ``stderr`` are what was printed, whole or up to the output
    limit.  ``exit_code`` is None when a signal ended the run, and when nobody
    knows (``verdict`` is then ``unknown``); ``signal`` is its number or None.
    """

    container_id: str
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    signal: int | None
    verdict: str
    detail: str
    receipt: Receipt
    enforcement: tuple[Enforced, ...]
    record: ExitRecord

    @property
    def ok(self) -> bool:
        """The verdict is ``ok``."""
        return self.verdict == "ok"

    @property
    def text(self) -> str:
        """``stdout`` as UTF-8, with what is not UTF-8 replaced."""
        return self.stdout.decode("utf-8", "replace")
