from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.monitored import Monitored, build

from sandbox.monitor import client


@pytest.fixture(scope="session", autouse=True)
def monitor_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = build(tmp_path_factory.mktemp("monitor"))
    # The sealed copy stays open in this process: no leak of the first test.
    client._sealed_executable(program)
    return program


@pytest.fixture
def monitored(tmp_path: Path, monitor_program: str) -> Iterator[Monitored]:
    made = Monitored(tmp_path, monitor_program)
    yield made
    made.close()
