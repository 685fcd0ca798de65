"""Copy in and out of the container ``box``, over and over; whatever it does, errors are ours.

SOURCE OUT ROUNDS, in one process: a program's start for each would be most of the time.
"""

from __future__ import annotations

import sys

from sandbox.engine.engine import Engine
from sandbox.errors import SandboxError


def main(source: str, out: str, rounds: int) -> None:
    box = Engine().container("box")
    for number in range(rounds):
        for act in (
            lambda: box.copy_in(f"{source}/secret", "/a/now/secret"),
            lambda: box.copy_in(source, "/a/dir/"),
            lambda at=f"{out}/{number}-now": box.copy_out("/a/now/secret", at),
            lambda at=f"{out}/{number}-dir": box.copy_out("/a/dir/", at),
            lambda at=f"{out}/{number}-all": box.copy_out("/a/.", at),
        ):
            try:
                act()
            except (SandboxError, OSError):
                continue  # what it swapped away is not there


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
