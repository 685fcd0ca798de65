"""Build the monitor, the one static executable of the launch core.

Out of scope: the cffi module, which is `build.py`'s.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = os.path.dirname(os.path.abspath(__file__))

LAUNCH_SOURCES = (
    "plan.c",
    "launch.c",
    "prepare.c",
    "disk.c",
    "imagedisk.c",
    "namespaces.c",
    "network.c",
    "targets.c",
    "root.c",
    "overlay.c",
    "mounts.c",
    "masks.c",
    "nodes.c",
    "copyup.c",
    "console.c",
    "limits.c",
    "ids.c",
    "seccomp_load.c",
    "exec.c",
    "reaper.c",
)
MONITOR_SOURCES = (
    "monitor.c",
    "account.c",
    "streams.c",
    "logfile.c",
    "control.c",
    "exitstatus.c",
    "health.c",
    "events.c",
)

WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
COMPILE = ("-std=gnu11", "-O2", "-fstack-protector-strong", "-fno-plt", "-ffunction-sections")
LINK = ("-Wl,-z,relro,-z,now,-z,noexecstack", "-Wl,--gc-sections")


def build_monitor(
    out: str,
    *,
    cc: str | None = None,
    sanitize: str = "",
    extra_sources: Sequence[str] = (),
    defines: Sequence[str] = (),
    sources: Sequence[str] = LAUNCH_SOURCES + MONITOR_SOURCES,
) -> None:
    """Compile and link `sources` and `extra_sources` to `out`, replacing it atomically.

    With `sanitize` (``address,undefined``) the result is dynamic and for tests only.
    """
    static = not sanitize
    if cc is None:
        cc = (static and shutil.which("musl-gcc")) or "cc"
    paths = [os.path.join(HERE, name) for name in (*sources, *extra_sources)]
    made = f"{out}.{os.getpid()}"
    command = [cc, *COMPILE, *WARNINGS, *(f"-D{name}" for name in defines), f"-I{HERE}"]
    if static:
        command += _static_flags(cc)
    else:
        command += ["-g", f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"]
    try:
        subprocess.run([*command, *LINK, "-o", made, *paths], check=True)
        os.replace(made, out)
    finally:
        if os.path.exists(made):
            os.unlink(made)


def _static_flags(cc: str) -> list[str]:
    if not os.path.basename(cc).startswith("musl"):
        return ["-static-pie", "-fPIE", "-s", "-D_FORTIFY_SOURCE=2"]
    # musl's compiler wrapper takes -static-pie for a dynamic program: its start files are named
    # by hand.  musl has no fortified functions.
    starts = sorted(
        glob.glob("/usr/lib/*-linux-musl/rcrt1.o") + glob.glob("/usr/*musl/lib/rcrt1.o")
    )
    if not starts:
        return ["-static", "-no-pie", "-s"]
    folder = os.path.dirname(starts[0])
    return [
        *("-fPIE", "-static", "-s", "-nostartfiles"),
        "-Wl,-pie,--no-dynamic-linker,-z,text",
        *(os.path.join(folder, name) for name in ("rcrt1.o", "crti.o", "crtn.o")),
    ]


if __name__ == "__main__":
    build_monitor(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "monitor"))
