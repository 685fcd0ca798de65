"""The trees drawn at the head of errors.py are the trees there are."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest

TREES = {
    "sandbox.errors": "SandboxError",
    "cgroups.errors": "CgroupError",
    "netns.errors": "NetnsError",
}


def drawn(module: ModuleType, base: str) -> dict[str, str]:
    """Class name -> its parent's name, read from the indented drawing."""
    assert module.__doc__
    lines = module.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith(base))
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in lines[start:]:
        if not line.strip():
            break
        names = re.match(r"(\s*)((?:[A-Z]\w+(?:  |$))+|[A-Z]\w+)", line)
        if names is None:
            continue
        depth = len(names[1])
        path = [(d, n) for d, n in path if d < depth]
        for name in names[2].split():
            parents[name] = path[-1][1] if path else "Exception"
        path.append((depth, names[2].split()[-1]))
    return parents


def defined(module: ModuleType) -> dict[str, str]:
    return {
        name: value.__bases__[0].__name__
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", TREES)
def test_the_drawn_tree_is_the_tree(name: str) -> None:
    module = importlib.import_module(name)

    assert drawn(module, TREES[name]) == defined(module)
