"""Every path the engine owns, with root and without; nobody else spells one.

<root>/                     kept: /var/lib/sandbox, or $XDG_DATA_HOME/sandbox without root
  images/  names/  blobs/  layers/  containers/  volumes/  networks/  staging/  cache/  events
<run>/                      gone after a reboot: /run/sandbox, or $XDG_RUNTIME_DIR/sandbox
  containers/<id>/          alive (lock held by the living monitor), control (socket), started
  networks/<id>/            leases, endpoints/<container id>
  rootfs/                   an empty folder, where each container mounts its root in its own
                            mount namespace
"""

from __future__ import annotations

import os

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Paths(Record):
    """The two folders of one store; all others follow from them."""

    root: str
    run: str

    @classmethod
    def choose(
        cls,
        root: str | None = None,
        run: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
    ) -> Paths:
        """The store asked for, by argument, by SANDBOX_ROOT and SANDBOX_RUN, or by default."""
        environ = os.environ if environ is None else environ
        privileged = (os.geteuid() if uid is None else uid) == 0
        home = environ.get("HOME", "/")
        if not root:
            root = environ.get("SANDBOX_ROOT") or (
                "/var/lib/sandbox"
                if privileged
                else os.path.join(environ.get("XDG_DATA_HOME") or f"{home}/.local/share", "sandbox")
            )
        if not run:
            run = environ.get("SANDBOX_RUN") or (
                "/run/sandbox"
                if privileged
                else os.path.join(environ.get("XDG_RUNTIME_DIR") or f"{home}/.cache", "sandbox")
            )
        return cls(root=os.path.abspath(root), run=os.path.abspath(run))

    @property
    def images(self) -> str:
        """Image documents and names."""
        return f"{self.root}/images"

    @property
    def blobs(self) -> str:
        """Content as it came, by digest: ``blobs/sha256/<hex>``."""
        return f"{self.root}/blobs"

    @property
    def layers(self) -> str:
        """Unpacked read-only trees, by ChainID."""
        return f"{self.root}/layers"

    @property
    def staging(self) -> str:
        """Everything is made here, then renamed into place."""
        return f"{self.root}/staging"

    @property
    def containers(self) -> str:
        """One folder a container."""
        return f"{self.root}/containers"

    @property
    def names(self) -> str:
        """One file a container name in use, holding the id."""
        return f"{self.root}/names"

    @property
    def cache(self) -> str:
        """What can be made anew: compiled seccomp filters, launch plans, what lists show."""
        return f"{self.root}/cache"

    @property
    def events(self) -> str:
        """The log of what happens to all objects; ``events.1`` is the one before."""
        return f"{self.root}/events"

    @property
    def certificates(self) -> str:
        """Authorities of registries: ``HOST:PORT/ca.crt``, as in docker's ``certs.d``."""
        return f"{self.root}/certs.d"

    @property
    def volumes(self) -> str:
        """One folder a volume."""
        return f"{self.root}/volumes"

    @property
    def networks(self) -> str:
        """One folder a network."""
        return f"{self.root}/networks"

    @property
    def mount_points(self) -> str:
        """The lowest layer of every root: empty places for what is always mounted."""
        return f"{self.root}/mountpoints"

    @property
    def live(self) -> str:
        """One folder for each container that has, or had, a monitor since boot."""
        return f"{self.run}/containers"

    @property
    def mount_point(self) -> str:
        """The empty folder on which a container's root is mounted, in its own namespace."""
        return f"{self.run}/rootfs"

    def container(self, container_id: str) -> str:
        """The folder of one container."""
        return f"{self.root}/containers/{container_id}"

    def volume(self, name: str) -> str:
        """The folder of one volume."""
        return f"{self.root}/volumes/{name}"

    def network(self, name: str) -> str:
        """The folder of one network."""
        return f"{self.root}/networks/{name}"

    def live_network(self, network_id: str) -> str:
        """The run folder of one network."""
        return f"{self.run}/networks/{network_id}"

    def live_container(self, container_id: str) -> str:
        """The run folder of one container."""
        return f"{self.run}/containers/{container_id}"
