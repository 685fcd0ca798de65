"""The messages between a command and a monitor; ``sandbox/native/control.h`` says what they mean.

One packet a message (SOCK_SEQPACKET), text, at most `MAX_REQUEST` bytes to the
monitor and `MAX_MESSAGE` from it.  A monitor may be older or newer than the
command that speaks to it: words that are not known are refused there and
ignored here.
"""

from __future__ import annotations

from ..record import Record

MAX_REQUEST = 4096
MAX_MESSAGE = 16384

# What comes unasked: the launcher hears one of the first two, everybody the last.
STARTED = "started"
FAILED = "failed"
EXITED = "exited"
# What comes back.
OK = "ok"
ERROR = "error"

ATTACH_STDIN = 1
ATTACH_LOSSY = 2

KILL = b"kill\n"
WAIT = b"wait\n"
STATUS = b"status\n"
CLOSE_STDIN = b"close_stdin\n"


class Message(Record):
    """``word`` is the first word of the first line, ``line`` the rest of it."""

    word: str
    line: str = ""
    body: bytes = b""


def parse(data: bytes) -> Message:
    """One packet of the monitor."""
    first, _, body = data.partition(b"\n")
    word, _, line = first.decode("utf-8", "replace").partition(" ")
    return Message(word=word, line=line, body=body)


def signal(number: int, *, stop: bool = False) -> bytes:
    """A signal to init; ``stop`` says that it is meant to end the container."""
    return b"signal %d%s\n" % (number, b" stop" if stop else b"")


def resize(rows: int, columns: int) -> bytes:
    """The terminal's new size."""
    return b"resize %d %d\n" % (rows, columns)


def restart(policy: str, most: int) -> bytes:
    """Another restart policy, for the end of the present run; ``most`` 0 is no bound."""
    from ..native.plan import RESTART_POLICIES  # the only word that needs it

    return b"restart %d %d\n" % (RESTART_POLICIES.index(policy), most)


# To be sent with a descriptor of a plan that is nothing but endpoints and "network".
ENDPOINTS = b"endpoints\n"


def attach(flags: int) -> bytes:
    """To be sent with three descriptors."""
    return b"attach %d\n" % flags


def facts(body: bytes) -> dict[str, str]:
    """Lines of "key value", as in the started file and the answer to ``status``."""
    lines = body.decode("ascii", "replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


class Started(Record):
    """The program has been executed.

    A process is (pid, start_time, boot_id): a number alone may be another's by now.
    """

    pid: int
    start_time: int
    boot_id: str
    monitor: int
    started_ns: int
    restarts: int = 0


def parse_started(body: bytes) -> Started | None:
    """The started file or message; None when it is not one."""
    found = facts(body)
    try:
        return Started(
            pid=int(found["pid"]),
            start_time=int(found["start_time"]),
            boot_id=found["boot_id"],
            monitor=int(found["monitor"]),
            started_ns=int(found["started_ns"]),
            restarts=int(found.get("restarts", "0")),
        )
    except (KeyError, ValueError):
        return None
