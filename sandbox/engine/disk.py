"""A writable layer of bounded size: a sparse file with a file system in it.

ext4 through a loop device works on any kernel and any file system below, where
quotas need a mount option that few hosts have.  The container's mount is its
monitor's; here the file is made, and mounted for whoever looks at the layer.
"""

from __future__ import annotations

import os

from ..errors import ContainerNotFound, HostLacks, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .container import Container

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


def path_of(container: Container) -> str:
    """Where a container's image is."""
    return f"{container.folder}/disk.img"


def mount(container: Container) -> int:
    """Mount it for a look; a descriptor of its root, where ``upper`` and ``work`` are.

    By the one who holds the container's lock, and until the descriptor is closed: a running
    container's file system is the same one, and nobody is to mount it a second time.  The mount
    is attached nowhere.
    """
    # Only looks at such a layer pay for these.
    from ..native import mount_disk
    from ..runtime.launch import Disk

    disk = Disk(path=path_of(container))
    try:
        fd = mount_disk(
            disk.path,
            fstype=disk.fstype,
            options=disk.options,
            is_in_use=container.status().is_live,
        )
    except FileNotFoundError:
        if not os.path.isdir(container.folder):
            raise ContainerNotFound(container.name) from None
        raise
    except OSError as error:
        raise HostLacks(
            f"cannot mount the disk of container {container.id}: {error.strerror}"
        ) from error
    try:
        # As the first start makes them.
        for name, mode in (("upper", 0o755), ("work", 0o700)):
            try:
                os.mkdir(name, mode, dir_fd=fd)
            except FileExistsError:
                continue
    except BaseException:
        os.close(fd)
        raise
    return fd
