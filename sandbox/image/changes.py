"""Changes to an image's configuration, one Dockerfile instruction each.

``import --change`` and ``commit --change`` take these: CMD, ENTRYPOINT, ENV, EXPOSE,
HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR.

Out of scope: variables, heredocs and whatever makes a layer.
"""

from __future__ import annotations

import shlex

from .. import jsontext
from ..errors import DamagedDocument, UsageError
from ..oci.imageconfig import Healthcheck, ImageConfig
from ..record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SHELL = ("/bin/sh", "-c")
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def apply(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration after all the changes, in their order."""
    for change in changes:
        config = _apply(config, change)
    return config


def _apply(config: ImageConfig, change: str) -> ImageConfig:
    word, _, rest = change.strip().partition(" ")
    rest = rest.strip()
    kind = word.upper()
    if not rest:
        raise UsageError(f"{kind or 'an instruction'} requires at least one argument: {change!r}")
    if kind == "CMD":
        return replace(config, cmd=_command(rest, config))
    if kind == "ENTRYPOINT":
        return replace(config, entrypoint=_command(rest, config))
    if kind == "ENV":
        return replace(config, env=_with_env(config.env, _pairs(rest, change)))
    if kind == "LABEL":
        labels = dict(config.labels) | dict(_pairs(rest, change))
        return replace(config, labels=tuple(labels.items()))
    if kind == "EXPOSE":
        ports = [port if "/" in port else f"{port}/tcp" for port in rest.split()]
        return replace(config, exposed_ports=_united(config.exposed_ports, ports))
    if kind == "VOLUME":
        paths = _json_list(rest)
        return replace(
            config, volumes=_united(config.volumes, rest.split() if paths is None else paths)
        )
    if kind == "USER":
        return replace(config, user=rest)
    if kind == "WORKDIR":
        base = "" if rest.startswith("/") else config.working_dir.rstrip("/") + "/"
        return replace(config, working_dir=base + rest)
    if kind == "STOPSIGNAL":
        return replace(config, stop_signal=rest)
    if kind == "ONBUILD":
        return replace(config, on_build=(*config.on_build, rest))
    if kind == "HEALTHCHECK":
        return replace(config, healthcheck=_healthcheck(rest, change))
    raise UsageError(f"{word} is not a valid change command")


def _command(text: str, config: ImageConfig) -> tuple[str, ...]:
    words = _json_list(text)
    return (*(config.shell or SHELL), text) if words is None else words


def _json_list(text: str) -> tuple[str, ...] | None:
    if not text.startswith("["):
        return None
    try:
        value = jsontext.decode(text.encode(), what="change")
    except DamagedDocument:
        return None  # then it is a shell's line, as in a Dockerfile
    if not isinstance(value, list):
        return None
    words = [word for word in value if isinstance(word, str)]
    return tuple(words) if len(words) == len(value) else None


def _pairs(text: str, change: str) -> list[tuple[str, str]]:
    if "=" not in text.split(maxsplit=1)[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise UsageError(f"{change!r} must have two arguments")
        return [(key, value.strip())]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{change!r}: {error}") from error
    made = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(
                f"syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        made.append((key, value))
    return made


def _with_env(env: tuple[str, ...], pairs: list[tuple[str, str]]) -> tuple[str, ...]:
    made = dict(item.partition("=")[::2] for item in env) | dict(pairs)
    return tuple(f"{key}={value}" for key, value in made.items())


def _united(old: tuple[str, ...], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*old, *new]))


def _healthcheck(text: str, change: str) -> Healthcheck:
    words = text.split()
    times = {"interval": 0, "timeout": 0, "start-period": 0, "start-interval": 0, "retries": 0}
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        if name not in times:
            raise UsageError(f"unknown flag: {name} ({change!r})")
        times[name] = int(value) if name == "retries" and value.isdigit() else duration_ns(value)
    kind = words.pop(0).upper() if words else ""
    if kind == "NONE" and not words:
        return Healthcheck(test=("NONE",))
    if kind != "CMD" or not words:
        raise UsageError(f"unknown type {kind!r} in HEALTHCHECK (try CMD)")
    line = text[text.upper().index("CMD") + 3 :].strip()
    listed = _json_list(line)
    return Healthcheck(
        test=("CMD-SHELL", line) if listed is None else ("CMD", *listed),
        interval_ns=times["interval"],
        timeout_ns=times["timeout"],
        start_period_ns=times["start-period"],
        start_interval_ns=times["start-interval"],
        retries=times["retries"],
    )


def duration_ns(text: str) -> int:
    """A duration as Go writes it (``1m30s``), in nanoseconds."""
    total = 0
    rest = text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("numsh"))
        unit, rest = rest[:letters], rest[letters:]
        if unit not in _UNITS or not number.strip(".") or number.count(".") > 1:
            raise UsageError(f"invalid duration {text!r}")
        total += round(float(number) * _UNITS[unit])
    if not text:
        raise UsageError(f"invalid duration {text!r}")
    return total
