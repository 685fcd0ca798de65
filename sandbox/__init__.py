"""Run commands isolated in image roots, with limits, a verdict and a receipt.

    import sandbox

    result = sandbox.run("busybox", ["sh", "-c", "echo hi"], memory="64m", cpus=0.5, timeout=5)
    result.stdout, result.exit_code, result.verdict, result.receipt

Importing this package loads nothing: a name's module is loaded when the name is
first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from .engine.container import Attachment, Container
    from .engine.engine import Engine
    from .engine.keywords import RunKeywords
    from .engine.options import InvalidOption, RunOptions, Ulimit, VolumeMount
    from .engine.result import Enforced, ExecResult, RunResult
    from .engine.status import Status
    from .engine.volumes import Volume
    from .errors import (
        AccessDenied,
        Conflict,
        ContainerNotFound,
        DamagedArchive,
        DamagedDocument,
        DigestMismatch,
        ExecFailed,
        HostLacks,
        ImageError,
        ImageNotFound,
        InvalidReference,
        LaunchFailed,
        LimitUnavailable,
        MonitorLost,
        NameInUse,
        NetworkNotFound,
        NotFound,
        ObjectInUse,
        RegistryError,
        RunFailed,
        SandboxError,
        StoreError,
        StoreFull,
        UnsafeArchive,
        UsageError,
        VolumeNotFound,
        WrongPlatform,
        WrongStatus,
    )
    from .image.store import Image
    from .monitor.exitrecord import ExitRecord, Receipt
    from .monitor.health import Health, HealthResult
    from .monitor.logs import LogEntry
    from .state.eventlog import Event

__version__ = "0.1.0"

_ERRORS = (
    "AccessDenied Conflict ContainerNotFound DamagedArchive DamagedDocument DigestMismatch "
    "ExecFailed HostLacks ImageError ImageNotFound InvalidReference LaunchFailed LimitUnavailable "
    "MonitorLost NameInUse NetworkNotFound NotFound ObjectInUse RegistryError RunFailed "
    "SandboxError StoreError StoreFull UnsafeArchive UsageError VolumeNotFound WrongPlatform "
    "WrongStatus"
).split()
_HOMES = {
    "Attachment": "engine.container",
    "Container": "engine.container",
    "Enforced": "engine.result",
    "Engine": "engine.engine",
    "Event": "state.eventlog",
    "ExecResult": "engine.result",
    "ExitRecord": "monitor.exitrecord",
    "Health": "monitor.health",
    "HealthResult": "monitor.health",
    "Image": "image.store",
    "InvalidOption": "engine.options",
    "LogEntry": "monitor.logs",
    "Receipt": "monitor.exitrecord",
    "RunOptions": "engine.options",
    "RunResult": "engine.result",
    "Status": "engine.status",
    "Ulimit": "engine.options",
    "Volume": "engine.volumes",
    "VolumeMount": "engine.options",
    **dict.fromkeys(_ERRORS, "errors"),
}

__all__ = [
    "AccessDenied",
    "Attachment",
    "Conflict",
    "Container",
    "ContainerNotFound",
    "DamagedArchive",
    "DamagedDocument",
    "DigestMismatch",
    "Enforced",
    "Engine",
    "Event",
    "ExecFailed",
    "ExecResult",
    "ExitRecord",
    "Health",
    "HealthResult",
    "HostLacks",
    "Image",
    "ImageError",
    "ImageNotFound",
    "InvalidOption",
    "InvalidReference",
    "LaunchFailed",
    "LimitUnavailable",
    "LogEntry",
    "MonitorLost",
    "NameInUse",
    "NetworkNotFound",
    "NotFound",
    "ObjectInUse",
    "Receipt",
    "RegistryError",
    "RunFailed",
    "RunOptions",
    "RunResult",
    "SandboxError",
    "Status",
    "StoreError",
    "StoreFull",
    "Ulimit",
    "UnsafeArchive",
    "UsageError",
    "Volume",
    "VolumeMount",
    "VolumeNotFound",
    "WrongPlatform",
    "WrongStatus",
    "__version__",
    "run",
]


def run(
    image: str,
    command: Iterable[str] = (),
    /,
    *,
    stdin: bytes | None = None,
    check: bool = False,
    **options: Unpack[RunKeywords],
) -> RunResult:
    """Run a command in an image of the default store; see `sandbox.engine.engine.Engine.run`."""
    from .engine.engine import default_engine

    return default_engine().run(image, command, stdin=stdin, check=check, **options)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # importlib is the slow way to what the interpreter has built in.
    module = __import__(f"{__name__}.{home}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
