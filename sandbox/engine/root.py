"""What becomes a container's root: an image's layers, a plain folder, or this machine itself."""

from __future__ import annotations

import os

from ..errors import UsageError, WrongPlatform
from ..oci.imageconfig import ImageConfig
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..state.containers import ContainerRecord
    from .engine import Engine
    from .options import RunOptions

HOST = "host"

# Names of this machine as `uname` and as image configs spell them.
_ARCHITECTURES = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
}


class Root(Record):
    """``lowers`` are folders of the host, top first; ``image_id`` is empty without an image."""

    lowers: tuple[str, ...]
    config: ImageConfig
    image_id: str = ""
    is_host: bool = False

    @classmethod
    def of_options(cls, engine: Engine, options: RunOptions) -> Root:
        """Find what was asked for.  Raises `ImageNotFound`, `UsageError`, `WrongPlatform`."""
        if options.rootfs:
            folder = os.path.abspath(options.image)
            if not os.path.isdir(folder):
                raise UsageError(f"rootfs {folder}: no such directory")
            return cls(lowers=(folder,), config=ImageConfig())
        if options.image == HOST:
            return cls(lowers=("/",), config=ImageConfig(cmd=("/bin/sh",)), is_host=True)
        return cls.of_image(engine, options.image)

    @classmethod
    def of_record(cls, engine: Engine, record: ContainerRecord, options: RunOptions) -> Root:
        """What a container that is there already was made of."""
        if record.image_id:
            return cls.of_image(engine, record.image_id)
        return cls.of_options(engine, options)

    @classmethod
    def of_image(cls, engine: Engine, name: str) -> Root:
        """The layers of an image in the store."""
        image = engine.store.resolve(name, all_names=False)
        here = os.uname().machine
        fitting = _ARCHITECTURES.get(here, (here,))
        if image.os not in ("linux", "") or image.architecture not in ("", *fitting):
            raise WrongPlatform(
                wanted=f"linux/{fitting[0]}", available=(f"{image.os}/{image.architecture}",)
            )
        return cls(lowers=tuple(reversed(image.layers)), config=image.config, image_id=image.id)

    def all_lowers(self, engine: Engine) -> tuple[str, ...]:
        """What lies below the writable layer: at the bottom the places for the engine's mounts."""
        return self.lowers if self.is_host else (*self.lowers, engine.paths.mount_points)

    def mark_for(self, options: RunOptions) -> None:
        """Make its layers ready for a user namespace, if it is to be used in one.

        Raises `HostLacks` when the store's file system cannot.
        """
        if not (options.userns or options.uidmap or options.gidmap) or not self.image_id:
            return
        if os.geteuid() != 0:
            return  # marked so from the start
        from ..layer.usermarks import mark_for_user_namespaces  # few have a user namespace

        for tree in self.lowers:
            mark_for_user_namespaces(tree)

    def argv(self, options: RunOptions) -> tuple[str, ...]:
        """Entry point and arguments, by docker's rules."""
        if options.entrypoint is not None:
            argv = (*options.entrypoint, *options.command)
        else:
            entrypoint = self.config.entrypoint or ()
            argv = (*entrypoint, *(options.command or self.config.cmd or ()))
        if not argv:
            raise UsageError("No command specified", hint="give one after the image's name")
        return argv
