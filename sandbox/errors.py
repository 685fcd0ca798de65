"""Everything this engine raises, drawn once.

    SandboxError
      UsageError                    an argument that cannot be meant
        InvalidReference            not an image reference
      NotFound
        ImageNotFound  ContainerNotFound  NetworkNotFound  VolumeNotFound
      Conflict                      something has the name, or is in use
        NameInUse  ObjectInUse  PathConflict
      WrongStatus                   not now: the container is in another state
      ImageError                    an image or archive that cannot be used
        DamagedArchive  DigestMismatch  UnsafeArchive  WrongPlatform
      RegistryError                 a registry cannot be reached, or refuses
        AccessDenied
      StoreError
        DamagedDocument  StoreFull
      HostLacks                     this host cannot do what was asked
        LimitUnavailable
      LaunchFailed                  a step between clone and execve failed
        ExecFailed                  the last one: not found, not executable, ...
      MonitorLost                   the monitor did not answer
      RunFailed                     check=True and the verdict is not ok

A message is lower case (docker's own words where docker has them), without a
full stop, and has the value and the path in it; facts are fields; ``hint``
says what a person can do.  The library raises; only a program prints or exits.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SandboxError(Exception):
    """The base of the tree.  ``str()`` is the message; ``hint`` may be empty."""

    hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint

    @property
    def message(self) -> str:
        """The sentence, without the hint."""
        return str(self)


class UsageError(SandboxError):
    """An argument that cannot be meant."""


class InvalidReference(UsageError):
    """Not ``[HOST[:PORT]/][USER/]NAME[:TAG][@DIGEST]``."""

    def __init__(self, text: str, problem: str = "") -> None:
        self.text = text
        suffix = f": {problem}" if problem else ""
        super().__init__(f"invalid reference format{suffix}")


class NotFound(SandboxError):
    """No object by that name."""

    def __init__(self, message: str, *, name: str, hint: str = "") -> None:
        self.name = name
        super().__init__(message, hint=hint)


class ImageNotFound(NotFound):
    """No image by that reference or id."""

    def __init__(self, name: str, *, hint: str = "") -> None:
        super().__init__(
            f"No such image: {name}",
            name=name,
            hint=hint or "`sandbox images` lists what is here; `sandbox pull` brings one",
        )


class ContainerNotFound(NotFound):
    """No container by that name or id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}", name=name)


class NetworkNotFound(NotFound):
    """No network by that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network {name} not found", name=name)


class VolumeNotFound(NotFound):
    """No volume by that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume", name=name)


class Conflict(SandboxError):
    """Something has the name, or is in use."""


class NameInUse(Conflict):
    """A container has this name already."""

    def __init__(self, name: str, owner: str) -> None:
        self.name, self.owner = name, owner
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


class ObjectInUse(Conflict):
    """Another object needs this one."""

    def __init__(self, message: str, *, users: tuple[str, ...] = (), hint: str = "") -> None:
        self.users = users
        super().__init__(message, hint=hint)


class PathConflict(Conflict):
    """What a copy into ``folder`` would put at ``path`` and what is there are not both directories.

    ``is_directory`` says whether what is there is one.
    """

    def __init__(self, path: str, *, folder: str, is_directory: bool) -> None:
        self.path, self.folder, self.is_directory = path, folder, is_directory
        there, copied = "directory", "non-directory"
        if not is_directory:
            there, copied = copied, there
        super().__init__(f'cannot overwrite {there} "{path}" with {copied} "{folder}"')


class WrongStatus(SandboxError):
    """The container is not in a state that allows this."""

    def __init__(self, message: str, *, container: str, status: str, hint: str = "") -> None:
        self.container, self.status = container, status
        super().__init__(message, hint=hint)


class ImageError(SandboxError):
    """An image or an archive that cannot be used."""


class DamagedArchive(ImageError):
    """Truncated, corrupt, or not an archive of the expected kind."""


class DigestMismatch(ImageError):
    """Content that is not what its digest says."""

    def __init__(self, *, what: str, expected: str, actual: str) -> None:
        self.what, self.expected, self.actual = what, expected, actual
        super().__init__(f"{what}: digest is {actual}, expected {expected}")


class UnsafeArchive(ImageError):
    """An archive whose entry would reach outside its root, or passes a bound."""

    def __init__(self, *, entry: str, problem: str) -> None:
        self.entry, self.problem = entry, problem
        super().__init__(f"unsafe archive entry {entry!r}: {problem}")


class WrongPlatform(ImageError):
    """An image for another operating system or processor."""

    def __init__(self, *, wanted: str, available: tuple[str, ...]) -> None:
        self.wanted, self.available = wanted, available
        super().__init__(
            f"no matching manifest for {wanted}; there is {', '.join(available) or 'none'}"
        )


class RegistryError(SandboxError):
    """A registry cannot be reached, refuses, or does not keep to the protocol.

    Where there was an answer, ``status`` is the HTTP status and ``said`` the registry's words.
    """

    def __init__(self, message: str, *, status: int = 0, said: str = "", hint: str = "") -> None:
        self.status, self.said = status, said
        super().__init__(message, hint=hint)


class AccessDenied(RegistryError):
    """Not without a login, or not with this one."""


class StoreError(SandboxError):
    """The engine's own folders are not as they should be."""


class DamagedDocument(StoreError):
    """A document that cannot be read as what it should be."""

    def __init__(self, *, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"{what}: {problem}")


class StoreFull(StoreError):
    """No space left for the store."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"no space left on device: {path}",
            hint="free some space, or choose another store with --root",
        )


class HostLacks(SandboxError):
    """This host cannot do what was asked."""


class LimitUnavailable(HostLacks):
    """A limit that this host cannot enforce."""

    def __init__(self, limit: str, *, reason: str) -> None:
        self.limit, self.reason = limit, reason
        super().__init__(
            f"cannot enforce the {limit} limit: {reason}",
            hint="`sandbox doctor` says what this host can enforce; "
            f"--allow-unenforced {limit} runs without the limit",
        )


class LaunchFailed(SandboxError):
    """A step between ``clone`` and ``execve`` failed.

    ``step`` is the operation of the launch plan, ``syscall`` the call that
    failed, ``path`` what it was about (may be empty), ``errno`` its number.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str,
        syscall: str,
        path: str,
        errno: int,
        hint: str = "",
    ) -> None:
        self.step, self.syscall, self.path, self.errno = step, syscall, path, errno
        super().__init__(message, hint=hint)


class ExecFailed(LaunchFailed):
    """The program could not be executed.

    ``reason`` is ``not_found``, ``not_executable``, ``bad_interpreter`` or
    ``wrong_arch``.
    """

    def __init__(self, message: str, *, reason: str, **facts: Any) -> None:
        self.reason = reason
        super().__init__(message, **facts)


class MonitorLost(SandboxError):
    """The container's monitor is gone or does not answer."""


class RunFailed(SandboxError):
    """``check=True`` and the verdict is not ``ok``; ``result`` has everything."""

    def __init__(self, message: str, *, result: Any) -> None:
        self.result = result
        super().__init__(message)
