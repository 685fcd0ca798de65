"""The documents name what there is."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requires

from sandbox.cli.table import COMMANDS, GLOBAL_FLAGS, NOUNS, command

if TYPE_CHECKING:
    from conftest import Store

ROOT = Path(__file__).parents[2]


def parts() -> list[str]:
    """The two libraries and the folders of `sandbox`; what is deeper is a part's own matter."""
    folders = [
        path.relative_to(ROOT) for path in (ROOT / "sandbox").iterdir() if any(path.glob("*.py"))
    ]
    return ["cgroups", "netns", *(str(path) for path in folders)]


def listed_files() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("folder", parts())
def test_architecture_tells_what_the_folder_is(folder: str) -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text()

    assert f"| `{folder}/` |" in table


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert versions[0] == version


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"]
)
def test_a_link_in_a_document_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()

    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), target


def test_readme_uses_verbs_and_flags_that_there_are() -> None:
    text = (ROOT / "README.md").read_text()
    flags = {flag[0] for name in COMMANDS for flag in command(name).flags}
    flags |= {flag[0] for flag in GLOBAL_FLAGS}

    verbs = set(
        re.findall(r"(?:^    |\$ |`|      ?|   )sandbox (?:-\S+ )*([a-z]+)", text, re.MULTILINE)
    )
    used = set(re.findall(r"--([a-z][a-z-]+)", text))

    assert {"run", "load", "doctor"} <= verbs
    assert not verbs - set(COMMANDS) - set(NOUNS)
    assert not used - flags


@requires.root
@requires.overlay
@requires.cgroup("memory", "cpu", "pids")
def test_the_python_of_the_readme_does_what_it_says(busybox: Store) -> None:
    text = (ROOT / "README.md").read_text().partition("## In Python\n")[2].partition("\nEvery")[0]
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    names: dict[str, object] = {}

    exec("\n".join(lines), names)

    claims = [line.split("#") for line in lines if re.match(r"result\.\w+ +# (b?\"|\d)", line)]
    assert len(claims) == 3
    for expression, value in claims:
        assert eval(expression, names) == eval(value)


def test_contributing_names_every_script() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    scripts = {
        name
        for name in listed_files()
        if re.fullmatch(r"scripts/[\w-]+", name) and (ROOT / name).exists()
    }

    unnamed = {name for name in scripts if name not in text}

    assert not unnamed
