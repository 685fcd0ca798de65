"""The sources pass their own checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import requires

ROOT = Path(__file__).parents[2]


@requires.program("clang-format")
@requires.program("shellcheck")
def test_scripts_check_passes() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "check")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
