"""A writable layer of bounded size: a sparse file with a file system in it.

ext4 through a loop device works on any kernel and any file system below, where
quotas need a mount option that few hosts have.  The mount is the monitor's;
here the file is only made.
"""

from __future__ import annotations

import os

from ..errors import HostLacks, UsageError

MINIMUM = 1 << 20

# "encrypt" encrypts nothing, but keeps ext4 from writing through large folios: a write into one is
# refused whole although half of it would fit, and a disk that refused a write would not look full.
FEATURES = "^has_journal,encrypt"


def make(path: str, size: int) -> None:
    """Make the image of ``size`` bytes.  `HostLacks` without mkfs.ext4."""
    if size < MINIMUM:
        raise UsageError(f"storage size {size} is below the minimum of {MINIMUM} bytes")
    # Only runs that ask for a disk pay for these imports.
    import shutil
    import subprocess

    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise HostLacks(
            "mkfs.ext4 is not here, and a writable layer of bounded size needs it",
            hint="apt-get install e2fsprogs",
        )
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)
    # No journal and no reserve: the layer's life is the container's, and root is its only user.
    done = subprocess.run(
        [program, "-q", "-F", "-m", "0", "-O", FEATURES, "-E", "nodiscard", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        os.unlink(path)
        raise HostLacks(f"mkfs.ext4 failed: {done.stderr.decode(errors='replace').strip()}")
