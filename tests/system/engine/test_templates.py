"""A plan that was compiled before is used again, and is as good as a new one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import requires

import sandbox
from sandbox.engine import templates

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store

pytestmark = [requires.root, requires.overlay, requires.cgroup("memory")]

LOOK = "hostname; tail -1 /etc/hosts; echo $HOSTNAME; cat /proc/self/mountinfo | grep -c ' - '"


def looked(engine: sandbox.Engine) -> tuple[str, list[str]]:
    result = engine.run("busybox", ["sh", "-c", LOOK], memory="64m")
    assert result.ok, result.stderr
    assert {each.limit for each in result.enforcement} >= {"memory", "devices"}
    return result.container_id, result.text.split()


def expected(container_id: str, mounts: str) -> list[str]:
    name = container_id[:12]
    return [name, "127.0.1.1", name, name, mounts]


def test_a_plan_from_memory_and_from_disk_has_its_own_containers_names(busybox: Store) -> None:
    warm = sandbox.Engine()
    first_id, first = looked(warm)
    second_id, second = looked(warm)
    third_id, third = looked(sandbox.Engine())

    assert len({first_id, second_id, third_id}) == 3
    assert first == expected(first_id, first[-1])
    assert second == expected(second_id, first[-1])
    assert third == expected(third_id, first[-1])
    assert len(os.listdir(busybox.root / "cache" / "plans")) == 1


def test_other_options_have_another_plan(busybox: Store) -> None:
    engine = sandbox.Engine()
    looked(engine)

    result = engine.run("busybox", ["id", "-u"], user="nobody", memory="64m")

    assert result.text == "65534\n"


@pytest.mark.parametrize("harm", ["cut", "garbage", "writable by others", "another key"])
def test_a_harmed_plan_is_made_anew(busybox: Store, harm: str) -> None:
    looked(sandbox.Engine())
    folder = busybox.root / "cache" / "plans"
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if harm == "cut":
        path.write_bytes(whole[:-100])
    elif harm == "garbage":
        path.write_bytes(b"\xff" * len(whole))
    elif harm == "writable by others":
        path.chmod(0o666)
    else:
        path.write_bytes(whole.replace(b"hostname", b"hostnane"))

    container_id, found = looked(sandbox.Engine())

    assert found == expected(container_id, found[-1])


def test_the_number_of_plans_is_bounded(busybox: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_ON_DISK", 3)
    monkeypatch.setattr(templates, "MOST_IN_MEMORY", 2)
    engine = sandbox.Engine()

    for number in range(8):
        assert engine.run("busybox", ["echo", str(number)]).text == f"{number}\n"

    assert len(os.listdir(busybox.root / "cache" / "plans")) <= 3


def test_a_debugged_start_is_compiled(busybox: Store) -> None:
    engine = sandbox.Engine()
    looked(engine)
    plans: list[str] = []
    engine.debug = plans.append

    looked(engine)

    assert len(plans) == 1
    assert "exec argv=" in plans[0]


def test_an_older_version_of_the_code_makes_its_own_plan(
    busybox: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = tmp_path / "sandbox" / "engine" / "plan.py"
    for folder in ("sandbox/engine", "sandbox/native", "sandbox/oci", "sandbox/runtime", "cgroups"):
        (tmp_path / folder).mkdir(parents=True)
    code.write_text("now = 2\n")
    (code.parent / "newer.py").write_text("")
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "sandbox/engine/templates.py"))
    paths = sandbox.Engine().paths
    before = templates.context(paths)

    os.utime(code, (1_000_000_000, 1_000_000_000))
    after = templates.context(paths)

    assert before != after
    assert before[:-1] == after[:-1]
