"""Make the nth system call of a kind fail in a program, or its process die there, by `strace`."""

from __future__ import annotations

import re
import subprocess
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from conftest import Store, program_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def points(
    store: Store, folder: Path, command: Iterable[str], calls: Iterable[str], *, most: int
) -> list[tuple[str, int]]:
    """Calls and which of them: at most ``most`` of each kind, spread over one run of the command.

    Calls are counted as `strace` does, for each process by itself.
    """
    wanted = tuple(calls)
    _traced(store, folder, ["-e", f"trace={','.join(wanted)}"], command)
    made: dict[str, Counter[str]] = defaultdict(Counter)
    for line in (folder / "trace").read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            made[found[2]][found[1]] += 1
    chosen = []
    for call in wanted:
        count = max(made[call].values(), default=0)
        chosen += [(call, number) for number in range(1, count + 1, max(1, -(-count // most)))]
    return chosen


def broken(
    store: Store, folder: Path, command: Iterable[str], call: str, fault: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with a fault in such a call: ``error=EIO:when=3``, ``signal=KILL:when=1``."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    return _traced(store, folder, inject, command)


def _traced(
    store: Store, folder: Path, options: list[str], command: Iterable[str]
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["strace", "-f", "-qq", "-o", str(folder / "trace"), *options, program_path(), *command],
        env=store.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
