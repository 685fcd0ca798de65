"""Pull and push: what is missing, several layers at once, each streamed.

A pulled layer goes from the socket into its blob and, at the same time, through a pipe
into the unpacker: digest, inflation, DiffID and files are done when its last byte is
there.  It is taken in by ``ingest``, like a layer from an archive: all of the image,
verified, or nothing.  A layer whose connection breaks goes on where it broke off.

Progress is called with (whose, status, done, total): the short id of a layer or a tag,
docker's words for what happens to it, and bytes.  It is called from several threads.

Out of scope: names on the command line, terminals.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from threading import Event, Lock

from ..errors import (
    AccessDenied,
    DamagedArchive,
    DamagedDocument,
    DigestMismatch,
    ImageNotFound,
    RegistryError,
    SandboxError,
    UsageError,
    WrongPlatform,
)
from ..oci import descriptor as descriptors
from ..oci import digest as digests
from ..oci import imageconfig, reference
from ..oci import manifest as manifests
from ..oci.descriptor import Platform
from ..oci.manifest import Manifest
from ..oci.reference import Reference
from ..record import Record, replace
from .credentials import Keyring, Login, Realms
from .flow import NobodyReads, flowing, together
from .ingest import LayerInput, ingest
from .layout import candidates, choose, host_platform
from .registry import Registry, is_too_long
from .sources import Part
from .streams import write_all
from .web import NotNow, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from .store import Image, ImageStore, Layer
    from .web import Answer

    Progress = Callable[[str, str, int, int], None]

PULL_THREADS = 3
PUSH_THREADS = 3
MAX_DEPTH = 4
MAX_MOUNTS = 3
MIN_RATE = 100  # bytes a second
_CHUNK = 1 << 18
_LAYER_TYPES = (
    descriptors.OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)


class Pulled(Record):
    """One image that was pulled: its name as docker shows it, the digest that the name had."""

    name: str
    digest: str
    image_id: str
    is_new: bool


class Pushed(Record):
    """One name that was pushed, with the manifest that it has there now."""

    name: str
    digest: str
    size: int


class Remote(Record):
    """How to get at registries: settings, logins, and where those may go."""

    settings: Settings
    keyring: Keyring
    realms: Realms

    @classmethod
    def choose(cls, root: str, certificates: str) -> Remote:
        """By the environment, docker's configuration, and what is kept below ``root``."""
        return cls(
            settings=Settings.choose(certificates),
            keyring=Keyring(),
            realms=Realms(f"{root}/realms.json"),
        )

    def hurried(self) -> Remote:
        """The same for one of several that could be asked: not as patient."""
        return replace(self, settings=replace(self.settings, attempts=2))

    def registry(
        self, domain: str, path: str, actions: str = "pull", login: Login | None = None
    ) -> Registry:
        """One repository."""
        return Registry(
            domain,
            path,
            settings=self.settings,
            keyring=self.keyring,
            realms=self.realms,
            actions=actions,
            login=login,
        )


def log_in(remote: Remote, domain: str, login: Login) -> str:
    """Try a login and keep it; the credential helper that has it now, or empty."""
    with remote.registry(domain, "", login=login) as registry:
        registry.log_in()
    return remote.keyring.store(domain, login)


def parse_platform(text: str) -> Platform:
    """``OS/ARCHITECTURE[/VARIANT]``, or an architecture alone."""
    parts = text.lower().split("/")
    if len(parts) == 1 and parts[0] != "linux":
        parts = ["linux", *parts]
    elif len(parts) == 1:
        parts = list(host_platform()[:2])
    if len(parts) > 3 or not all(parts):
        raise UsageError(f'"{text}": invalid platform: OS/ARCHITECTURE[/VARIANT] is expected')
    known = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
    variant = parts[2] if len(parts) == 3 else ""
    return Platform(os=parts[0], architecture=known.get(parts[1], parts[1]), variant=variant)


# -- pull


