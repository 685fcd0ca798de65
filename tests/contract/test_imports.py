"""Imports point down, and each third-party package is touched in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cgroups", "netns", "sandbox")

# unit -> the units it may import; read top to bottom, this is ARCHITECTURE.md's picture.
GROUND = {
    "sandbox.cachefile",
    "sandbox.errors",
    "sandbox.jsontext",
    "sandbox.paths",
    "sandbox.record",
}
CORE = GROUND | {"sandbox.oci"}
MAY_IMPORT: dict[str, set[str]] = {
    "cgroups": set(),
    "netns": set(),
    # Lazily, and for types; test_public_names holds that importing it loads nothing.
    "sandbox": {
        "sandbox.engine",
        "sandbox.errors",
        "sandbox.image",
        "sandbox.monitor",
        "sandbox.state",
    },
    "sandbox.cachefile": set(),
    "sandbox.errors": set(),
    "sandbox.record": set(),
    "sandbox.jsontext": {"sandbox.errors"},
    "sandbox.paths": {"sandbox.record"},
    "sandbox.oci": GROUND,
    "sandbox.native": GROUND,
    "sandbox.layer": CORE | {"sandbox.native"},
    "sandbox.state": CORE,
    "sandbox.image": CORE | {"sandbox.layer", "sandbox.state"},
    "sandbox.snapshot": CORE | {"sandbox.layer", "sandbox.native"},
    "sandbox.monitor": CORE | {"sandbox.native"},
    "sandbox.runtime": CORE | {"sandbox.native", "sandbox.monitor", "cgroups"},
    "sandbox.builder": CORE | {"sandbox.image", "sandbox.layer", "sandbox.snapshot"},
}
BELOW_ENGINE = set(MAY_IMPORT) - {"sandbox"}
MAY_IMPORT |= {
    "sandbox.engine": BELOW_ENGINE,
    "sandbox.aio": CORE | {"sandbox.engine"},
    "sandbox.cli": CORE | {"sandbox.engine"},
    "sandbox.api": CORE | {"sandbox.engine", "sandbox.aio"},
    "sandbox.runtime_cli": CORE | {"sandbox.runtime"},
    "sandbox.__main__": {"sandbox.cli"},
}
TOUCHED_ONLY_IN = {
    "dns": {"netns/dns.py"},
    "pyroute2": {"netns/netlink.py", "netns/nftables.py"},
    "prctl": {"sandbox/runtime/process.py"},
    "psutil": {"sandbox/runtime/process.py"},
    "cffi": {"sandbox/native/build.py"},
}


def unit_of(module: str) -> str | None:
    units = [u for u in MAY_IMPORT if module == u or module.startswith(u + ".")]
    return max(units, key=len, default=None)


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def violations(path: Path, place: Path) -> list[str]:
    module = ".".join(p for p in place.with_suffix("").parts if p != "__init__")
    unit = unit_of(module)
    if unit is None or (unit == "sandbox" and module != "sandbox"):
        return [f"{place}: not in MAY_IMPORT"]
    wrong = []
    for line, name in imports(path, module):
        other = unit_of(name)
        if other not in {None, unit} and other not in MAY_IMPORT[unit]:
            wrong.append(f"{place}:{line}: {unit} may not import {name}")
        owners = TOUCHED_ONLY_IN.get(name.partition(".")[0])
        if owners is not None and str(place) not in owners:
            wrong.append(f"{place}:{line}: {name} is imported only in {', '.join(sorted(owners))}")
    return wrong


def modules() -> list[Path]:
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    wrong = violations(path, path.relative_to(ROOT))

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("place", "text", "complaint"),
    [
        ("sandbox/oci/x.py", "from sandbox.runtime import plan", "may not import sandbox.runtime"),
        ("sandbox/oci/x.py", "from ..runtime import plan", "may not import sandbox.runtime"),
        ("sandbox/oci/x.py", "from .. import runtime", "may not import sandbox.runtime"),
        ("cgroups/x.py", "import sandbox.errors", "may not import sandbox.errors"),
        ("sandbox/engine/x.py", "import pyroute2", "pyroute2 is imported only in"),
        ("sandbox/utils.py", "", "not in MAY_IMPORT"),
    ],
)
def test_a_planted_violation_is_seen(tmp_path: Path, place: str, text: str, complaint: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(text + "\n")

    wrong = violations(file, Path(place))

    assert any(complaint in line for line in wrong), wrong