def pull(
    store: ImageStore,
    remote: Remote,
    name: Reference,
    *,
    platform: str | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Bring one image and name it.

    The mirrors of its registry are asked first; whatever one of them does wrong, the next one
    is asked, and at last the registry.
    """
    wanted = parse_platform(platform) if platform else None
    report = progress or _silent
    for mirror in remote.settings.mirrors_of(name.domain):
        try:
            return _pull(store, remote.hurried(), mirror, name, wanted, report)
        except (RegistryError, DamagedArchive, DamagedDocument, DigestMismatch) as error:
            report(mirror, f"Mirror skipped: {error}", 0, 0)
    return _pull(store, remote, name.domain, name, wanted, report)


def _pull(
    store: ImageStore,
    remote: Remote,
    host: str,
    name: Reference,
    wanted: Platform | None,
    report: Progress,
) -> Pulled:
    with remote.registry(host, name.path) as registry:
        top, manifest, content = _wanted_manifest(registry, name, wanted)
        report(name.tag or name.digest, f"Pulling from {name.path}", 0, 0)
        config = _config(store, registry, manifest)
        _check_platform(config, wanted)
        before = _id_of(store, name)
        work = _Pull(store, registry, manifest, report)
        names = [replace(name, digest="")] if name.tag and not name.digest else []
        names.append(Reference(domain=name.domain, path=name.path, digest=top))
        try:
            image_id = ingest(
                store,
                config,
                [work.layer(item) for item in manifest.layers],
                names=names,
                manifest=content,
                manifest_media_type=manifest.media_type,
                progress=work.unpacked,
                threads=PULL_THREADS,
                cancel=work.cancel,
            )
        finally:
            work.cancel()
        work.end()
    return Pulled(name=name.familiar, digest=top, image_id=image_id, is_new=before != image_id)


def all_tags(remote: Remote, name: Reference) -> tuple[Reference, ...]:
    """Every name of a repository at its registry."""
    found = []
    with remote.registry(name.domain, name.path) as registry:
        try:
            tags = registry.tags()
        except RegistryError as error:
            raise _unknown(error, name, "") from error
    for tag in tags:
        try:
            found.append(reference.parse_name(f"{name.repository}:{tag}"))
        except UsageError:
            continue  # not a tag that anybody could ask for
    return tuple(found)


def _wanted_manifest(
    registry: Registry, name: Reference, wanted: Platform | None
) -> tuple[str, Manifest, bytes]:
    # The digest of what the name means, and of that the manifest for the platform.
    try:
        content, kind = registry.manifest(name.digest or name.tag)
    except RegistryError as error:
        raise _unknown(error, name, "manifest") from error
    top = digests.of_bytes(content)
    for _ in range(MAX_DEPTH):
        made = manifests.parse(content, media_type=kind, what=f"manifest of {name.familiar}")
        if isinstance(made, Manifest):
            _check_types(made, name)
            return top, made, content
        found = candidates(made)
        if not found:
            raise RegistryError(f"the index of {name.familiar} names no image")
        chosen = choose(found, wanted)
        content, stated = registry.manifest(chosen.digest)
        if len(content) != chosen.size:
            raise RegistryError(
                f"manifest {chosen.digest} is {len(content)} bytes, expected {chosen.size}"
            )
        kind = chosen.media_type
        if stated and stated != kind:
            raise RegistryError(f"manifest {chosen.digest} is {stated} where {kind} was announced")
    raise RegistryError(f"{name.familiar}: indexes nested deeper than {MAX_DEPTH}")


def _check_types(manifest: Manifest, name: Reference) -> None:
    if manifest.config.media_type not in descriptors.CONFIGS:
        # An artifact: something kept in a registry that is no image.
        raise RegistryError(f"{name.familiar} is not an image ({manifest.config.media_type})")
    for layer in manifest.layers:
        if not layer.media_type.startswith(_LAYER_TYPES):
            raise RegistryError(f"{name.familiar}: unknown kind of layer: {layer.media_type}")


def _config(store: ImageStore, registry: Registry, manifest: Manifest) -> bytes:
    digest, size = manifest.config.digest, manifest.config.size
    try:
        content = store.read_blob(digest, limit=imageconfig.MAX_BYTES)
        if len(content) == size and digests.of_bytes(content) == digest:
            return content
    except (FileNotFoundError, SandboxError):
        pass
    return registry.document(digest, size=size, limit=imageconfig.MAX_BYTES)


def _check_platform(config: bytes, wanted: Platform | None) -> None:
    if wanted is None:
        return
    document = imageconfig.parse(config)
    there = (document.os or "linux", document.architecture or wanted.architecture)
    if there != (wanted.os, wanted.architecture):
        raise WrongPlatform(wanted=str(wanted), available=("/".join(there),))


def _id_of(store: ImageStore, name: Reference) -> str:
    try:
        return store.resolve(name.canonical, all_names=False).id
    except SandboxError:
        return ""


def _unknown(error: RegistryError, name: Reference, what: str) -> RegistryError:
    if error.status == 404 and what:
        return RegistryError(
            f"manifest for {name.familiar} not found: {error.said or 'manifest unknown'}",
            status=404,
            said=error.said,
        )
    if error.status == 404 or (isinstance(error, AccessDenied) and error.said):
        said = f": {error.said}" if error.said else ""
        kind = AccessDenied if isinstance(error, AccessDenied) else RegistryError
        return kind(
            f"pull access denied for {name.familiar_repository}, repository does not exist or "
            f"may require 'sandbox login'{said}",
            status=error.status,
            said=error.said,
            hint=error.hint,
        )
    return error


class _Pull:
    """The layers of one image on their way."""

    def __init__(
        self, store: ImageStore, registry: Registry, manifest: Manifest, report: Progress
    ) -> None:
        self._store = store
        self._registry = registry
        self._report = report
        self._lock = Lock()
        self._sizes = {item.digest: item.size for item in manifest.layers}
        self._started: set[str] = set()
        self._finished: set[str] = set()
        self._parts: list[_RemotePart] = []
        self._is_cancelled = False

    def layer(self, item: descriptors.Descriptor) -> LayerInput:
        """What ``ingest`` needs to know of a layer."""
        return LayerInput(
            open=partial(self._open, item),
            digest=item.digest,
            size=item.size,
            media_type=item.media_type,
        )

    def unpacked(self, digest: str, done: int, total: int) -> None:
        """Told by ``ingest``."""
        if done < total:
            self._report(short(digest), "Downloading", done, total)
        elif digest in self._started:
            with self._lock:
                is_first = digest not in self._finished
                self._finished.add(digest)
            if is_first:
                self._report(short(digest), "Download complete", total, total)

    def end(self) -> None:
        """Say of all that they are there now."""
        for digest, size in self._sizes.items():
            done = "Pull complete" if digest in self._started else "Already exists"
            self._report(short(digest), done, size, size)

    def cancel(self) -> None:
        """Wake whoever waits for the network."""
        with self._lock:
            self._is_cancelled = True
            for part in self._parts:
                part.leave()
        self._registry.cut()

    def _open(self, item: descriptors.Descriptor) -> Part:
        # A blob of another image; a layer without its blob, or on another base.
        with self._lock:
            self._started.add(item.digest)
        try:
            fd = os.open(self._store.blob_path(item.digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        else:
            if os.fstat(fd).st_size == item.size:
                return Part(item.digest, fd, start=0, size=item.size)
            os.close(fd)
        self._report(short(item.digest), "Pulling fs layer", 0, item.size)
        part = _RemotePart(self._registry, item.digest, item.size)
        with self._lock:
            self._parts.append(part)
            if self._is_cancelled:
                part.leave()
        return part


class _RemotePart(Part):
    """A blob at a registry, read once from its beginning to its end."""

    def __init__(self, registry: Registry, digest: str, size: int) -> None:
        self.name = digest
        self.size = size
        self._registry = registry
        self._at = 0
        self._failures = 0
        self._slow = 0
        self._since = 0.0
        self._came = 0
        self._answer: Answer | None = None
        self._head = b""
        self._left = Event()
        self._buffer = memoryview(bytearray(_CHUNK))

    def __exit__(self, *_failure: object) -> None:
        if self._answer is not None:
            self._answer.close()

    def start(self, length: int) -> bytes:
        """The first bytes, at most ``length``."""
        while len(self._head) < min(length, self.size):
            count = self._some()
            self._head += self._buffer[:count]
        return self._head[:length]

    def copy_to(self, fd: int) -> None:
        """Write all of it."""
        self._flow(lambda part: write_all(fd, part))

    @contextmanager
    def kept_in(self, fd: int) -> Iterator[int]:
        """Keep it in a file, and give the end of a pipe through which it comes meanwhile."""

        def feed(kept: Callable[[int], None]) -> None:
            def keep(part: bytes | memoryview) -> None:
                write_all(fd, part)
                kept(len(part))

            self._flow(keep)

        with flowing(fd, feed, self.leave) as read:
            yield read

    def leave(self) -> None:
        """Let nobody wait for more of it."""
        self._left.set()
        answer = self._answer
        if answer is not None:
            answer.cut()

    def _flow(self, write: Callable[[bytes | memoryview], None]) -> None:
        if self._head:
            write(self._head)
        while self._at < self.size:
            count = self._some()
            write(self._buffer[:count])
        self._check_end()

    def _some(self) -> int:
        """Read into the buffer, over as many connections as it takes."""
        while True:
            if self._left.is_set():
                raise NobodyReads
            try:
                if self._answer is None:
                    self._answer = self._opened()
                    # Who left before that had nothing to cut.
                    if self._left.is_set():
                        raise NobodyReads
                want = min(len(self._buffer), self.size - self._at)
                count = self._answer.read_into(self._buffer[:want])
                if not count:
                    raise NotNow(f"layer {self.name}: unexpected EOF at {self._at} bytes")
                self._check_pace(count)
            except NotNow as error:
                self._failed(error)
                continue
            self._at += count
            self._failures = self._slow
            return count

    def _check_pace(self, count: int) -> None:
        # A drop now and then is no download: as for silence, another connection may be better.
        now = time.monotonic()
        self._came += count
        self._since = self._since or now
        if now - self._since < self._registry.settings.timeout_s:
            return
        if self._came < MIN_RATE * (now - self._since):
            self._slow += 1
            raise NotNow(f"layer {self.name}: it comes slower than {MIN_RATE} bytes a second")
        self._since, self._came = now, 0

    def _failed(self, error: NotNow) -> None:
        if self._answer is not None:
            self._answer.cut()
            self._answer.close()
            self._answer = None
        self._since, self._came = 0.0, 0
        self._failures += 1
        settings = self._registry.settings
        if self._failures >= settings.attempts or is_too_long(error.after):
            raise error
        self._left.wait(self._registry.wait_s(self._failures - 1, error.after))

    def _opened(self) -> Answer:
        answer = self._registry.blob(self.name, self._at)
        try:
            self._position(answer)
        except BaseException:
            answer.cut()
            answer.close()
            raise
        return answer

    def _position(self, answer: Answer) -> None:
        begins = 0
        if answer.status == 206:
            found = answer.header("Content-Range").removeprefix("bytes ").partition("-")[0]
            begins = int(found) if found.isascii() and found.isdigit() else -1
        if not 0 <= begins <= self._at:
            raise RegistryError(f"layer {self.name}: the registry sent another part of it")
        if answer.length not in (-1, self.size - begins):
            raise DamagedArchive(
                f"layer {self.name}: {answer.length + begins} bytes, expected {self.size}"
            )
        # A registry that cannot begin in the middle begins at the beginning.
        skip = self._at - begins
        while skip:
            count = answer.read_into(self._buffer[: min(skip, len(self._buffer))])
            if not count:
                raise NotNow(f"layer {self.name}: unexpected EOF")
            skip -= count

    def _check_end(self) -> None:
        # Without an announced length, more may come than was stated.
        answer = self._answer
        if answer is not None and answer.length < 0 and answer.read_into(self._buffer[:1]):
            raise DamagedArchive(f"layer {self.name} is longer than {self.size} bytes")


# -- push


def push(
    store: ImageStore,
    remote: Remote,
    name: Reference,
    *,
    progress: Progress | None = None,
) -> Pushed:
    """Give one image to its registry: what is missing there, then the manifest."""
    report = progress or _silent
    try:
        image = store.resolve(name.canonical, all_names=False)
    except ImageNotFound as error:
        raise ImageNotFound(name.familiar) from error
    sources = _mounts(store, name, image)
    with remote.registry(name.domain, name.path, "pull,push") as registry:
        registry.open()
        work = [
            partial(_push_layer, store, registry, layer, sources.get(layer.digest, ()), report)
            for layer in {layer.digest: layer for layer in image.layer_records}.values()
        ]
        together(work, threads=PUSH_THREADS, stop=registry.cut)
        _push_blob(store, registry, image.id, image.config_size, (), _quiet)
        content = store.read_blob(image.manifest_digest, limit=manifests.MAX_BYTES)
        digests.verify(content, image.manifest_digest, what=f"manifest of {name.familiar}")
        registry.put_manifest(name.tag, content, image.manifest_media_type)
    store.tag(image.id, Reference(domain=name.domain, path=name.path, digest=image.manifest_digest))
    return Pushed(name=name.familiar, digest=image.manifest_digest, size=len(content))


def _mounts(store: ImageStore, name: Reference, image: Image) -> dict[str, tuple[str, ...]]:
    # The other repositories of that registry that we have seen each layer in.
    wanted = {layer.digest for layer in image.layer_records}
    found: dict[str, dict[str, None]] = {}
    for other in store.images():
        shared = wanted & {layer.digest for layer in other.layer_records}
        paths = {
            parsed.path
            for parsed in map(reference.parse, other.digests)
            if parsed.domain == name.domain and parsed.path != name.path
        }
        for digest in shared:
            found.setdefault(digest, {}).update(dict.fromkeys(sorted(paths)))
    return {digest: tuple(paths)[:MAX_MOUNTS] for digest, paths in found.items()}


def _push_layer(
    store: ImageStore,
    registry: Registry,
    layer: Layer,
    sources: tuple[str, ...],
    report: Progress,
) -> None:
    def say(status: str, done: int) -> None:
        report(short(layer.diff_id), status, done, layer.size)

    say("Preparing", 0)
    _push_blob(store, registry, layer.digest, layer.size, sources, say)


def _push_blob(
    store: ImageStore,
    registry: Registry,
    digest: str,
    size: int,
    sources: tuple[str, ...],
    say: Callable[[str, int], None],
) -> None:
    if registry.has_blob(digest):
        say("Layer already exists", size)
        return
    location = ""
    for source in sources:
        try:
            registry.allow(source)
            location = registry.mount(digest, source)
        except NotNow:
            continue  # it can be sent, which is tried as often as need be
        if not location:
            say(f"Mounted from {source}", size)
            return
    failures = 0
    while True:
        try:
            location = location or registry.start_upload()
            with open(store.blob_path(digest), "rb") as file:
                body = _Watched(file, lambda done: say("Pushing", done))
                registry.upload(location, digest, body, size)
            say("Pushed", size)
            return
        except NotNow as error:
            failures += 1
            if failures >= registry.settings.attempts or is_too_long(error.after):
                raise
            registry.pause(failures - 1, error.after)
            location = ""


class _Watched:
    """A file whose reader is told how far he is."""

    def __init__(self, file: IO[bytes], say: Callable[[int], None]) -> None:
        self._file = file
        self._say = say

    def read(self, size: int = -1) -> bytes:
        """Some bytes."""
        part = self._file.read(size)
        self._say(self._file.tell())
        return part

    def seek(self, at: int) -> int:
        """Begin again."""
        return self._file.seek(at)


def short(digest: str) -> str:
    """The twelve digits by which layers are shown."""
    return digests.hex_of(digest)[:12]


def _silent(_whose: str, _status: str, _done: int, _total: int) -> None:
    pass


def _quiet(_status: str, _done: int) -> None:
    pass
